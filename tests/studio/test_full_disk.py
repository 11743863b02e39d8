"""A disk that is full, in truth: a file system of its own, of 32 MB."""

import io
import shutil
import subprocess
import time
from contextlib import closing

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.studio.conftest import Running, fox, sent

MOUNT = ["unshare", "--mount", "--map-root-user"]


def noise(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (900, 900, 3), np.uint8)).save(file, format="PNG")
    return file.getvalue()


class Small(Running):
    """A studio whose folder is a small file system that only it sees."""

    def command(self) -> list[str]:
        mount = f"mount -t tmpfs -o size=32m none {self.home} && exec "
        return [*MOUNT, "sh", "-c", mount + " ".join(super().command())]

    def client(self) -> httpx.Client:
        """One that the link has let in, as a browser is."""
        client = httpx.Client(base_url=self.url, headers={"origin": self.url}, timeout=60)
        assert client.post("/api/enter", json={"token": self.link.partition("#token=")[2]}).status_code == 200
        return client

    def grow(self) -> None:
        """Room is made, as if other files had been deleted."""
        inside = ["nsenter", "--target", str(self.process.pid), "--user", "--mount", "--preserve-credentials"]
        subprocess.run([*inside, "mount", "-o", "remount,size=256m", str(self.home)], check=True)


def may_mount() -> bool:
    probe = [*MOUNT, "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="this machine lets no user mount a file system")
def test_a_full_disk_takes_nothing_in_loses_nothing_and_goes_on_when_there_is_room(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    studio = Small(home)
    try:
        with closing(studio.client()) as client:
            kept = sent(client, noise(0))
            job = fox(client, steps=120, n=6, size=1024, image=kept, strength=1.0).json()["id"]
            answers = [client.post("/api/uploads", files={"files": noise(seed)}) for seed in range(1, 12)]
            assert answers[0].status_code == 201 and answers[-1].status_code == 507
            assert answers[-1].json()["error"]["code"] == "disk_full"
            until(lambda: fox(client).status_code == 507)
            until(lambda: client.get("/healthz").json()["status"] == "disk full")
            half = client.get(f"/api/jobs/{job}").json()
            assert half["status"] in ("queued", "running") and len(half["results"]) < 6
            for picture in half["results"]:  # whole, for all that
                Image.open(io.BytesIO(client.get(picture["files"][0]["url"]).content)).load()
            studio.grow()
            until(lambda: client.get(f"/api/jobs/{job}").json()["status"] == "done")
            done = client.get(f"/api/jobs/{job}").json()["results"]
            assert len(done) == 6 and done[: len(half["results"])] == half["results"]
            assert client.get("/healthz").json()["status"] == "ok"
    finally:
        studio.stop()


def until(true) -> None:
    end = time.monotonic() + 90
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
