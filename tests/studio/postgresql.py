"""A PostgreSQL server for tests, run by a user without rights, in a folder that goes with it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PASSWORD = "a long secret"


def programs() -> Path:
    """The folder of its programs; the test is skipped where there are none."""
    pytest.importorskip("psycopg")
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if os.name == "nt" or not places:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return places[-1]


class Cluster:
    """A server of databases, whose user `inkwash` may do all. From its socket no password is needed, from `port` of
    this machine one is. options: more of them."""

    def __init__(self, folder: Path, binaries: Path, *options: str) -> None:
        self.folder, self.binaries, self.options, self.count = folder, binaries, options, 0
        self.user = "nobody" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        access = ("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}")
        made = ("-D", folder / "data", "-U", "inkwash", "-E", "UTF8", "--locale=C", "--no-sync", *access)
        command = [binaries / "initdb", *made]
        subprocess.run(command, user=self.user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        self.start()

    def start(self) -> None:
        options = ["-k", self.folder, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [self.binaries / "postgres", "-D", self.folder / "data", *options, *self.options]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, user=self.user, cwd=self.folder, stdout=log, stderr=log)
        self.wait()

    def wait(self) -> None:
        import psycopg

        end = time.monotonic() + 60
        while True:
            try:
                return self.sql("select 1")
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """At once, as by a restart: connections are ended."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def sql(self, *statements: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def url(self, database: str, user: str = "inkwash") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def tcp(self, database: str, password: str = PASSWORD, user: str = "inkwash") -> str:
        return f"postgresql://{user}:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """The name of a new database."""
        self.count += 1
        name = f"studio{self.count}"
        self.sql(f"create database {name} template {template}")
        return name

    def drop(self, *names: str) -> None:
        self.sql(*(f"drop database if exists {name} with (force)" for name in names))


@contextmanager
def running(*options: str) -> Iterator[Cluster]:
    binaries = programs()
    folder = Path(
        tempfile.mkdtemp(prefix="pg-", dir="/tmp")
    )  # short, as a socket's path may not be long; nobody's way
    try:
        cluster = Cluster(folder, binaries, *options)
        try:
            yield cluster
        finally:
            with suppress(ProcessLookupError):
                cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
