"""Fifteen classes of attack that other studios have suffered, each tried on a running one."""

import base64
import io
import json
import pickle
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from contextlib import closing, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import select

import inkwash
from inkwash.errors import UserError
from inkwash.studio import accounts, requests, uploads
from inkwash.studio.auth import Bucket
from inkwash.studio.catalogue import Catalogue
from inkwash.studio.engine import Settings
from inkwash.studio.errors import APIError
from inkwash.studio.library import NewFile
from inkwash.studio.middleware import allowed_host
from inkwash.studio.store import NewResult
from inkwash.studio.tables import metadata
from inkwash.systems.base import File
from tests.studio.conftest import IN_A_FOLDER, asked, fox, proc, sent
from tests.studio.s3 import WRITER


@pytest.fixture(scope="module")
def me(studio):
    with studio.client() as client:
        yield client


@pytest.fixture(scope="module")
def anna(studio):
    with studio.client("anna") as client:
        yield client


@pytest.fixture(scope="module")
def ben(studio):
    with studio.client("ben") as client:
        yield client


@pytest.fixture
def nobody(studio):
    with httpx.Client(base_url=studio.url) as client:
        yield client


def png(size=(8, 8), mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, format="PNG", **options)
    return file.getvalue()


def draw(client, **changes):
    """A job of the client's that is done."""
    job = fox(client, **{"model": "emoji-fast", "seed": 1, **changes}).json()
    while job["status"] in ("queued", "running"):
        job = client.get(f"/api/jobs/{job['id']}", params={"wait": 30}).json()
    return job


# 1. paths


OUTSIDE = [
    "../studio.db",
    "..%2fstudio.db",
    "%2e%2e/studio.db",
    "%252e%252e%252fstudio.db",
    "..\\studio.db",
    "..%5cstudio.db",
    "....//studio.db",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "C:%5cwindows%5cwin.ini",
    "%00/etc/passwd",
    "file:%2f%2f%2fetc%2fpasswd",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_what_is_served(studio, me, path):
    for start in ("/static/", "/static-docs/", "/shared/", "/api/results/", "/api/models/", "/v1/models/"):
        for end in ("", "/files/0", "/thumbnail"):
            with connected(studio) as raw:  # a client would tidy the path
                raw.sendall(head("GET", f"{start}{path}{end}", me, "Connection: close"))
                answer = b"".join(iter(lambda raw=raw: raw.recv(65536), b""))
            assert answer.split(b" ", 2)[1] in (b"404", b"400", b"405", b"422"), answer[:200]
            assert b"SQLite" not in answer and b"root:" not in answer


def connected(studio):
    host, _, port = studio.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(method, path, client, *more):
    """The head of a request as it goes over the wire."""
    host, key = client.base_url.netloc.decode(), client.headers["authorization"]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: {key}", *more]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


@pytest.mark.parametrize(
    "name, why",
    [
        ("a/2024-01-01 12:30.png", None),
        ("x" * 200, None),
        ("a/" + "é" * 101, "200 of each part"),
        ("/".join("abcd" * 40), "300 bytes"),
        ("a\\b.png", r"the sign '\\\\'"),
        ("a/b‮.png", r"the sign '\\u202e'"),
        ("../b.png", "without .."),
    ],
)
def test_a_name_within_a_folder_is_one_that_can_lie_there(name, why):
    if why is None:
        return requests.check_names((File("0" * 64, name),), "data")
    with pytest.raises(APIError, match=why):
        requests.check_names((File("0" * 64, name),), "data")


def test_a_link_in_the_pages_folder_is_not_followed_out_of_it(tmp_path):
    from starlette.testclient import TestClient

    from inkwash.studio.app import Static

    (tmp_path / "secret").write_text("secret")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "page" / "whole").write_text("whole")
    client = TestClient(Static(directory=tmp_path / "page"))
    assert client.get("/whole").text == "whole"
    with pytest.raises(Exception, match="404"):
        client.get("/link")


# 2. every route x everyone: test_matrix.py

# 3. fetching for others


@pytest.fixture
def canary():
    """A server that remembers whether anyone came."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        came = []
        over = threading.Event()

        def listen():
            while not over.is_set():
                with suppress(TimeoutError):
                    came.append(server.accept()[1])

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], came
        over.set()
        thread.join()


def test_no_url_is_fetched_whatever_it_looks_like(me, canary):
    port, came = canary
    hosts = ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "0177.0.0.1", "%6cocalhost", "127.1"]
    urls = [f"http://{host}:{port}/x.png" for host in hosts]
    urls += [f"HTTPS://127.0.0.1:{port}/", f" http://127.0.0.1:{port}/", f"ftp://127.0.0.1:{port}/"]
    urls += ["file:///etc/passwd", f"gopher://127.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data/"]
    for url in urls:
        edit = me.post("/v1/images/edits", json={"prompt": "x", "images": [{"image_url": url}]})
        old = me.post("/sdapi/v1/img2img", json={"prompt": "x", "init_images": [url], "width": 64, "height": 64})
        info = me.post("/sdapi/v1/png-info", json={"image": url})
        for answer in (edit, old, info):
            assert answer.status_code in (400, 422), (url, answer.text)
            assert "root:" not in answer.text
    time.sleep(0.4)
    assert came == []


# 4. pickles


def crafted(kind, marker):
    class Evil:
        def __reduce__(self):
            return Path.touch, (Path(marker),)

    if kind == "pickle":
        return pickle.dumps(Evil())
    if kind == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Evil()))
        return file.getvalue()
    if kind == "long header":
        return struct.pack("<Q", 2**60) + b"{}"
    if kind == "header out of bounds":
        header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
        return struct.pack("<Q", len(header)) + header
    return b"\x80\x04" + b"\x00" * 100


@pytest.mark.parametrize("kind", ["pickle", "zip", "long header", "header out of bounds", "junk"])
@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_only_safetensors_are_loaded_and_the_content_says_what_they_are(tmp_path, kind, runtime):
    import shutil

    from inkwash.weights.shipped import locate

    folder, marker = tmp_path / "evil", tmp_path / "ran"
    shutil.copytree(locate("emoji"), folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(crafted(kind, str(marker)))
    assert "evil" in Catalogue(inkwash_store(tmp_path / "home"), [folder]).shared  # it looks like a model
    with pytest.raises(UserError):
        inkwash.load(folder, runtime=runtime)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_a_pickle_is_no_picture(studio, me, tmp_path, kind):
    answer = fox(me, image=sent(me, crafted(kind, str(tmp_path / "ran")), "a.png"))
    assert answer.status_code == 400 and not (tmp_path / "ran").exists()


# 5. code and settings from outside


def test_nothing_can_be_installed_run_or_set(me):
    routes = me.get("/openapi.json").json()["paths"]
    writes = {path for path, methods in routes.items() if set(methods) & {"post", "put", "patch", "delete"}}
    for word in (
        "install",
        "exec",
        "command",
        "kill",
        "restart",
        "extension",
        "script-run",
        "config",
        "upload-model",
    ):
        assert not [path for path in writes if word in path]
    for options in (
        {"allow_code": True},
        {"listen": "0.0.0.0"},
        {"x\r\nallow_code": "1"},
        {"sd_model_checkpoint": "a\r\nb"},
    ):
        before = me.get("/sdapi/v1/options").json()
        assert me.post("/sdapi/v1/options", json=options).status_code in (404, 422)
        assert me.get("/sdapi/v1/options").json() == before


def test_only_the_supervisor_starts_processes_and_nothing_evaluates_text():
    import re

    source = Path(inkwash.__file__).parent / "studio"
    starts = re.compile(r"subprocess|os\.system|os\.exec|popen|\beval\(|(?<!db\.)\bexec\(|pickle|__import__", re.I)
    found = {file.name for file in source.rglob("*.py") if starts.search(file.read_text(encoding="utf-8"))}
    assert found == {"supervisor.py"}  # which starts the workers


# 6. other sites, and names that are rebound


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_a_name_that_is_not_ours_is_refused(nobody, host):
    for path in ("/", "/healthz", "/api/jobs", "/static/app.js"):
        assert nobody.get(path, headers={"host": host}).status_code in (400, 403)


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1", "file://", "http://["]
)
def test_a_page_of_another_site_may_ask_nothing(studio, me, nobody, origin):
    for client in (me, nobody):
        for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            headers = {"origin": origin, "content-type": kind}
            assert (
                client.post("/api/jobs/pictures/generate", content=b'{"prompt":"x"}', headers=headers).status_code
                == 403
            )
        for path in ("/api/events", "/api/jobs", "/healthz"):
            answer = client.get(path, headers={"origin": origin})
            assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


def browser(studio, name="local"):
    """A client with a session, as a browser has it."""
    user = accounts.find_user(studio.store, name)
    client = httpx.Client(base_url=studio.url)
    link = accounts.issue(studio.store, user.id, "link")
    assert client.post("/api/enter", json={"token": link}).status_code == 200
    return client


def test_a_cookie_alone_writes_nothing(studio, me):
    """Even of a browser that sends it along from elsewhere, and says nothing of where from."""
    with closing(browser(studio)) as client:
        ask = {"prompt": "a fox", "model": "emoji-fast"}
        assert client.get("/api/session").status_code == 200
        assert client.post("/api/jobs/pictures/generate", json=ask).status_code == 401
        for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
            assert client.post("/api/jobs/pictures/generate", json=ask, headers=headers).status_code == 403
            assert client.get("/api/jobs", headers=headers).status_code == 403
        for headers in ({"origin": studio.url}, {"sec-fetch-site": "same-origin"}):
            assert client.post("/api/jobs/pictures/generate", json=ask, headers=headers).status_code == 202


def test_the_cookie_is_for_this_site_and_for_no_script(studio):
    user = accounts.find_user(studio.store, "local")
    link = accounts.issue(studio.store, user.id, "link")
    cookie = httpx.post(f"{studio.url}/api/enter", json={"token": link}).headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie


@pytest.mark.parametrize("proxy", [True, False])
def test_only_with_a_proxy_before_it_is_it_told_of_tls_and_of_users(tmp_path, proxy):
    process = start(tmp_path / "home", *(["--proxy", "--login-header", "X-Remote-User"] if proxy else []))
    url, _, token = process.stdout.readline().split(" at ")[1].strip().partition("/#token=")
    try:
        until(lambda: answers(url))
        entered = httpx.post(f"{url}/api/enter", json={"token": token}, headers={"x-forwarded-proto": "https"})
        assert ("secure" in entered.headers["set-cookie"].lower()) == proxy
        named = httpx.get(f"{url}/api/session", headers={"x-remote-user": "anna", "x-forwarded-for": "10.0.0.9"})
        assert named.json().get("name") == ("anna" if proxy else None)
    finally:
        with process:  # whose pipes are closed, too
            process.terminate()


# 7. open to the network


def start(home, *options):
    command = [sys.executable, "-m", "inkwash", "studio", "--home", str(home), "--port", "0", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@IN_A_FOLDER
def test_it_listens_to_this_machine_alone_unless_there_are_users_or_it_is_said(tmp_path, studio):
    process = start(tmp_path / "a", "--host", "0.0.0.0")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2 and said.count("\n") == 1
    for options in (("--open",), ()):
        if not options:
            accounts.add_user(inkwash_store(tmp_path / "b"), "anna", "correct horse battery")
        process = start(tmp_path / ("c" if options else "b"), "--host", "0.0.0.0", *options)
        line = process.stdout.readline()
        with process:  # whose pipes are closed, too
            process.terminate()
        assert line.startswith("The studio is at http://0.0.0.0:") and ("token" in line) == (not options)
    assert studio.url.startswith("http://127.0.0.1:")


def test_in_an_open_studio_nobody_rules(tmp_path):
    process = start(tmp_path / "open", "--open")
    url = process.stdout.readline().split(" at ")[1].strip()
    assert "as one guest" in process.stdout.readline()
    token = process.stdout.readline().partition("/#token=")[2].strip()
    try:
        until(lambda: answers(url))
        session = httpx.get(f"{url}/api/session").json()
        assert (session["guest"], session["admin"]) == (True, False)
        operator = httpx.post(f"{url}/api/enter", json={"token": token}).json()
        assert (operator["name"], operator["guest"], operator["admin"]) == ("local", False, True)
        same = {"origin": url}
        account = {"name": "evil", "password": "long enough a password", "admin": True}
        assert httpx.post(f"{url}/api/users", json=account, headers=same).status_code == 403
        assert httpx.post(f"{url}/api/keys", json={}, headers=same).status_code == 403
        assert httpx.get(f"{url}/metrics").status_code == 403
        assert (
            httpx.post(f"{url}/api/jobs/pictures/generate", json={"prompt": "a fox"}, headers=same).status_code == 202
        )
        assert (
            httpx.post(
                f"{url}/api/jobs/pictures/generate", json={"prompt": "a"}, headers={"origin": "null"}
            ).status_code
            == 403
        )
    finally:
        with process:  # whose pipes are closed, too
            process.terminate()


def answers(url):
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz").status_code == 200


@IN_A_FOLDER
def test_a_second_studio_in_the_same_folder_says_so_and_leaves_the_first_alone(studio):
    before = (studio.home / "local.json").read_text()
    process = start(studio.home)
    shown, said = process.communicate(timeout=30)
    assert process.returncode == 2 and "running in" in said and shown == ""
    assert (studio.home / "local.json").read_text() == before


def inkwash_store(home):
    from inkwash.studio.store import Store

    return Store(home)


def test_which_names_are_ours():
    local, wide = Settings(Path("x")), Settings(Path("x"), host="0.0.0.0", names=("studio.example",))
    ours = ("127.0.0.1:7860", "localhost", "[::1]:7860", "127.9.9.9")
    assert all(allowed_host(host, local) for host in ours)
    assert not any(
        allowed_host(host, local) for host in ("192.168.1.7", "studio.example", "", "a b", "[::1", "10.0.0.1")
    )
    assert all(allowed_host(host, wide) for host in ("192.168.1.7:7860", "studio.example", *ours))
    assert not allowed_host("other.example", wide)


def test_the_link_lets_in_once(studio):
    user = accounts.find_user(studio.store, "local")
    link = accounts.issue(studio.store, user.id, "link")
    seen = [httpx.request(method, studio.url, params={"token": link}) for method in ("GET", "HEAD", "GET")]
    assert not [answer for answer in seen if "set-cookie" in answer.headers]  # a chat's preview uses nothing up
    first, second = (httpx.post(f"{studio.url}/api/enter", json={"token": link}) for _ in range(2))
    assert first.status_code == 200 and first.json()["name"] == "local" and "set-cookie" in first.headers
    assert second.status_code == 401 and second.json()["error"]["code"] == "used_link"
    assert "set-cookie" not in second.headers
    assert accounts.holder(studio.store, link, "key", "session") is None  # it is nothing else


# 8. others' things


def test_another_users_things_are_not_there(studio, anna, ben):
    job = draw(anna)
    picture = job["results"][0]["id"]
    upload = sent(anna, png())
    for method, path in [
        ("GET", f"/api/jobs/{job['id']}"),
        ("GET", f"/api/jobs/{job['id']}/events"),
        ("POST", f"/api/jobs/{job['id']}/cancel"),
        ("GET", f"/api/results/{picture}"),
        ("GET", f"/api/results/{picture}/files/0"),
        ("GET", f"/api/results/{picture}/thumbnail"),
        ("DELETE", f"/api/results/{picture}"),
        ("DELETE", f"/api/results/{picture}/share"),
    ]:
        theirs, mine = (
            ben.request(method, path),
            ben.request(method, path.replace(job["id"], "no").replace(picture, "no")),
        )
        assert theirs.status_code == mine.status_code == 404 and theirs.json() == mine.json(), path
    assert ben.put(f"/api/results/{picture}/share", json={}).status_code == 404
    for ask in ({"image": upload}, {"image": upload, "mask": upload}):
        assert ben.post("/api/jobs/pictures/generate", json={"prompt": "x", **ask}).status_code == 404
    assert ben.get("/api/results").json() == ben.get("/api/jobs").json() == []
    assert ben.get("/api/jobs", params={"before": job["id"]}).json() == []
    assert anna.get(f"/api/results/{picture}/files/0").status_code == 200


def test_no_header_says_who_one_is(studio, nobody):
    user = accounts.find_user(studio.store, "local")
    for name in (
        "comfy-user",
        "x-user",
        "x-forwarded-user",
        "remote-user",
        "x-remote-user",
        "x-forwarded-for",
        "forwarded",
    ):
        for value in (user.id, user.name, "127.0.0.1"):
            assert nobody.get("/api/jobs", headers={name: value}).status_code == 401


def test_others_events_do_not_arrive(studio, anna, ben):
    heard = []
    with ben.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        theirs = draw(anna)["id"]
        mine = draw(ben)["id"]
        for line in lines:
            heard.append(line)
            if line.startswith("data:") and mine in line and '"done"' in line:
                break
    assert not [line for line in heard if theirs in line]


def test_an_account_that_is_closed_is_out_at_once(studio, me, monkeypatch):
    user = accounts.add_user(studio.store, "carl", "correct horse battery")
    key = accounts.issue(studio.store, user.id, "key")
    session = browser(studio, "carl")
    client = httpx.Client(base_url=studio.url, headers={"authorization": f"Bearer {key}"}, timeout=60)
    job = client.post("/api/jobs/pictures/generate", json={"prompt": "a fox", "n": 10, "steps": 200}).json()["id"]
    with client.stream("GET", f"/api/jobs/{job}/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        assert me.patch(f"/api/users/{user.id}", json={"active": False}).status_code == 200
        last = [line for line in lines if line.startswith("data:")][-1]  # it ends
    assert '"cancelled"' in last
    assert client.get("/api/jobs").status_code == session.get("/api/session").status_code == 401
    login = {"name": "carl", "password": "correct horse battery"}
    assert httpx.post(f"{studio.url}/api/login", json=login).status_code == 401
    assert me.patch(f"/api/users/{user.id}", json={"active": True}).status_code == 200
    assert client.get("/api/jobs").status_code == 401  # its old key stays gone
    assert httpx.post(f"{studio.url}/api/login", json=login).status_code == 200


# 9. scripts in what users write


XSS = "<img src=x onerror=alert(1)><script>alert(1)</script>"


def test_nothing_that_a_user_wrote_can_run(studio, me):
    for path in ("/", "/docs", "/api/session", "/static/app.js", "/nothing", "/shared/x"):
        answer = me.get(path)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "default-src 'none'" in policy, path
        assert (
            "unsafe-eval" not in policy
            and "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in policy
    job = draw(me, prompt=XSS)
    answer = me.get(job["results"][0]["files"][0]["url"])
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith('attachment; filename="img-src-x-onerror-alert-1-1.png"')
    errors = (
        me.post("/api/jobs/pictures/generate", json={"prompt": "x", "style": XSS}),
        me.get(f"/v1/models/{XSS}"),
        me.get("/<script>"),
    )
    for answer in errors:
        assert answer.headers["content-type"] == "application/json" and answer.status_code in (404, 422)


@pytest.mark.parametrize(
    "data",
    [b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", b"<html>", b"GIF89a<script>", b"%PDF-1.4"],
)
def test_only_pictures_are_taken_for_pictures(me, data):
    for name in ("x.png", "x.svg", "x.html"):
        answer = fox(me, image=sent(me, data, name))
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_image"


# 10. pictures that are bombs


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width, height):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def exif_bomb():
    """A PNG whose EXIF makes Pillow stumble over its own feet (struct.error) when the picture is turned."""
    exif = b"MM\0*\0\0\0\x08\0\x02\x01\x03\0\x02\0\0\0\x02x\0\0\0\x01\x12\0\x03\0\0\0\x01\0\x06\xa2\0\0\0\0\0"
    return png()[:33] + chunk(b"eXIf", exif) + png()[33:]


def bombs():
    body = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    yield "2^31 wide", header(2**31 - 1, 1) + body
    yield "30000 x 30000", header(30000, 30000) + body
    yield "0 x 0", header(0, 0) + body
    yield "truncated", png((200, 200), pnginfo=None)[:100]
    yield "inflates", header(9000, 9000) + chunk(b"IDAT", zlib.compress(bytes(10**7))) + chunk(b"IEND", b"")
    yield "text bomb", png()[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))) + png()[33:]
    yield "EXIF that leads nowhere", exif_bomb()
    yield "cut off JPEG", b"\xff\xd8\xff\xe0" + bytes(50)
    yield "empty", b""


@pytest.mark.parametrize(("name", "data"), list(bombs()), ids=[name for name, _ in bombs()])
def test_bombs_are_refused_and_take_no_memory(studio, me, name, data):
    upload, before = sent(me, data, "x.png"), peak(studio.process.pid)
    answer = fox(me, image=upload)
    assert answer.status_code in (400, 413), answer.text
    assert peak(studio.process.pid) < before + 200e6
    assert me.get("/healthz").json()["status"] == "ok"


def peak(pid):
    """The most memory that the process has taken since it was asked before, in bytes."""
    import re

    most = int(re.search(r"VmHWM:\s*(\d+)", (proc(pid) / "status").read_text())[1]) * 1024
    (proc(pid) / "clear_refs").write_text("5")
    return most


def test_of_an_upload_only_the_pixels_are_kept(studio, me):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x010E] = "a secret"
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (0, 0, 20, 20))
    picture.save(file, format="JPEG", exif=exif, quality=100, comment=b"another secret")
    facts = PngInfo()
    facts.add_text("Comment", "a secret")
    frames = [Image.new("RGB", (8, 8), shade) for shade in ("red", "blue")]
    polyglot = io.BytesIO()
    frames[0].save(polyglot, format="GIF", save_all=True, append_images=frames[1:])
    for data in (file.getvalue(), png(pnginfo=facts), polyglot.getvalue() + b"PK\x03\x04 a secret zip"):
        upload = sent(me, data, "../../x.png")
        assert upload["name"] == "x.png"
        job = draw(me, image=upload)
        kept = studio.store.files.read(job["request"]["image"]["sha256"], ".png")
        opened = Image.open(io.BytesIO(kept))
        assert b"secret" not in kept and opened.format == "PNG" and not opened.info and not opened.getexif()
        assert getattr(opened, "n_frames", 1) == 1
    turned = Image.open(io.BytesIO(uploads.clean(file.getvalue())))
    assert turned.size == (20, 40)  # as a viewer shows it: its blue left half is on top
    assert np.asarray(turned)[5, 10, 2] > 200 and np.asarray(turned)[35, 10, 0] > 200
    assert max(Image.open(io.BytesIO(uploads.clean(png((3000, 30))))).size) == uploads.SIDE
    deep = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(deep, format="PNG")
    assert (np.asarray(Image.open(io.BytesIO(uploads.clean(deep.getvalue())))) == 128).all()  # grey, not white


@pytest.mark.parametrize("extra", ["Content-Length: 99999999999", "Content-Length: -1", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_long_is_cut_off_early(studio, me, extra):
    piece, sent, answer = b" " * 60_000, 0, b""
    if "chunked" in extra:
        piece = b"%x\r\n%s\r\n" % (len(piece), piece)
    with connected(studio) as raw:
        raw.sendall(head("POST", "/api/jobs/pictures/generate", me, "Content-Type: application/json", extra))
        raw.settimeout(0.02)
        with suppress(OSError):
            while sent < 50_000_000 and not answer:
                with suppress(TimeoutError):
                    raw.sendall(piece)
                    sent += len(piece)
                with suppress(TimeoutError):
                    answer = raw.recv(100)
    assert answer.split(b" ")[1] in (b"413", b"400") and sent < 15_000_000, (answer, sent)


# 11. too much of everything


TOO_MUCH = [
    {"n": 1001},
    {"size": 100_000},
    {"steps": 10**9},
    {"steps": -1},
    {"guidance": 1e308},
    {"seed": 2**80},
    {"seed": -1},
    {"to": "x" * 3000},
    {"prompt": "x" * 100_000},
    {"prompt": "a " * 500_000},
    {"negative": "x" * 3000},
    {"model": "x" * 1000},
    {"nonsense": 1},
]


@pytest.mark.parametrize("more", TOO_MUCH, ids=[str(more)[:30] for more in TOO_MUCH])
def test_what_is_too_much_is_refused_before_any_work(me, more):
    answer = me.post("/api/jobs/pictures/generate", json={"prompt": "a fox", **more})
    assert answer.status_code in (413, 422) and len(answer.text) < 500


@pytest.mark.parametrize("path", ["/api/jobs?nosuch=1", "/api/results?limit=2&n=4", "/v1/models?limit=1"])
def test_a_query_that_would_change_nothing_is_refused(idle, path):
    answer = idle.get(path)
    assert answer.status_code in (400, 422) and answer.json()["error"]["code"] == "unknown_parameter"
    answer = idle.post("/api/jobs/pictures/generate?n=4", json={"prompt": "a fox"})
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "n" and not idle.get("/api/jobs").json()
    assert idle.get("/api/jobs?limit=2&status=done&status=failed").status_code == 200


@pytest.mark.parametrize(
    "verb, body, why",
    [
        ("pictures/generate", {"prompt": "x", "seed": 2**64 - 1, "n": 2}, "seed"),
        ("language/write", {"length": 10**30}, "length"),
        ("pictures/train", {}, "neither a recipe nor data"),
        ("series/train", {"steps": 5}, "neither a recipe nor data"),
        ("pictures/train", {"recipe": "toml"}, "pictures train needs torch: pip install"),
        ("pictures/evaluate", {}, "pictures evaluate needs torch: pip install"),
    ],
)
def test_what_a_job_refuses_a_plan_refuses(idle, monkeypatch, verb, body, why):
    if "torch" in why:
        monkeypatch.setattr("inkwash.extras.find_spec", lambda name: None if name == "torch" else True)
    if "recipe" in body:
        body = {"recipe": sent(idle, b'task = "pictures"', "x.toml")}
    for kind in ("plans", "jobs"):
        answer = idle.post(f"/api/{kind}/{verb}", json=body)
        assert answer.status_code == 422 and why in answer.json()["error"]["message"]


def test_what_writes_into_a_models_folder_is_not_offered(idle):
    offered = {card["name"]: {verb["name"] for verb in card["verbs"]} for card in idle.get("/api/systems").json()}
    assert all("generate" in offered["pictures"] and not {"tune", "export"} & verbs for verbs in offered.values())


def test_numbers_that_are_none_are_refused(me):
    for text in ('{"prompt":"x","guidance":NaN}', '{"prompt":"x","strength":Infinity}', '{"prompt":"x","n":1e999}'):
        assert (
            me.post(
                "/api/jobs/pictures/generate", content=text, headers={"content-type": "application/json"}
            ).status_code
            == 422
        )


def test_who_asks_too_often_waits_and_others_do_not(tmp_path):
    from starlette.testclient import TestClient

    from inkwash.studio.app import create

    app = create(Settings(tmp_path / "home", port=80))
    app.state.rate = Bucket(0.01, 5)
    store = app.state.engine.store
    clients = []
    for name in ("hasty", "calm"):
        key = accounts.issue(store, accounts.add_user(store, name, None).id, "key")
        clients.append(TestClient(app, base_url="http://localhost", headers={"authorization": f"Bearer {key}"}))
    answers = [clients[0].get("/api/session") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert int(answers[5].headers["retry-after"]) > 50
    assert answers[5].json()["error"]["code"] == "rate_limit_exceeded"
    assert clients[1].get("/api/session").status_code == 200


def test_a_bucket_fills_again_and_forgets_the_oldest(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr("inkwash.studio.auth.MAX_BUCKETS", 3)
    bucket = Bucket(rate=2.0, capacity=3.0)
    for _ in range(3):
        bucket.take("a")
    with pytest.raises(APIError) as refused:
        bucket.take("a")
    assert refused.value.wait == pytest.approx(0.5)
    clock[0] = 0.5
    bucket.take("a")
    for name in "bcd":
        bucket.take(name)
    assert set(bucket.tokens) == {"b", "c", "d"}


def test_only_so_many_streams_are_open_at_once_and_closing_frees_them(studio):
    from contextlib import ExitStack

    from inkwash.studio.streams import STREAMS

    with studio.client("listener") as client, ExitStack() as stack:
        for _ in range(STREAMS):
            assert stack.enter_context(client.stream("GET", "/api/events")).status_code == 200
        assert client.get("/api/events").status_code == 429
        stack.close()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with client.stream("GET", "/api/events") as stream:
                if stream.status_code == 200:
                    return
            time.sleep(0.1)
    raise AssertionError("closed streams stay counted")


def test_who_does_not_read_is_told_the_newest_alone(tmp_path):
    """A thousand changes that nobody reads are one job to look at, and no previews."""
    import asyncio

    from inkwash.studio.engine import Engine

    async def listen():
        engine = Engine(Settings(tmp_path / "home"))
        with engine.subscribe("user") as subscriber, engine.subscribe("job", previews=True) as shown:
            for step in range(1000):
                engine._receive(
                    "cpu",
                    {
                        "job": "job",
                        "user": "user",
                        "event": "progress",
                        "place": 0,
                        "done": step,
                        "total": 9,
                        "text": "",
                        "seconds_left": None,
                    },
                )
            engine._receive("cpu", {"job": "job", "user": "user", "event": "preview", "place": 0, "picture": "x"})
            assert subscriber.previews == [] and shown.previews == [(0, "x")]
            assert (
                await subscriber.changes(0) == await shown.changes(0) == {"job"}
                and await subscriber.changes(0) == set()
            )
        assert not engine._subscribers

    asyncio.run(listen())


def test_who_is_nobody_costs_nothing(studio, nobody):
    """Their bodies are not read: 11 MB of brackets, which would take long to parse, are refused at once."""
    body = b'{"init_images":[' + b"[]," * 3_600_000 + b"[]]}"
    before = peak(studio.process.pid)
    for path, kind in [
        ("/sdapi/v1/img2img", "application/json"),
        ("/api/uploads", "multipart/form-data; boundary=x"),
    ]:
        begun = cpu(studio.process.pid)
        with suppress(httpx.TransportError):  # the answer comes before the end of the body
            answer = nobody.post(path, content=body, headers={"content-type": kind})
            assert answer.status_code == 401
        assert cpu(studio.process.pid) - begun < 1.0
    assert peak(studio.process.pid) < before + 100e6
    malformed = nobody.post("/api/jobs/pictures/generate", content=b"{", headers={"content-type": "application/json"})
    assert malformed.status_code == 401


def cpu(pid):
    """Seconds of computing."""
    fields = (proc(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_only_so_many_requests_of_a_user_wait_at_once_and_who_has_gone_does_not(quick, monkeypatch):
    from inkwash.studio import streams

    monkeypatch.setattr(streams, "WAITS", 3)
    monkeypatch.setattr(quick.engine.store, "claim", lambda *_: None)  # nobody draws for now
    headers = quick.headers
    with httpx.Client(base_url=quick.url, headers=headers, timeout=60) as client:
        job = client.post("/api/jobs/pictures/generate", json={"prompt": "x"}).json()["id"]
        waiting = [threading.Thread(target=impatient, args=(quick, job)) for _ in range(3)]
        for thread in waiting:
            thread.start()
        until(lambda: sum(quick.app.state.waits.values()) == 3)
        assert client.get(f"/api/jobs/{job}", params={"wait": 60}).status_code == 429
        for thread in waiting:
            thread.join()
        until(lambda: not quick.app.state.waits)
        assert client.post(f"/api/jobs/{job}/cancel").json()["status"] == "cancelled"


def impatient(quick, job):
    with suppress(httpx.TimeoutException):
        httpx.get(f"{quick.url}/api/jobs/{job}", params={"wait": 60}, headers=quick.headers, timeout=1.5)


def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


# 12. passwords


def test_passwords_are_kept_as_argon2_and_secrets_as_hashes(studio):
    key = studio.key("anna")
    raw = b"".join(path.read_bytes() for path in studio.home.glob("studio.db*"))
    if not raw:
        with studio.store.reading() as tx:
            raw = repr([tx.execute(select(table)).all() for table in metadata.sorted_tables]).encode()
    assert b"$argon2id$" in raw and b"correct horse battery" not in raw and key.encode() not in raw


def test_a_name_that_does_not_exist_takes_as_long_as_a_wrong_password(studio, monkeypatch):
    """Both verify one hash."""
    verified = []

    class Hasher:
        def verify(self, hashed, password):
            verified.append(hashed)
            return accounts.PasswordHasher().verify(hashed, password)

    studio.key("anna")
    monkeypatch.setattr(accounts, "HASHER", Hasher())
    assert accounts.log_in(studio.store, "anna", "wrong password") is None
    assert accounts.log_in(studio.store, "nobody there", "wrong password") is None
    assert accounts.log_in(studio.store, "local", "wrong password") is None  # who has none
    assert len(verified) == 3 and all(hashed.startswith("$argon2id$") for hashed in verified)
    assert accounts.log_in(studio.store, "anna", "correct horse battery").name == "anna"


def test_short_passwords_are_refused_and_guessing_is_slow(studio, tmp_path, me):
    short = me.post("/api/users", json={"name": "dora", "password": "short"})
    assert short.status_code == 422 and "10 characters" in short.json()["error"]["message"]
    answers = [
        httpx.post(f"{studio.url}/api/login", json={"name": "victim", "password": f"guess number {i}"})
        for i in range(15)
    ]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert answers[-1].status_code == 429 and int(answers[-1].headers["retry-after"]) > 1


# 13. what answers give away


def test_errors_and_answers_name_no_path_no_version_and_no_code(studio, me):
    secret = [str(studio.home), str(Path(inkwash.__file__).parent), "site-packages", "Traceback", "uvicorn", "sqlite"]
    asked = [
        me.get("/"),
        me.get("/nothing"),
        me.get("/api/jobs/x"),
        me.post("/api/jobs/pictures/generate", content=b"{", headers={"content-type": "application/json"}),
        me.post("/api/jobs/pictures/generate", json={"prompt": 3}),
        me.post("/api/uploads", files={"files": b"x"}),
        me.post("/api/recipe", files={"file": png()}),
        me.request("TRACE", "/api/jobs"),
        me.get("/api/models"),
        me.get("/v1/models"),
        me.get("/metrics"),
        me.get(f"/api/jobs/{draw(me)['id']}"),
        me.get(draw(me)["results"][0]["files"][0]["url"]),
    ]
    for answer in asked:
        assert "server" not in answer.headers
        text = answer.content.decode("latin-1") + str(answer.headers)
        assert not [word for word in secret if word.lower() in text.lower()], answer.request.url


def test_the_log_has_no_words_of_users_and_no_secrets(studio, me):
    draw(me, prompt="a very private unicorn")
    me.post("/api/enter", json={"token": "ink-guess"})
    (log,) = [path.read_text(encoding="utf-8") for path in studio.home.glob("studio*.log")]
    lines = [json.loads(line) for line in log.splitlines()]
    assert "unicorn" not in log and me.headers["authorization"].removeprefix("Bearer ") not in log
    assert (
        "ink-" not in log
        and WRITER["AWS_SECRET_ACCESS_KEY"] not in log
        and {"time", "level", "event"} <= set.intersection(*(set(line) for line in lines))
    )
    assert any(line.get("route") == "/api/jobs/pictures/generate" and line["status"] == 202 for line in lines)


def test_a_mistake_of_ours_shows_nothing(tmp_path, monkeypatch):
    """Any exception is one line and the number of the request, by which the log tells more."""
    from starlette.testclient import TestClient

    from inkwash.studio.app import create

    app = create(Settings(tmp_path / "home", port=80))
    monkeypatch.setattr(type(app.state.engine.store), "jobs", lambda *a, **k: 1 / 0)
    key = accounts.issue(app.state.engine.store, accounts.local_user(app.state.engine.store).id, "key")
    client = TestClient(app, base_url="http://localhost", headers={"authorization": f"Bearer {key}"})
    answer = client.get("/api/jobs")
    assert answer.status_code == 500 and "division" not in answer.text and answer.headers["x-request-id"]
    assert "content-security-policy" in answer.headers


# 14. races


def test_many_cancels_at_once_end_one_job_once(studio, me):
    from concurrent.futures import ThreadPoolExecutor

    for _ in range(10):
        job = me.post("/api/jobs/pictures/generate", json={"prompt": "a fox", "n": 10, "steps": 200}).json()["id"]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _, job=job: me.post(f"/api/jobs/{job}/cancel").json()["status"], range(8)))
        assert set(answers) == {"cancelled"}
    assert draw(me)["status"] == "done"


def test_submitting_the_same_key_from_many_threads_makes_one_job(studio, me):
    from concurrent.futures import ThreadPoolExecutor

    ask = {"prompt": "a fox", "model": "emoji-fast"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: me.post("/api/jobs/pictures/generate", json=ask, headers={"idempotency-key": "race"}),
                range(16),
            )
        )
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_link_that_many_redeem_at_once_lets_one_in(studio):
    from concurrent.futures import ThreadPoolExecutor

    link = accounts.issue(studio.store, accounts.find_user(studio.store, "local").id, "link")
    with ThreadPoolExecutor(8) as pool:
        let_in = list(pool.map(lambda _: accounts.redeem(studio.store, link), range(8)))
    assert sum(user is not None for user in let_in) == 1


def test_a_days_share_holds_against_many_threads(studio):
    from concurrent.futures import ThreadPoolExecutor

    user = accounts.add_user(studio.store, "greedy", None, daily=5)
    client = httpx.Client(
        base_url=studio.url, headers={"authorization": f"Bearer {accounts.issue(studio.store, user.id, 'key')}"}
    )
    ask = {"prompt": "a fox", "model": "emoji-fast"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: client.post("/api/jobs/pictures/generate", json=ask).status_code, range(16))
        )
    assert sorted(answers) == [202] * 5 + [429] * 11


def test_keys_made_at_once_are_each_their_own(studio, me):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: me.post("/api/keys", json={"name": f"race {i}"}).json(), range(24)))
    for one in made[:4]:
        assert me.delete(f"/api/keys/{one['id']}").status_code == 204
        assert (
            httpx.get(f"{studio.url}/api/session", headers={"authorization": f"Bearer {one['key']}"}).status_code
            == 401
        )
    last = made[-1]["key"]
    assert httpx.get(f"{studio.url}/api/session", headers={"authorization": f"Bearer {last}"}).status_code == 200


def test_no_part_of_a_form_is_passed_over(me):
    file = ("a.txt", b"x", "text/plain")
    for more in ({"files": {"files": file, "other": file}}, {"files": {"files": file}, "data": {"unpack": "true"}}):
        answer = me.post("/api/uploads", **more)
        assert answer.status_code == 422 and answer.json()["error"]["code"] == "unknown_parameter"
    assert me.post("/api/recipe", files={"file": file, "other": file}).status_code == 422
    assert me.post("/api/uploads", files={"files": file}).status_code == 201


def test_a_key_of_idempotency_is_for_one_request(me):
    headers = {"idempotency-key": "twice"}
    one = me.post("/api/jobs/pictures/generate", json={"prompt": "a fox", "model": "emoji-fast"}, headers=headers)
    same = me.post("/api/jobs/pictures/generate", json={"prompt": "a fox", "model": "emoji-fast"}, headers=headers)
    other = me.post("/api/jobs/pictures/generate", json={"prompt": "a dog", "model": "emoji-fast"}, headers=headers)
    assert one.json()["id"] == same.json()["id"] and other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_conflict"


def test_a_key_of_idempotency_outlives_what_was_made_and_knows_a_seed(idle):
    store = idle.app.state.engine.store

    def ask(key, **more):
        return idle.post(
            "/api/jobs/pictures/generate", json={"prompt": "a fox", **more}, headers={"idempotency-key": key}
        )

    first = ask("one").json()
    with store.files.stage(png(), ".png") as content:
        assert store.add("w", store.claim("w"), 0, 0, NewResult(0, "a fox", {}, {}, [NewFile(content, "fox.png")]))
        store.advance("w", store.job(first["id"]))
    (made,) = idle.get(f"/api/jobs/{first['id']}").json()["results"]
    assert idle.delete(f"/api/results/{made['id']}").status_code == 204
    assert "prompt" not in store.job(first["id"]).request
    assert ask("one").json()["id"] == first["id"] and ask("one", n=2).status_code == 422
    assert ask("two", seed=3).status_code == 202 and ask("two").status_code == 422


# 15. words that leave with the picture


def test_the_words_leave_only_with_who_chose_so(studio, me, nobody):
    job = draw(me, model="emoji", prompt="a private fox", negative="secrets")
    picture = job["results"][0]
    assert b"private" in me.get(picture["files"][0]["url"]).content
    assert b"private" not in me.get(picture["files"][0]["url"], params={"recipe": False}).content
    name = me.get(picture["files"][0]["url"], params={"recipe": False}).headers["content-disposition"]
    assert "private" in picture["files"][0]["name"] and "private" not in name and 'filename="image.png"' in name
    bare = me.put(f"/api/results/{picture['id']}/share", json={}).json()["url"]
    answer = nobody.get(bare)
    found = answer.content
    assert b"private" not in found and b"secrets" not in found and b"trainedAlgorithmicMedia" in found
    assert "private" not in str(answer.headers) and 'filename="image.png"' in answer.headers["content-disposition"]
    told = me.put(f"/api/results/{picture['id']}/share", json={"recipe": True}).json()["url"]
    assert b"private" in nobody.get(told).content and nobody.get(bare).status_code == 404
    me.delete(f"/api/results/{picture['id']}/share")
    assert nobody.get(told).status_code == 404


def test_what_cannot_go_without_its_words_goes_only_with_them(idle):
    store = idle.app.state.engine.store
    user = accounts.local_user(store).id
    id = store.submit(user, asked()).id
    with store.files.stage(b"private words", ".txt") as content:
        new = NewResult(0, "a fox", {}, {}, [NewFile(content, "private.txt")])
        assert store.add("w", store.claim("w"), 0, 0, new)
    (made,) = idle.get(f"/api/jobs/{id}").json()["results"]
    for answer in (
        idle.put(f"/api/results/{made['id']}/share", json={}),
        idle.get(made["files"][0]["url"], params={"recipe": False}),
    ):
        assert answer.status_code == 422 and answer.json()["error"]["param"] == "recipe"
    url = idle.put(f"/api/results/{made['id']}/share", json={"recipe": True}).json()["url"]
    assert "private.txt" in idle.get(url).headers["content-disposition"]


def test_a_picture_that_went_in_leaves_no_trace_but_its_hash(studio, me):
    job = draw(me, image=sent(me, png((64, 64))), strength=0.5)
    recipe = job["results"][0]["recipe"]
    assert set(recipe["image"]) == {"name", "sha256"} and recipe["image"]["name"] == "fox.png"
    with Image.open(io.BytesIO(me.get(job["results"][0]["files"][0]["url"]).content)) as picture:
        assert json.loads(picture.info["inkwash"]) == recipe


def test_basic_authentication_takes_a_key_and_no_password(studio):
    key = studio.key("anna")
    for name in ("anna", "whoever"):
        assert httpx.get(f"{studio.url}/api/session", auth=(name, key)).status_code == 200
    assert httpx.get(f"{studio.url}/api/session", auth=("anna", "correct horse battery")).status_code == 401
    for value in ("Basic !!!", "Basic " + base64.b64encode(b"\xff\xfe").decode(), "Bearer", "Digest x"):
        assert httpx.get(f"{studio.url}/api/session", headers={"authorization": value}).status_code == 401


@pytest.mark.parametrize(
    "recipe", ['{"a":"\\ud800"}', '{"a":' * 900 + "1" + "}" * 900, "[" * 9000, "[1]", "{", '{"a":NaN}', '{"a":[1]}']
)
def test_a_recipe_from_elsewhere_is_plain_or_is_none(me, recipe):
    facts = PngInfo()
    facts.add_itxt("inkwash", recipe)
    answer = me.post("/api/recipe", files={"file": png(pnginfo=facts)})
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "no_recipe"
    facts = PngInfo()
    facts.add_itxt("inkwash", '{"prompt":"a fox","image":{"file":null}}')
    answer = me.post("/api/recipe", files={"file": png(pnginfo=facts)})
    recipe = {"prompt": "a fox", "image": {"file": None}}
    assert answer.json() == {"system": "", "verb": "", "request": {}, "recipe": recipe}


@pytest.mark.parametrize(
    "recipe, request_again",
    [
        ({"system": "pictures", "verb": "generate", "image": "abc"}, None),
        ({"system": "series", "verb": "forecast", "data": "abc"}, None),
        ({"system": "pictures", "verb": "generate", "image": {"sha256": 1, "name": "x"}}, None),
        ({"system": "pictures", "verb": "train", "data": ["abc"]}, None),
        ({"system": "pictures", "verb": "generate", "n": "many"}, None),
        (
            {"system": "series", "verb": "forecast", "horizon": 9, "data": {"sha256": "0" * 64, "name": "x"}},
            {"horizon": 9},
        ),
        (
            {"system": "pictures", "verb": "generate", "image": {"file": None}, "strength": 1, "hash": "x"},
            {"strength": 1},
        ),
    ],
)
def test_a_recipe_is_read_by_the_schema_of_a_job(idle, recipe, request_again):
    facts = PngInfo()
    facts.add_itxt("inkwash", json.dumps(recipe))
    answer = idle.post("/api/recipe", files={"file": png(pnginfo=facts)})
    assert answer.status_code == (422 if request_again is None else 200)
    assert request_again is None or answer.json()["request"] == request_again


def test_an_account_that_is_closed_while_its_request_comes_in_does_nothing(studio):
    """All of a request but its last byte is sent; then the account is closed, and the last byte sent."""
    user = accounts.add_user(studio.store, "closed midway", None, admin=True)
    with httpx.Client(
        base_url=studio.url, headers={"authorization": f"Bearer {accounts.issue(studio.store, user.id, 'key')}"}
    ) as client:
        body = json.dumps({"name": "successor", "password": "long enough a password", "admin": True}).encode()
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
        with connected(studio) as raw:
            raw.sendall(head("POST", "/api/users", client, *lines) + body[:-1])
            time.sleep(0.5)
            accounts.change_user(studio.store, user.id, active=False)
            raw.sendall(body[-1:])
            assert raw.recv(12) == b"HTTP/1.1 401"
    assert accounts.find_user(studio.store, "successor") is None


def test_who_is_nobody_and_sends_slowly_is_answered_soon(studio, nobody):
    nobody.headers["authorization"] = "Bearer nothing"
    begun = time.monotonic()
    with connected(studio) as raw:
        raw.sendall(
            head("POST", "/api/uploads", nobody, "Content-Length: 1000000", "Content-Type: text/plain") + b"x"
        )
        assert raw.recv(12) == b"HTTP/1.1 401"
    assert time.monotonic() - begun < 10  # of the five minutes that others have
    with connected(studio) as raw:
        raw.sendall(head("POST", "/api/uploads", nobody, "Content-Length: 1000000", "Expect: 100-continue"))
        assert raw.recv(12) == b"HTTP/1.1 401"  # it is not asked to go on


def test_a_mistake_in_the_table_tells_the_log_no_words(tmp_path):
    from sqlalchemy.exc import IntegrityError, OperationalError

    from inkwash.studio.errors import is_disk_full

    store = inkwash_store(tmp_path / "home")
    user = accounts.local_user(store).id
    with store.writing() as tx:
        tx.exec_driver_sql("create trigger t before insert on jobs begin select raise(abort, 'no'); end")
    with pytest.raises(IntegrityError) as error:
        store.submit(user, asked(prompt="a unicorn; the disk is full"))
    assert "unicorn" not in str(error.value) and not is_disk_full(error.value)
    with closing(sqlite3.connect(":memory:")) as small, pytest.raises(sqlite3.OperationalError) as full:
        small.execute("pragma max_page_count=2")
        small.execute("create table t as select zeroblob(100000)")
    assert is_disk_full(full.value) and is_disk_full(OperationalError("insert", {}, full.value))
