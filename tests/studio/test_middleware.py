"""What stands before every route: bodies that cost too much, HEAD, pages of other sites, and a proxy's path."""

import json
import math
import shutil
import socket
import threading
import time
from contextlib import closing, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

import inkwash
from inkwash.errors import UserError
from inkwash.studio import accounts, middleware
from inkwash.studio.app import create
from inkwash.studio.engine import Settings
from inkwash.studio.requests import MAX_ITEMS
from tests.studio.conftest import Quick, Running, fox

JSON = {"content-type": "application/json"}
ORIGIN, ROOT = "https://app.example.org", "/inkwash"


# bodies


def unknown(size):
    """A body of so many bytes, all of it short fields that no request has."""
    count = size // 10
    return ("{" + ",".join(f'"{place:06x}":0' for place in range(count)) + "}").encode()


class Heartbeat:
    """The most processor time that the studio's event loop spent on one thing; a busy machine adds nothing to it."""

    def __init__(self, quick):
        self.loop, self.longest, self.last = quick.server.servers[0].get_loop(), 0.0, math.inf
        self.loop.call_soon_threadsafe(self.beat)

    def beat(self):
        now = time.thread_time()
        self.longest, self.last = max(self.longest, now - self.last), now
        self.timer = self.loop.call_later(0.01, self.beat)

    def stop(self):
        self.loop.call_soon_threadsafe(self.timer.cancel)
        return self.longest


COSTLY = {
    "10 MB of fields": ("/v1/images/edits", unknown(10_000_000), 413),
    "4 MB of fields": ("/api/jobs/pictures/train", unknown(3_900_000), 413),
    "as many as may be": ("/api/jobs/pictures/train", unknown(990_000), 422),
    "in one file": ("/api/jobs/pictures/train", b'{"data":[' + unknown(990_000) + b"]}", 422),
    "empty files": ("/api/jobs/pictures/train", b'{"data":[' + b"{}," * 99_000 + b"{}]}", 422),
    "brackets": ("/api/jobs/pictures/train", b"[" * 99_000 + b"]" * 99_000, 400),
}


@pytest.mark.parametrize("what", COSTLY)
def test_no_body_keeps_others_waiting(quick, what):
    path, body, status = COSTLY[what]
    with httpx.Client(base_url=quick.url, headers=quick.headers, timeout=60) as client:
        heartbeat = Heartbeat(quick)
        with suppress(httpx.TransportError):  # the answer to 10 MB comes before their end
            assert client.post(path, content=body, headers=JSON).status_code == status
        assert heartbeat.stop() < 1.0


def test_bodies_that_do_not_end_take_only_so_much_memory_of_each_user(quick, monkeypatch):
    monkeypatch.setattr(middleware, "MAX_HELD", 3_000_000)
    store = quick.engine.store
    anna = accounts.find_user(store, "anna") or accounts.add_user(store, "anna", None)
    keys = [quick.headers["Authorization"], f"Bearer {accounts.issue(store, anna.id, 'key')}"]

    def half_a_body(key):
        connection = socket.create_connection(quick.listener.getsockname()[:2], timeout=1)
        head = f"POST /sdapi/v1/img2img HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n"
        connection.sendall(f"{head}Content-Length: 4000000\r\n\r\n".encode() + b" " * 2_000_000)
        return connection

    def status(connection):
        with suppress(TimeoutError):
            return connection.recv(12)[9:]
        return None

    with half_a_body(keys[0]) as first:
        assert status(first) is None
        with half_a_body(keys[0]) as second, half_a_body(keys[1]) as other:
            second.settimeout(20)
            assert status(second) == b"429" and status(other) is None and status(first) is None
    for _ in range(100):
        with half_a_body(keys[0]) as again:
            if status(again) is None:  # those that were cut off count no more
                return
    raise AssertionError("it is never let in again")


def test_the_first_unknown_field_of_many_is_named(idle):
    body = {"prompt": "a fox", **{f"field {place}": 1 for place in range(50)}}
    answer = idle.post("/api/jobs/pictures/generate", json=body)
    assert answer.status_code == 422 and answer.json()["error"]["message"] == "unknown parameter 'field 0'"


def test_the_largest_requests_that_people_have_are_within_the_bounds(idle):
    folder = [{"sha256": "0" * 64, "name": f"2024, May/IMG {i}, 12:30.png"} for i in range(MAX_ITEMS)]
    answer = idle.post("/api/plans/pictures/train", json={"data": folder})
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "data: there is no such upload")
    commas = {"prompt": "," * 2000, "negative_prompt": "," * 2000}
    assert "two sides" in idle.post("/v1/images/generations", json={**commas, "size": "x"}).json()["error"]["message"]
    enlarged = {**commas, "hr_prompt": "," * 2000, "hr_negative_prompt": "," * 2000, "n_iter": 10, "batch_size": 10}
    assert "n_iter" in idle.post("/sdapi/v1/txt2img", json=enlarged).json()["detail"]


def test_a_picture_may_be_larger_in_a_form_than_in_json(idle):
    large = bytes(13_000_000)
    form = idle.post("/v1/images/edits", files={"image": large}, data={"prompt": "a fox"})
    assert form.json()["error"]["code"] == "invalid_image"
    for size, code in ((11_000_000, "invalid_image"), (13_000_000, "body_too_large")):
        body = {"images": [{"image_url": "data:image/png;base64," + "A" * (size // 4 * 4)}], "prompt": "a fox"}
        assert idle.post("/v1/images/edits", json=body).json()["error"]["code"] == code
    assert idle.post("/api/uploads", content=large[:2_000_000], headers=JSON).status_code == 413


def test_who_is_nobody_sends_little_and_soon(quick, monkeypatch):
    """A password may come from anyone: so may what pretends to be one."""
    monkeypatch.setattr(middleware, "ENTRANCE_TIMEOUT", 0.5)
    assert httpx.post(f"{quick.url}/api/login", content=b" " * 30_000, headers=JSON).status_code == 413
    host, _, port = quick.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as slow:
        slow.sendall(f"POST /api/login HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n{{".encode())
        assert slow.recv(12) == b"HTTP/1.1 408"


# HEAD


def test_every_address_answers_head_as_it_answers_get_without_the_body(quick):
    """With the same status and headers, whether it is there or not; an endless stream, too."""
    with httpx.Client(base_url=quick.url, headers=quick.headers, timeout=20) as client:
        job = fox(client, seed=3).json()["id"]
        result = client.get(f"/api/jobs/{job}", params={"wait": 30}).json()["results"][0]["id"]
        shared = client.put(f"/api/results/{result}/share", json={}).json()["url"]
        paths = ["/", "/docs", "/openapi.json", "/static/main.js", "/static/none", shared, "/none", "/api/jobs/none"]
        for path in quick.app.openapi()["paths"]:
            id = result if path.startswith("/api/results") else job
            paths.append(path.replace("{id}", id).replace("{name}", "emoji").replace("{index}", "0"))
        assert len(paths) > 60
        for path in paths:
            changing = ["date", "x-request-id", *(["content-length"] if path == "/metrics" else [])]
            with client.stream("GET", path) as get, client.stream("HEAD", path) as head:
                told = [{k: v for k, v in answer.headers.items() if k not in changing} for answer in (get, head)]
                assert (head.status_code, told[1]) == (get.status_code, told[0]), path
                assert head.read() == b""
        events = client.head("/api/events")
        assert events.headers["x-accel-buffering"] == "no"  # behind nginx they would come in lumps
        assert not quick.app.state.streams


# pages of other sites


@pytest.fixture
def allowed(tmp_path):
    """Who asks from a page of a site that may, and the key; the studio is `client.app`."""
    app = create(Settings(tmp_path / "home", port=80, origins=(ORIGIN,)))
    store = app.state.engine.store
    key = accounts.issue(store, accounts.local_user(store).id, "key")
    site = {"origin": ORIGIN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    return TestClient(app, base_url="http://localhost", headers=site, raise_server_exceptions=False), key


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/api/jobs", "/v1/images/generations", "/sdapi/v1/txt2img", "/api/users/x"])
def test_a_browser_is_told_what_a_page_of_an_allowed_site_may_send(allowed, method, path):
    client, _ = allowed
    asks = {"access-control-request-method": method, "access-control-request-headers": "authorization,content-type"}
    answer = client.options(path, headers=asks)
    assert answer.status_code == 204 and answer.content == b""
    assert answer.headers["access-control-allow-origin"] == ORIGIN and "origin" in answer.headers["vary"].lower()
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    assert answer.headers["access-control-allow-headers"].split(", ")[0] == "authorization"
    assert "access-control-allow-credentials" not in answer.headers
    for origin in ("https://evil.example", "null", f"{ORIGIN}.evil.example", ORIGIN.replace("https", "http")):
        refused = client.options(path, headers={**asks, "origin": origin})
        assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers


def test_it_asks_with_a_key_alone_and_sees_errors_too(allowed, monkeypatch):
    client, key = allowed
    store = client.app.state.engine.store
    session = accounts.issue(store, accounts.local_user(store).id, "session")
    cookie = {"cookie": f"inkwash-80={session}"}
    with TestClient(client.app, base_url="http://localhost") as own:
        assert own.get("/api/session", headers=cookie).status_code == 200
    bearer = {"authorization": f"Bearer {key}"}
    monkeypatch.setattr(client.app.state.engine.catalogue, "models", None)  # a mistake of ours
    for expected, method, path, options in (
        (200, "GET", "/api/session", {"headers": bearer}),
        (401, "GET", "/api/session", {"headers": cookie}),
        (401, "POST", "/api/keys", {"headers": cookie, "json": {}}),
        (201, "POST", "/api/keys", {"headers": bearer, "json": {}}),
        (404, "GET", "/api/jobs/none", {"headers": bearer}),
        (405, "PUT", "/api/jobs", {"headers": bearer}),
        (413, "POST", "/api/keys", {"headers": bearer, "content": b" " * 2_000_000}),
        (422, "POST", "/api/jobs/pictures/generate", {"headers": bearer, "json": {"nonsense": 1}}),
        (500, "GET", "/api/models", {"headers": bearer}),
    ):
        answer = client.request(method, path, **options)
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (expected, ORIGIN), path
        exposed = answer.headers["access-control-expose-headers"]
        assert "retry-after" in exposed and "x-request-id" in exposed
        assert "access-control-allow-credentials" not in answer.headers
    other = client.get("/api/session", headers={**bearer, "origin": "https://evil.example"})
    assert other.status_code == 403 and "access-control-allow-origin" not in other.headers
    assert "origin" in other.headers["vary"].lower()  # no cache gives one site another's answer


@pytest.mark.parametrize("path", ["/api/login", "/api/enter", "/api/logout"])
def test_it_signs_nobody_in_or_out(allowed, path):
    client, key = allowed
    store = client.app.state.engine.store
    accounts.add_user(store, "anna", "correct horse battery")
    token = accounts.issue(store, accounts.local_user(store).id, "link")
    body = {"name": "anna", "password": "correct horse battery", "token": token}
    for answer in (
        client.options(path, headers={"access-control-request-method": "POST"}),
        client.post(path, json=body, headers={"authorization": f"Bearer {key}"}),
    ):
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "wrong_origin"
        assert "set-cookie" not in answer.headers
    assert accounts.redeem(store, token) is not None  # nothing was used up


def test_in_an_open_studio_it_is_not_the_guest(tmp_path):
    client = TestClient(create(Settings(tmp_path / "home", port=80, origins=(ORIGIN,), open=True)))
    client.base_url = "http://localhost"
    assert fox(client).status_code == 202
    client.headers |= {"origin": ORIGIN, "sec-fetch-site": "cross-site"}
    assert fox(client).status_code == client.get("/api/jobs").status_code == 401


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://",
        "https://app.example.org/",
        "https://App.example.org",
        "https://app.example.org:443",
        "http://a.org:80",
        "https://*.example.org",
        "https://a@b",
        "file://",
        "app.example.org",
    ],
)
def test_only_whole_sites_as_browsers_name_them_may_be_allowed(origin):
    for sound in ("https://app.example.org", "http://localhost:3000", "http://[::1]:8080"):
        middleware.check_origin(sound)
    with pytest.raises(UserError, match=r"^--allow-origin .*as https://app\.example\.org"):
        middleware.check_origin(origin)


@pytest.mark.slow
def test_in_a_browser_an_allowed_page_reads_answers_and_another_does_not(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    from tests.studio.test_page import CHROMIUMS, FLAGS

    (tmp_path / "index.html").write_text("a page of another site")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    site = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{site.server_port}"
    quick = Quick(tmp_path / "home", origins=(origin,))
    ask = """async ([url, headers]) => {
        try {
            const answer = await fetch(url, {method: "POST", headers, body: JSON.stringify({prompt: "x", n: 9999})})
            return [answer.status, answer.headers.get("x-request-id") !== null, (await answer.json()).error.code]
        } catch { return "refused" }
    }"""
    arguments = [f"{quick.url}/api/jobs/pictures/generate", {**quick.headers, "Content-Type": "application/json"}]
    try:
        with playwright.sync_playwright() as driver:
            paths = [*filter(None, map(shutil.which, CHROMIUMS)), driver.chromium.executable_path]
            if not (found := [path for path in paths if Path(path).exists()]):
                pytest.skip("there is no Chromium")
            with closing(driver.chromium.launch(executable_path=found[0], args=FLAGS)) as browser:
                page = browser.new_page()
                page.goto(origin)
                assert page.evaluate(ask, arguments) == [422, True, "invalid_value"]
                page.goto(origin.replace("127.0.0.1", "localhost"))
                assert page.evaluate(ask, arguments) == "refused"
    finally:
        quick.stop()
        site.shutdown()
        site.server_close()


# a proxy's path


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    running = Quick(tmp_path_factory.mktemp("behind") / "home", root_path=ROOT)
    yield running
    running.stop()


@pytest.mark.parametrize("prefix", [ROOT, ""], ids=["prefix kept", "prefix taken away"])
def test_at_a_path_everything_is_where_it_is_said_to_be(behind, prefix):
    """As the browser sees it, whose addresses all have the prefix."""
    with httpx.Client(base_url=behind.url + prefix, headers=behind.headers, timeout=30) as client:
        assert client.get("/api/session").json()["name"] == "local"
        for page in ("/", "/docs"):
            assert client.get(page).text.count('<base href="/inkwash/">') == 1
        assert (
            client.get("/static/main.js").status_code == client.get("/static-docs/swagger-ui.css").status_code == 200
        )
        assert client.get("/openapi.json").json()["servers"] == [{"url": ROOT}]
        assert client.get("/static/none").status_code == client.get("/inkwashed").status_code == 404
        job = fox(client, seed=4).json()
        assert client.get(f"/api/jobs/{job['id']}", params={"wait": 30}).json()["status"] == "done"
        (upload,) = client.post("/api/uploads", files={"files": (b"x" * 2_000_000)}).json()  # with its own bounds
        assert upload["bytes"] == 2_000_000
        refused = client.post("/sdapi/v1/txt2img", json={"n_iter": 11})
        assert refused.status_code == 422 and set(refused.json()) == {"error", "detail", "body", "errors"}
        answer = client.post("/v1/images/generations", json={"prompt": "a fox", "response_format": "url"})
        url = answer.json()["data"][0]["url"]
        assert url.startswith(f"{behind.url}{ROOT}/shared/") and httpx.get(url).headers["content-type"] == "image/png"
        missing = client.post("/v1/images/generations", json={"prompt": "a fox", "model": "nothing"})
        assert missing.json()["error"]["code"]
        log_in = client.post("/api/login", json={"name": "x", "password": "y"})
        assert log_in.status_code == 401


def test_at_a_path_the_cookie_is_for_that_path(behind):
    accounts.add_user(behind.engine.store, "anna", "correct horse battery")
    with closing(httpx.Client(base_url=behind.url)) as client:
        form = {"name": "anna", "password": "correct horse battery"}
        answer = client.post(f"{ROOT}/api/login", json=form)
        assert "path=/inkwash;" in answer.headers["set-cookie"].lower()
        assert client.get(f"{ROOT}/api/session").json()["name"] == "anna"
        assert client.get("/api/session").status_code == 401  # whoever is there has no part in it
        assert client.post(f"{ROOT}/api/logout", headers={"origin": behind.url}).status_code == 204
        assert client.get(f"{ROOT}/api/session").status_code == 401 and not client.cookies


def test_at_a_path_the_python_client_finds_the_studio(behind):
    key = behind.headers["Authorization"].split()[1]
    with inkwash.Studio(f"{behind.url}{ROOT}/", key=key) as studio:
        assert studio.generate("a fox", seed=9, size=64).getpixel((0, 0)) == (9, 9, 9)
        assert studio.share(next(iter(studio.results()))).startswith(f"{behind.url}{ROOT}/shared/")


def test_the_command_line_says_where_the_studio_is_whom_it_believes_and_which_sites_may_ask(tmp_path):
    options = ("--root-path", ROOT, "--allow-origin", ORIGIN, "--proxy-address", "127.0.0.0/8")
    running = Running(tmp_path / "home", *options)
    try:
        assert running.link.startswith(f"{running.url}/") and running.url.endswith(ROOT)
        assert json.loads((tmp_path / "home" / "local.json").read_text())["url"] == running.url
        asks = {"origin": ORIGIN, "access-control-request-method": "GET"}
        answer = httpx.options(f"{running.url}/api/jobs", headers=asks)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        accounts.add_user(running.store, "anna", "correct horse battery")
        form = {"name": "anna", "password": "correct horse battery"}
        for scheme in ("https", "http"):
            answer = httpx.post(f"{running.url}/api/login", json=form, headers={"x-forwarded-proto": scheme})
            assert ("secure" in answer.headers["set-cookie"].lower()) == (scheme == "https")
    finally:
        running.stop()


@pytest.mark.parametrize(
    "path", ["inkwash", "/", "/a/", "//a", "/a//b", "/..", "/a/../b", '/"', "/a b", "/api", "/v1/x"]
)
def test_a_proxys_path_is_one_that_nothing_else_is(path):
    for sound in ("", "/inkwash", "/tools/ink-wash_2.0", "/apis", "/v1x"):
        middleware.check_root_path(sound)
    with pytest.raises(UserError, match=r"^--root-path .*; take another$|^--root-path .* a path like /inkwash"):
        middleware.check_root_path(path)
