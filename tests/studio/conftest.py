"""A studio that runs as users run it: `inkwash studio` in a process of its own, with the shipped models."""

import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from inkwash.studio import accounts
from inkwash.studio.store import Store


class Running:
    """A studio, at `url`. Its data can be looked at through `store`, too."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home, self.options = home, options
        self.start()
        self.store = Store(home)

    def start(self) -> None:
        command = [sys.executable, "-m", "inkwash", "studio", "--home", str(self.home), "--port", "0", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.link = re.search(r"http\S+", self.process.stdout.readline())[0]
        self.url = self.link.partition("/?")[0]
        for _ in range(600):
            try:
                if httpx.get(f"{self.url}/healthz").json()["workers"]:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise TimeoutError("the studio does not start")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def key(self, name: str = accounts.LOCAL) -> str:
        """A new key of the user, who is made if there is none."""
        user = accounts.find_user(self.store, name) or accounts.add_user(self.store, name, "correct horse battery")
        return accounts.issue(self.store, user.id, "key")

    def client(self, name: str = accounts.LOCAL) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key(name)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("studio") / "home")
    yield running
    running.stop()
