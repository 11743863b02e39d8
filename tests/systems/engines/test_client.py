"""What goes wrong with an engine: one clear line for each, another try where that may help, an end at once when the
picture is not wanted any more, and only the operator's address is ever asked."""

import itertools
import socket
import struct
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from inkwash.errors import UserError
from inkwash.systems.engines import client
from inkwash.systems.engines.addresses import Address
from inkwash.systems.engines.client import MAX_MESSAGE, retry_after
from inkwash.systems.engines.model import Engine
from tests.systems.engines.server import MODEL, Answer, Server, as_json, data, draw

SIZE = {"width": 32, "height": 16, "seed": 7}


def fails(engine, match=""):
    """The line of the error."""
    with pytest.raises(UserError, match=match) as error:
        engine.generate("a fox", **SIZE)
    line = str(error.value)
    assert line.startswith("the engine qwen ") and line.isprintable() and "secret" not in line
    return line


def error(message):
    return {"error": {"message": message, "type": "invalid_request_error", "code": "moderation_blocked"}}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (as_json(error("Incorrect API key: sk-secret"), 401), r"does not take the studio's key \(401\)"),
        (as_json({"detail": "no sk-secret"}, 403), r"does not take the studio's key \(403\)"),
        (as_json(error("no such model"), 404), "knows no model Qwen/Qwen-Image, or does not do this: no such model"),
        (as_json(error("against the policy"), 400), r"refuses this \(400\): against the policy$"),
        (as_json({"detail": "Invalid size"}, 400), r"refuses this \(400\): Invalid size$"),
        (as_json({"detail": [{"loc": ["body"], "msg": "too long"}, {}]}, 422), r"refuses this \(422\): too long$"),
        (as_json({"error": "plain"}, 400), r"refuses this \(400\): plain$"),
        (as_json({"message": "bare"}, 400), r"refuses this \(400\): bare$"),
        (as_json({"detail": "out of memory"}, 500), r"failed \(500\): out of memory$"),
        (Answer(500, b"<html>a page</html>"), r"failed \(500\)$"),
        (Answer(400, b"[" * 100_000), r"refuses this \(400\)$"),
        (as_json([1, 2], 400), r"refuses this \(400\)$"),
        (as_json({"detail": "leaks sk-secret, twice sk-secret"}, 400), r"leaks \*\*\*, twice \*\*\*$"),
        (as_json({"detail": "a\n\x1b[31m\u202eb"}, 400), r": a \[31mb$"),
        (as_json({"detail": "x" * 10_000}, 400), rf": x{{{MAX_MESSAGE}}}$"),
        (Answer(200, b""), "no picture in base64"),
        (Answer(200, b"nonsense"), "no picture in base64"),
        (Answer(204, b""), r"failed \(204\)$"),
    ],
)
def test_a_failure_is_one_line_and_the_engine_is_not_asked_again(images, engine, answer, line):
    images.answer = lambda asked: answer
    fails(engine, line)
    assert len(images.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(images, engine, status):
    there = {"location": f"{images.url}/elsewhere"}
    images.answer = lambda asked: Answer(status, b"", there)
    fails(engine, f"sends elsewhere \\({status}\\)")
    assert [asked.path for asked in images.asked] == ["/v1/images/generations"]


def test_no_proxy_of_the_environment_is_asked(images, engine, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert engine.generate("a fox", **SIZE).size == (32, 16)


def test_a_url_in_an_answer_is_not_fetched(images, engine):
    images.answer = lambda asked: as_json({"data": [{"url": f"{images.url}/secret.png"}]})
    fails(engine, "no picture in base64")
    assert len(images.asked) == 1


@pytest.mark.parametrize("status", client.BUSY)
def test_one_that_is_busy_is_asked_again(images, engine, status):
    answers = itertools.chain([Answer(status)] * 2, itertools.repeat(None))
    images.answer = lambda asked: next(answers) or draw(asked)
    said = []
    assert engine.generate("a fox", **SIZE, beat=said.append).size == (32, 16)
    assert len(images.asked) == 3 and f"is busy ({status})" in said


def test_patience_ends(images, engine, monkeypatch):
    images.answer = lambda asked: as_json(error("slow down"), 429, retry_after="3600")
    fails(engine, r"is busy \(429\): try again later")
    assert len(images.asked) == 1  # an hour is too long
    monkeypatch.setattr(client, "PATIENCE", 0.05)
    images.answer = lambda asked: Answer(503)
    fails(engine, r"is busy \(503\): try again later")
    assert len(images.asked) > 1


def test_as_long_as_an_engine_asks_for_is_waited(images, engine, monkeypatch):
    waits, sleep = [], client.asyncio.sleep
    monkeypatch.setattr(client.asyncio, "sleep", lambda seconds: waits.append(seconds) or sleep(0))
    answers = itertools.chain([as_json({}, 429, retry_after="7")], itertools.repeat(None))
    images.answer = lambda asked: next(answers) or draw(asked)
    engine.generate("a fox", **SIZE)
    assert 7.0 in waits


def test_retry_after_is_a_number_or_a_date():
    assert [retry_after(text) for text in ("7", " 0 ", "", "soon", "-5", "1e9", "9" * 20)] == [7, 0, 0, 0, 0, 0, 0]
    later = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert 50 < later <= 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == retry_after("Wed, 21 Oct 2015 07:28:00") == 0


def test_one_that_is_not_there_is_waited_for(images, monkeypatch):
    said = []
    with Server(listening=False) as late:
        engine = Engine("qwen", Address(late.url, MODEL))

        def beat(text):
            if text and not any(said):  # it comes while it is waited for
                late.server_activate()
                threading.Thread(target=late.serve_forever, args=(0.02,), daemon=True).start()
            said.append(text)

        assert engine.generate("a fox", **SIZE, beat=beat).size == (32, 16)
        late.shutdown()
    assert "is not there" in said


def test_one_that_stays_away_is_given_up(images, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.05)
    with Server(listening=False) as absent:
        engine = Engine("qwen", Address(absent.url, MODEL))
        fails(engine, "is not there: try again later, or tell whoever runs the studio")


def test_one_that_breaks_off_is_asked_again(images, engine):
    def cut(handler):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    whole = data("x")
    half = whole._replace(body=whole.body[:20], length=len(whole.body))
    answers = itertools.chain([cut, half], itertools.repeat(None))
    images.answer = lambda asked: next(answers) or draw(asked)
    said = []
    engine.generate("a fox", **SIZE, beat=said.append)
    assert len(images.asked) == 3 and "broke off its answer" in said


def test_what_is_no_http_is_an_answer_that_breaks_off(images, engine, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.0)
    images.answer = lambda asked: lambda handler: handler.wfile.write(b"\x00garbage\r\n\r\n")
    fails(engine, "broke off its answer")


def endless(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        handler.wfile.write(b" " * 100_000)


def test_an_answer_without_end_is_broken_off(images, engine, monkeypatch):
    monkeypatch.setattr(client, "MAX_ANSWER", 1_000_000)
    images.answer = lambda asked: endless
    fails(engine, "answered with more than 1 MB")


def test_a_compressed_answer_is_not_unpacked(images, engine):
    images.answer = lambda asked: Answer(200, b"\x1f\x8b" + bytes(100), {"content-encoding": "gzip"})
    fails(engine, "no picture in base64")
    assert images.asked[0].headers["accept-encoding"] == "identity"


@pytest.fixture
def silent(images):
    """The server answers nothing until it is told that who asked has gone, which it sees by itself."""
    gone, begun = threading.Event(), threading.Event()

    def wait(handler):
        begun.set()
        handler.connection.settimeout(20)
        if not handler.connection.recv(1):
            gone.set()

    images.answer = lambda asked: wait
    return begun, gone


def test_one_that_does_not_answer_is_not_waited_for_without_end(images, engine, silent, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", 0.2)
    fails(engine, "has not answered for 0 minutes")


def test_a_picture_that_is_not_wanted_any_more_ends_at_once(images, engine, silent):
    class Cancelled(Exception):
        pass

    def beat(text):
        if silent[0].is_set():
            raise Cancelled

    with pytest.raises(Cancelled):
        engine.generate("a fox", **SIZE, beat=beat)
    assert silent[1].wait(20)  # the engine sees it, and may stop drawing


def test_what_waits_for_an_engine_ends_at_once_too(images, engine):
    images.answer = lambda asked: as_json({}, 429, retry_after="100")

    def beat(text):
        if text:
            raise KeyError(text)

    with pytest.raises(KeyError):
        engine.generate("a fox", **SIZE, beat=beat)


def test_the_key_goes_to_the_engine_alone(images, engine):
    engine.generate("a fox", **SIZE)
    assert images.asked[0].headers["authorization"] == "Bearer sk-secret"
    engine.key = ""
    engine.generate("a fox", **SIZE)
    assert "authorization" not in images.asked[1].headers
