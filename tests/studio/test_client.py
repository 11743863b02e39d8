"""The Python client: what it draws is what the model draws, and no restart, lost answer or busy studio is noticed."""

import asyncio
import itertools
import json
import runpy
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

import inkwash
from inkwash.codecs.png import KEY, read_recipe
from inkwash.errors import UserError
from inkwash.studio.client import StudioError
from inkwash.systems.language.vocabulary import tokenize
from tests.studio.conftest import Running

FOX = {"prompt": "a red fox", "style": "flat", "seed": 7, "steps": 5}
LONG = {"prompt": "a red fox", "n": 10, "steps": 200}  # a minute or more, unless it is cancelled
users = (f"client {number}" for number in itertools.count())


@pytest.fixture(scope="module")
def emoji():
    return inkwash.load("emoji")


@pytest.fixture
def key(studio):
    """Of a user who has nothing yet."""
    return studio.key(next(users))


@pytest.fixture
def client(studio, key):
    with inkwash.Studio(studio.url, key) as client:
        yield client


@pytest.fixture
def mortal(tmp_path):
    """A studio that may be killed, and starts again at the same port."""
    running = Running(tmp_path / "home", "--port", str(free_port()))
    yield running
    running.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


def mocked(answer, **options) -> inkwash.Studio:
    """A client whose requests are answered by a function."""
    return inkwash.Studio("http://studio", "ink-key", transport=httpx.MockTransport(answer), **options)


def start(client, prompt="a fox", **options):
    return client.start("pictures", "generate", prompt=prompt, **options)


def facts_of_job(**changes) -> dict:
    facts = {"id": "x", "system": "pictures", "verb": "generate", "model": "emoji", "request": {"n": 1}, "notes": []}
    facts |= {"status": "done", "error": None, "created": 1.0, "changed": 2.0, "version": 1, "queue_position": 0}
    facts |= {"plan": None}
    return {**facts, "progress": None, "results": [], **changes}


class Lossy:
    """Of a transport: the studio gets the first request of each kind, but its answer is lost."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method, self.seen = method, []

    def lost(self, request: httpx.Request) -> bool:
        if request.method != self.method:
            return False
        self.seen.append(request)
        return sum(request.url.path == other.url.path for other in self.seen) == 1


class LossyTransport(Lossy, httpx.HTTPTransport):
    def handle_request(self, request):
        answer = super().handle_request(request)
        if self.lost(request):
            answer.read()
            raise httpx.ReadError("lost")
        return answer


class AsyncLossyTransport(Lossy, httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request):
        answer = await super().handle_async_request(request)
        if self.lost(request):
            await answer.aread()
            raise httpx.ReadError("lost")
        return answer


class Streams(httpx.HTTPTransport):
    """Changes what comes of streams of events, and counts those opened and those open."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change, self.count, self.open = change, 0, 0

    def handle_request(self, request):
        answer = super().handle_request(request)
        if request.url.path.endswith("/events"):
            self.count, self.open = self.count + 1, self.open + 1
            answer.stream = Changed(answer.stream, self)
        return answer


class Changed(httpx.SyncByteStream):
    def __init__(self, stream, transport) -> None:
        self.stream, self.transport = stream, transport

    def __iter__(self):
        yield from self.transport.change(self.stream)

    def close(self):
        self.transport.open -= 1
        self.stream.close()


# drawing


def test_a_picture_is_that_of_the_model_with_its_recipe(client, emoji):
    drawn, own = client.generate(**FOX), emoji.generate(**FOX)
    assert same(drawn, own)
    assert drawn.info[KEY] == own.info[KEY]


def test_several_have_the_seeds_that_follow(client, emoji):
    drawn = client.generate(**FOX, n=2)
    assert len(drawn) == 2
    assert all(same(one, own) for one, own in zip(drawn, emoji.generate(**FOX, n=2), strict=True))
    assert len(client.generate(**FOX, n=1)) == 1


def test_options_mean_what_they_mean_to_the_model(client, emoji):
    options = {"size": 96, "transparent": True, "guidance": 2.0, "sampler": "heun", "negative": "blue"}
    drawn = client.generate(**FOX, **options)
    assert drawn.mode == "RGBA"
    assert drawn.size == (96, 96)
    assert same(drawn, emoji.generate(**FOX, **options))


@pytest.mark.parametrize("kind", ["picture", "path", "file"])
def test_an_image_and_a_mask_go_in(client, emoji, tmp_path, kind):
    image, mask = emoji.generate(**FOX, transparent=True), Image.new("L", (64, 64), 0)
    ImageDraw.Draw(mask).rectangle((32, 0, 63, 63), fill=255)
    own = emoji.generate("a blue cat", seed=3, steps=5, image=image, mask=mask)
    image.save(tmp_path / "image.png")
    mask.save(tmp_path / "mask.png")
    with open(tmp_path / "image.png", "rb") as image_file, open(tmp_path / "mask.png", "rb") as mask_file:
        sources = {
            "picture": {"image": image, "mask": mask},
            "path": {"image": tmp_path / "image.png", "mask": str(tmp_path / "mask.png")},
            "file": {"image": image_file, "mask": mask_file},
        }
        drawn = client.generate("a blue cat", seed=3, steps=5, **sources[kind])
    assert same(drawn, own)
    assert not same(drawn, emoji.generate(**FOX))


def test_a_large_picture_of_16_bits_goes_in(client, emoji):
    grey = np.linspace(0, 65535, 2000 * 2000).reshape(2000, 2000).astype(np.uint16)
    drawn = client.generate(**FOX, image=Image.fromarray(grey), strength=0.0)
    light = np.asarray(drawn.convert("L"), float).mean(1)
    assert light[:8].mean() < 60 < 100 < light[28:36].mean() < 155 < 200 < light[-8:].mean()


def test_a_picture_larger_than_a_studio_takes_goes_in(client):
    noise = Image.frombytes("RGB", (3000, 2400), np.random.default_rng(0).bytes(3000 * 2400 * 3))  # 21 MB as a PNG
    assert client.generate(**FOX, image=noise).size == (64, 64)


def test_progress_and_previews_are_shown_on_the_way(client):
    steps, previews = [], []
    ask = {**FOX, "steps": 60, "n": 2}
    client.generate(**ask, progress=lambda *at: steps.append(at), preview=previews.append, previews=2)
    assert steps == sorted(steps)
    assert len(set(steps)) > 3
    assert steps[-1] == (120, 120)
    assert {total for _, total in steps} == {120}
    assert 1 <= len(previews) <= 4
    assert all(preview.size == (64, 64) and preview.getextrema() for preview in previews)


def test_a_job_is_followed_to_its_pictures(client):
    job = start(client, **{**FOX, "steps": 60}, n=2)
    assert job.status in ("queued", "running")
    states = list(client.follow(job))
    assert {(now.progress.place, now.progress.total) for now in states if now.progress} >= {(0, 60), (1, 60)}
    assert len({now.progress.done for now in states if now.progress}) > 3
    assert all(now != after for now, after in itertools.pairwise(states))
    assert [now.ended for now in states] == [False] * (len(states) - 1) + [True]
    assert [picture.place for picture in states[-1].results] == [0, 1]
    assert [picture.recipe["seed"] for picture in states[-1].results] == [7, 8]
    assert states[-1] == client.job(job.id)
    assert list(client.follow(job.id)) == states[-1:]


def test_following_may_be_left(studio, key):
    transport = Streams(iter)
    with inkwash.Studio(studio.url, key, transport=transport) as client:
        job = start(client, **LONG)
        for opened in range(25):  # a studio lets each user have 20 streams at once
            for now in client.follow(job):
                assert not now.ended
                break
            assert (transport.count, transport.open) == (opened + 1, 0)
        assert client.cancel(job).status == "cancelled"


def test_waiting_has_an_end_and_so_has_the_job(client):
    job = start(client, **LONG)
    with pytest.raises(TimeoutError, match="it goes on"):
        client.wait(job, timeout=0.3)
    assert not client.job(job).ended
    assert client.cancel(job).status == "cancelled"
    assert client.wait(job, timeout=30).status == "cancelled"
    client.delete_job(job)
    assert list(client.jobs()) == []
    quick = start(client, **FOX)
    with pytest.raises(StudioError, match="cancel it first"):
        client.delete_job(quick)
    assert client.wait(quick.id, timeout=60).results[0].job == quick.id


def test_generate_says_why_there_is_no_picture(client):
    with ThreadPoolExecutor() as pool:
        drawing = pool.submit(client.generate, **LONG)
        while not (jobs := list(client.jobs("queued", "running"))):
            assert not drawing.done()
        client.cancel(jobs[0])
        with pytest.raises(StudioError, match="cancelled") as error:
            drawing.result(60)
    assert (error.value.status, error.value.code) == (None, "cancelled")
    black = Image.new("L", (64, 64), 0)
    with pytest.raises(StudioError, match="the mask is black everywhere") as error:
        client.generate("a cat", image=black, mask=black)
    assert error.value.code == "failed"
    with pytest.raises(StudioError, match="deleted before it was fetched"):
        mocked(lambda request: httpx.Response(200, json=facts_of_job())).generate("a cat")


# what is there


def test_models(client, emoji):
    models = {model.name: model for model in client.models()}
    limits = models["emoji"].limits["generate"]
    assert limits["style"].choices == tuple(emoji.config.styles)
    assert limits["size"].default == 64 and not models["emoji"].owned and models["e2e"].system == "language"


def test_all_pages_are_gone_through(client):
    fox, cat = start(client, **FOX, n=3), start(client, "a blue cat", n=2, steps=5)
    for job in (fox, cat):
        assert client.wait(job).status == "done"
    newest_first = [(cat.id, 1), (cat.id, 0), (fox.id, 2), (fox.id, 1), (fox.id, 0)]
    for page in (1, 2, 5, 50):
        assert [(picture.job, picture.place) for picture in client.results(page=page)] == newest_first
        assert [job.id for job in client.jobs(page=page)] == [cat.id, fox.id]
    assert {picture.job for picture in client.results(words="fox red", page=1)} == {fox.id}
    assert list(client.results(words="dog")) == []
    assert list(client.jobs("failed")) == []
    assert [job.id for job in client.jobs("failed", "done")] == [cat.id, fox.id]


def test_all_pictures_may_be_deleted_while_going_through_them(client):
    client.wait(start(client, **FOX, n=5))
    for picture in client.results(page=2):
        client.delete(picture)
    assert list(client.results()) == []
    with pytest.raises(StudioError, match="no such result") as error:
        client.delete(picture)
    assert error.value.status == 404


def test_a_download_has_its_recipe(client, emoji, tmp_path):
    (picture,) = client.wait(start(client, **FOX)).results
    (path,) = client.download(picture, str(tmp_path / "new"))
    assert path == tmp_path / "new" / "a-red-fox-flat-7.png"
    assert picture.save(tmp_path / "new") == [tmp_path / "new" / "a-red-fox-flat-7-2.png"]
    assert read_recipe(path) == emoji.generate(**FOX).info[KEY] == picture.recipe
    with Image.open(path) as file:
        assert same(file, client.open(picture.id))
    picture.image().save(tmp_path / "saved.png")
    assert read_recipe(tmp_path / "saved.png") == picture.recipe
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        client.download(picture, tmp_path / "file")


def test_a_share_opens_without_a_key(client, tmp_path):
    (picture,) = client.wait(start(client, **FOX)).results
    addresses = [client.share(picture), client.share(picture, recipe=True)]
    assert httpx.get(addresses[0]).status_code == 404  # the second took its place
    (tmp_path / "shared.png").write_bytes(httpx.get(addresses[1]).raise_for_status().content)
    assert read_recipe(tmp_path / "shared.png") == picture.recipe
    (tmp_path / "shared.png").write_bytes(httpx.get(client.share(picture)).raise_for_status().content)
    with Image.open(tmp_path / "shared.png") as file:
        assert KEY not in file.info
    address = client.share(picture)
    client.unshare(picture)
    assert httpx.get(address).status_code == 404


# who, and where


def test_what_is_anothers_is_not_there(studio, client):
    job = client.wait(start(client, **FOX))
    with inkwash.Studio(studio.url, studio.key(next(users))) as other:
        for ask in (other.job, other.wait, other.cancel, lambda job: next(other.follow(job))):
            with pytest.raises(StudioError, match="no such job") as error:
                ask(job)
            assert (error.value.status, error.value.code) == (404, "not_found")
        with pytest.raises(StudioError, match="no such result"):
            other.open(job.results[0])
        assert list(other.jobs()) == list(other.results()) == []


def test_a_wrong_key_is_refused(studio):
    with inkwash.Studio(studio.url, "ink-wrong") as client, pytest.raises(StudioError, match="send a key") as error:
        client.models()
    assert (error.value.status, error.value.code) == (401, "not_logged_in")


def test_on_this_machine_address_and_key_are_known(studio, key, monkeypatch):
    monkeypatch.delenv("INKWASH_KEY", raising=False)
    monkeypatch.setenv("INKWASH_HOME", str(studio.home))
    for url in (None, studio.url, f"{studio.url}/"):
        with inkwash.Studio(url) as client:
            assert client.url == studio.url
            assert client.models()
    elsewhere = studio.url.replace("127.0.0.1", "localhost")
    with inkwash.Studio(elsewhere) as client, pytest.raises(StudioError) as error:
        client.models()  # the key of this machine's studio is for no other address
    assert error.value.status == 401
    monkeypatch.setenv("INKWASH_KEY", f"{key}\n")
    with inkwash.Studio(elsewhere) as client:
        assert list(client.jobs()) == []  # the user of `key`, who has none
    monkeypatch.setenv("INKWASH_HOME", str(studio.home / "nowhere"))
    with pytest.raises(UserError, match="`inkwash studio`"):
        inkwash.Studio()


@pytest.mark.parametrize(
    ("url", "key"), [("host:7860", None), ("ftp://host", None), ("http://[::1", None), ("http://h", "ink-é")]
)
def test_what_is_no_address_and_no_key_is_said_at_once(url, key):
    for kind in (inkwash.Studio, inkwash.AsyncStudio):
        with pytest.raises(UserError, match=r"address|key"):
            kind(url, key)


def test_a_studio_that_is_not_there_is_not_waited_for():
    url, begun = f"http://127.0.0.1:{free_port()}", time.monotonic()
    with inkwash.Studio(url, "ink-key") as client, pytest.raises(StudioError) as error:
        client.generate("a red fox")
    assert time.monotonic() - begun < 5
    assert url in str(error.value)
    assert "`inkwash studio`" in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.code == "unreachable"


@pytest.mark.parametrize("status", [200, 301, 404, 500])
def test_what_is_no_studio_is_called_so(status):
    client = mocked(lambda request: httpx.Response(status, text="<h1>Welcome</h1>"))
    for ask in (client.models, lambda: start(client, "x"), lambda: client.open("x"), lambda: list(client.jobs())):
        with pytest.raises(StudioError, match=r"http://studio .*check the address") as error:
            ask()
        assert error.value.code == "no_studio"


def test_what_cannot_be_asked_for_is_said_in_the_studios_words(client, tmp_path):
    for options, status, words in (
        ({"prompt": ""}, 422, "prompt is empty"),
        ({"style": "flatt"}, 422, "did you mean flat"),
        ({"model": "none"}, 404, "unknown model"),
        ({"n": 0}, 422, "n: "),
        ({"sede": 7}, 422, "unknown parameter 'sede'"),
    ):
        with pytest.raises(StudioError, match=words) as error:
            client.generate(**{**FOX, **options})
        assert error.value.status == status
    with pytest.raises(UserError, match="no such file"):
        client.generate(**FOX, image=tmp_path / "none.png")


@pytest.mark.parametrize(
    "options",
    [
        {"guidance": float("nan")},
        {"prompt": b"a fox"},
        {"prompt": "\ud800"},
        {"prompt": "x", "on_progress": print},
    ],
)
def test_what_json_cannot_hold_is_named(options):
    client, (*_, name) = mocked(lambda request: httpx.Response(500)), options
    with pytest.raises(UserError, match=f"^{name} = .* is needed$"):
        client.generate(**{"prompt": "x", **options})


def test_what_cannot_be_sent_is_said_in_one_line():
    client = mocked(lambda request: httpx.Response(404, json={"error": {"message": "none", "code": "not_found"}}))
    for ask in (
        lambda: list(client.results("\ud800")),
        lambda: client.job("\ud800"),
        lambda: client.delete_model("\ud800"),
    ):
        with pytest.raises(UserError, match=r"^(it cannot be sent|none)"):
            ask()


def test_a_path_may_stand_for_a_model():
    asked = []
    client = mocked(lambda request: asked.append(json.loads(request.content)) or httpx.Response(422, json={}))
    with pytest.raises(StudioError):
        client.generate("x", model=Path("my/model"))
    assert asked[0]["model"] == str(Path("my/model"))


def test_a_newer_studio_may_say_more():
    progress = {"place": 0, "done": 1, "total": 2, "text": "", "seconds_left": 0.5, "preview": None, "more": 1}
    facts = facts_of_job(status="running", progress=progress, more={"new": 1})
    job = mocked(lambda request: httpx.Response(200, json=facts)).job("x")
    assert (job.status, job.progress.done, job.ended) == ("running", 1, False)


def test_an_id_is_never_a_path():
    asked = []

    def answer(request):
        asked.append(request.url.raw_path)
        return httpx.Response(200, json=facts_of_job())

    mocked(answer).cancel("../a?b#c")
    assert asked == [b"/api/jobs/..%2Fa%3Fb%23c/cancel"]


# what goes wrong on the way


@pytest.mark.parametrize("status", [429, 502, 503, 504, 507])
def test_a_busy_studio_is_asked_again_when_it_says(status, monkeypatch):
    pauses, headers = [], {"retry-after": "3"} if status == 429 else {}
    answers = iter([httpx.Response(status, headers=headers), httpx.ReadTimeout(""), httpx.Response(200, json=[])])

    def answer(request):
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("inkwash.studio.client.time.sleep", pauses.append)
    assert mocked(answer).models() == []
    assert pauses == [3 if status == 429 else 0.1, 0.2]


@pytest.mark.parametrize("status", [400, 403, 404, 422, 500])
def test_a_refusal_is_not_asked_again(status):
    asked = []

    def answer(request):
        asked.append(request)
        return httpx.Response(status, json={"error": {"message": "no", "code": "some_code", "more": 1}})

    with pytest.raises(StudioError, match=r"^no$") as error:
        mocked(answer).delete("x")
    assert (error.value.status, error.value.code, len(asked)) == (status, "some_code", 1)


def test_a_wait_that_is_too_long_is_not_begun():
    asked = []

    def answer(request):
        asked.append(request)
        error = {"message": "no more pictures today", "code": "quota"}
        return httpx.Response(429, headers={"retry-after": "40000"}, json={"error": error})

    with pytest.raises(StudioError, match="no more pictures today") as error:
        mocked(answer).generate("a red fox")
    assert (error.value.status, len(asked)) == (429, 1)


def test_a_studio_that_stays_away_is_given_up_in_time():
    asked = []

    def answer(request):
        asked.append(request)
        if len(asked) > 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=[])

    client, begun = mocked(answer, timeout=0.5), time.monotonic()
    assert client.models() == []
    with pytest.raises(StudioError, match="no studio answers at http://studio") as error:
        client.models()
    assert error.value.code == "unreachable"
    assert len(asked) >= 4
    assert 0.2 < time.monotonic() - begun < 5


def test_a_submit_whose_answer_was_lost_makes_one_job(studio, key):
    transport = LossyTransport("POST")
    with inkwash.Studio(studio.url, key, transport=transport) as client:
        job = start(client, **FOX)
        assert [one.id for one in client.jobs()] == [job.id]
        start(client, **FOX)
        assert len(list(client.jobs())) == 2  # another submit is another job
    first, again, other = (request.headers["idempotency-key"] for request in transport.seen)
    assert first == again != other


def test_a_submit_whose_answer_was_lost_makes_one_job_when_awaited(studio, key):
    async def ask():
        transport = AsyncLossyTransport("POST")
        async with inkwash.AsyncStudio(studio.url, key, transport=transport) as client:
            job = await start(client, **FOX)
            assert len(transport.seen) == 2
            assert [one.id async for one in client.jobs()] == [job.id]

    asyncio.run(ask())


def test_a_delete_whose_answer_was_lost_is_done(studio, key, client):
    (picture,) = client.wait(start(client, **FOX)).results
    transport = LossyTransport("DELETE")
    with inkwash.Studio(studio.url, key, transport=transport) as lossy:
        lossy.delete(picture)
    assert len(transport.seen) == 2
    assert list(client.results()) == []


def test_a_stream_that_is_cut_off_is_opened_again(studio, key):
    def cut(stream):
        yield next(iter(stream))
        raise httpx.ReadError("cut off")

    transport = Streams(cut)
    with inkwash.Studio(studio.url, key, transport=transport) as client:
        states = list(client.follow(start(client, **{**FOX, "steps": 60})))
    assert transport.count > 2
    assert any(now.progress for now in states)
    assert all(now != after for now, after in itertools.pairwise(states))
    assert states[-1].status == "done"


def test_of_a_stream_that_is_opened_again_nothing_is_shown_twice():
    first, then = facts_of_job(status="queued"), facts_of_job(status="running")
    streams = iter([[first, first], [first, then], [then, facts_of_job()]])

    def answer(request):
        events = [f"event: job\ndata: {json.dumps(facts)}\n\n" for facts in next(streams)]
        return httpx.Response(200, text=": a comment\n\nevent: other\ndata: x\n\n" + "".join(events))

    assert [now.status for now in mocked(answer).follow("x")] == ["queued", "running", "done"]


def test_a_stream_may_come_in_any_pieces(studio, key):
    prompt = "a fox\u2028of 雪,\x85in two lines\n\nor three"
    transport = Streams(lambda stream: (bytes([byte]) for piece in stream for byte in piece))
    with inkwash.Studio(studio.url, key, transport=transport) as client:
        states = list(client.follow(start(client, prompt, steps=20)))
    assert transport.count == 1
    assert {now.request["prompt"] for now in states} == {prompt}
    assert states[-1].status == "done"


@pytest.mark.slow
def test_a_restart_is_not_noticed(mortal, emoji):
    ask = {**FOX, "steps": 80, "n": 3}
    key, seen, drawing = mortal.key(), [], threading.Event()

    def follow(client, job):
        for now in client.follow(job):
            seen.append(now)
            if now.progress:
                drawing.set()
        return now

    async def generate():
        async with inkwash.AsyncStudio(mortal.url, key) as client:
            return await client.generate(**ask)

    with ThreadPoolExecutor() as pool, inkwash.Studio(mortal.url, key) as client:
        job = start(client, **ask)
        followed, waited = pool.submit(follow, client, job), pool.submit(client.wait, job)
        generated = [pool.submit(client.generate, **ask), pool.submit(lambda: asyncio.run(generate()))]
        assert drawing.wait(60)
        while len(list(client.jobs())) < 3:
            assert not any(future.done() for future in generated)
        with mortal.process:
            mortal.process.kill()
        assert mortal.store.job(job.id).status == "running"  # in the midst of it
        mortal.start()
        ended = followed.result(120)
        assert waited.result(120) == ended == seen[-1]
        results = [future.result(120) for future in generated]
    assert ended.status == "done"
    assert [picture.recipe["seed"] for picture in ended.results] == [7, 8, 9]
    own = emoji.generate(**ask)
    for pictures in results:
        assert all(same(one, other) for one, other in zip(pictures, own, strict=True))
    assert len(mortal.store.jobs(mortal.store.job(job.id).user_id)) == 3


# the twin


def test_awaited_pictures_are_drawn_side_by_side(studio, key, emoji):
    asks = [{**FOX, "seed": seed, "steps": 40} for seed in range(4)]

    async def draw():
        async with inkwash.AsyncStudio(studio.url, key) as client:
            pictures = await asyncio.gather(*(client.generate(**ask) for ask in asks))
            return pictures, [job async for job in client.jobs()]

    pictures, jobs = asyncio.run(draw())
    assert all(same(picture, emoji.generate(**ask)) for picture, ask in zip(pictures, asks, strict=True))
    assert len(jobs) == 4
    assert max(job.created for job in jobs) < min(
        job.changed for job in jobs
    )  # all were asked for before one was done


def test_all_can_be_awaited(studio, key, tmp_path):
    steps = []

    async def ask():
        async with inkwash.AsyncStudio(studio.url, key) as client:
            await client.generate(**{**FOX, "steps": 60}, progress=lambda *at: steps.append(at))
            job = await start(client, **FOX)
            states = [now async for now in client.follow(job)]
            assert states[-1] == await client.wait(job) == await client.cancel(job) == await client.job(job)
            assert (await anext(client.results("fox", page=1))).job == job.id
            (picture,) = states[-1].results
            assert same(await client.open(picture), Image.open((await client.download(picture, tmp_path))[0]))
            address = await client.share(picture)
            await client.unshare(picture)
            assert httpx.get(address).status_code == 404
            await client.delete(picture)
            assert (await client.job(job)).results == ()
            assert [model.name for model in await client.models()]
            endless = await start(client, **LONG)
            with pytest.raises(TimeoutError):
                await client.wait(endless, timeout=0.2)
            assert (await client.cancel(endless)).status == "cancelled"

    asyncio.run(ask())
    assert steps[-1] == (60, 60)


def test_without_await_it_works_within_an_event_loop(client):
    async def in_a_notebook():
        job = start(client, **FOX)
        next(client.follow(job))
        return client.wait(job)

    assert asyncio.run(in_a_notebook()).status == "done"


def test_both_have_the_same_verbs():
    verbs = {name for name in vars(inkwash.Studio) if not name.startswith("_")}
    awaited = {name for name in vars(inkwash.AsyncStudio) if not name.startswith("_")}
    assert verbs - {"close"} == awaited - {"aclose"}
    assert all(getattr(inkwash.Studio, name).__doc__ for name in verbs)


# what is imported


def run(program: str) -> dict:
    """What a new Python prints as JSON."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_client_is_loaded_when_it_is_asked_for():
    before, after = run(
        "import inkwash, sys, json; before = sorted(sys.modules); from inkwash import Studio, AsyncStudio;"
        "print(json.dumps([before, sorted(sys.modules)]))"
    )
    assert not {"httpx", "torch", "numpy", "PIL", "inkwash.studio"} & set(before)
    assert "httpx" in after
    assert not {"torch", "fastapi", "sqlalchemy"} & set(after)
    with pytest.raises(AttributeError, match="no attribute 'Studoi'"):
        inkwash.Studoi  # noqa: B018


def test_without_httpx_it_says_what_to_install():
    program = (
        "import sys, json; sys.modules['httpx'] = None; import inkwash\n"
        "try: inkwash.Studio\n"
        "except inkwash.errors.UserError as error: print(json.dumps(str(error)))"
    )
    assert "pip install 'inkwash[studio]'" in run(program)


def test_the_example_asks_the_studio_of_this_machine(studio, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INKWASH_HOME", str(studio.home))
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "studio.py"))
    models, *states = capsys.readouterr().out.splitlines()
    assert "emoji" in models and states[-3] == "done"
    assert [len(tokenize(sentence)) for sentence in states[-2:]] == [12, 12]
    assert read_recipe(tmp_path / "fox.png")["seed"] == 7
