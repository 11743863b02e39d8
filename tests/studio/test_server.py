"""Connections: who keeps the studio waiting is closed, who wants to be answered is let in, and no head is read in two
ways."""

import asyncio
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest

from inkwash.studio import server

LARGE = 50_000_000  # bytes that no buffer on the way takes


class Answers:
    """A server of an application that answers what it was sent; at /large with much in pieces, at /whole with much in
    one, at /later when it is `released`, at /early before it was sent anything."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address = self.listener.getsockname()
        self.url = "http://{}:{}".format(*self.address)
        self.paths, self.released = [], threading.Event()
        self.server = server.make_server(self, grace=1)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        self.paths.append(scope["path"])
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        while scope["path"] == "/later" and not self.released.is_set():
            await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(LARGE // 50_000 if scope["path"] == "/large" else 0):
            await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
        await send(
            {"type": "http.response.body", "body": bytes(LARGE) if scope["path"] == "/whole" else body or b"ok"}
        )

    def connect(self, source="127.0.0.1", **options):
        try:
            return socket.create_connection(self.address, timeout=20, source_address=(source, 0))
        except OSError:
            pytest.skip("this machine has one address alone")

    @property
    def connections(self):
        return len(self.server.server_state.connections)


@pytest.fixture
def answers():
    running = Answers()
    yield running
    running.released.set()
    running.server.should_exit = True
    running.thread.join(20)
    running.listener.close()


def is_closed(connection):
    """Whether the server has closed it by now; what it sent before is read."""
    connection.setblocking(False)
    with suppress(BlockingIOError):
        try:
            while connection.recv(2**20):
                pass
        except ConnectionError:
            pass
        return True
    return False


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def dripping(connection, piece=b"x"):
    """Sends a byte ten times a second, as long as it can."""
    stop = threading.Event()

    def drip():
        with suppress(OSError):
            while not stop.wait(0.1):
                connection.sendall(piece)

    thread = threading.Thread(target=drip)
    thread.start()
    yield
    stop.set()
    thread.join()


HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"], ids=["first", "next"])
def test_who_does_not_send_a_whole_head_in_time_is_closed_though_it_drips(answers, monkeypatch, before):
    monkeypatch.setattr(server, "HEAD_TIMEOUT", 1.0)
    with answers.connect() as slow, answers.connect() as silent:
        slow.sendall(before + HEAD + b"X-Slow: ")
        with dripping(slow):
            until(lambda: is_closed(slow) and is_closed(silent))
    assert httpx.get(answers.url).text == "ok"


def test_who_waits_for_an_answer_is_not_closed(answers, monkeypatch):
    monkeypatch.setattr(server, "HEAD_TIMEOUT", 0.1)
    monkeypatch.setattr(server, "STALL_TIMEOUT", 0.1)
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 10)
    with answers.connect() as patient, ExitStack() as stack:
        patient.sendall(HEAD.replace(b"/", b"/later", 1) + b"\r\n")
        until(lambda: answers.paths == ["/later"])
        for _ in range(50):
            stack.enter_context(answers.connect())
        time.sleep(2.5)  # it is looked after once a second
        answers.released.set()
        assert patient.recv(15) == b"HTTP/1.1 200 OK"


def test_a_thousand_connections_that_do_nothing_keep_nobody_out(answers):
    with ExitStack() as stack:
        idle = [stack.enter_context(answers.connect()) for _ in range(1000)]
        assert httpx.get(answers.url, timeout=5).text == "ok"
        assert answers.connections <= server.MAX_CONNECTIONS
        until(lambda: is_closed(idle[0]))  # the one that waited longest
        assert not is_closed(idle[-1])


def test_the_address_that_has_most_makes_room(answers, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 20)
    with ExitStack() as stack:
        honest = [stack.enter_context(answers.connect()) for _ in range(5)]
        greedy = [stack.enter_context(answers.connect("127.0.0.2")) for _ in range(100)]
        until(lambda: sum(map(is_closed, greedy)) == 85)
        assert not any(map(is_closed, honest)) and not is_closed(greedy[-1])


@pytest.mark.parametrize("drips", [True, False])
def test_a_body_that_stops_coming_is_not_waited_for(answers, monkeypatch, drips):
    monkeypatch.setattr(server, "HEAD_TIMEOUT", 0.5)
    monkeypatch.setattr(server, "STALL_TIMEOUT", 1.0)
    with answers.connect() as sender:
        sender.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n")
        if drips:
            with dripping(sender):
                assert sender.recv(15) == b"HTTP/1.1 200 OK"  # after three seconds
        else:
            until(lambda: is_closed(sender))


def test_a_body_that_nobody_wants_any_more_keeps_no_connection(answers, monkeypatch):
    monkeypatch.setattr(server, "HEAD_TIMEOUT", 1.0)
    with answers.connect() as sender:
        sender.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
        with dripping(sender):
            assert sender.recv(15) == b"HTTP/1.1 200 OK"
            until(lambda: is_closed(sender))


@pytest.mark.parametrize("reads", [True, False])
def test_who_does_not_read_is_closed_and_who_reads_slowly_gets_everything(answers, monkeypatch, reads):
    monkeypatch.setattr(server, "STALL_TIMEOUT", 1.0)
    with answers.connect() as reader:
        reader.sendall(HEAD.replace(b"/", b"/large", 1) + b"Connection: close\r\n\r\n")
        seen = 0
        if not reads:
            until(lambda: answers.paths and answers.connections == 0)
        while piece := received(reader):
            seen += len(piece)
            if reads:
                time.sleep(0.06)
    assert (seen > LARGE) == reads


def received(connection):
    try:
        return connection.recv(2**20)
    except ConnectionError:
        return b""


def test_an_answer_that_nobody_reads_is_not_kept_for_ever_when_it_was_made(answers, monkeypatch):
    """uvicorn closes such a connection, which ends when all was read: never."""
    monkeypatch.setattr(server, "STALL_TIMEOUT", 1.0)
    with answers.connect() as reader:
        reader.sendall(HEAD.replace(b"/", b"/whole", 1) + b"Connection: close\r\n\r\n")
        until(lambda: answers.paths and answers.connections == 0)


AMBIGUOUS = [
    b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"content-length:3\r\nX: y\r\nTRANSFER-ENCODING:chunked",
    b"Content-Length: 3\nTransfer-Encoding: chunked",
    b"Content-Length: 3\r\nContent-Length: 3",
    b"Content-Length: 3\r\nContent-Length: 4",
    b"Content-Length: 3, 3",
    b"Content-Length: +3",
    b"Content-Length : 3",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\n X: y",
    b"X: y\r\n\tz\r\nContent-Length: 3",
]
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"], ids=["first", "next"])
@pytest.mark.parametrize("lines", AMBIGUOUS, ids=repr)
def test_a_head_that_may_be_read_in_two_ways_ends_its_connection(answers, lines, before):
    with answers.connect() as connection:
        connection.sendall(before + b"POST / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n\r\n" + SMUGGLED)
        answer = b"".join(iter(lambda: received(connection), b""))
    assert answer.rpartition(b"HTTP/1.1 ")[2].startswith(b"400 "), answer
    assert answers.paths == (["/"] if before else [])


@pytest.mark.parametrize("lines", [b"Content-Length: 3\r\nX: Content-Length: 4, 5", b"X:\r\nContent-Length:\t3"])
def test_a_head_that_may_be_read_in_one_way_is_read(answers, lines):
    with answers.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + b"\r\n\r\nabc")
        answer = b"".join(iter(lambda: received(connection), b""))
    assert answer.startswith(b"HTTP/1.1 200 ") and b"abc" in answer


def test_as_many_files_are_asked_for_as_the_system_gives_and_connections_stay_below(monkeypatch):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        assert server.max_connections() == 256
        server.raise_file_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1] and soft == (server.MOST_FILES if hard < 0 else min(server.MOST_FILES, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
