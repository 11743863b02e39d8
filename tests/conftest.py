"""One thread for every test: two spinning threads beside another busy process can cost a factor of forty."""

import os
import subprocess
from functools import cache, partial
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")
ROOT, UNTRACKED = Path(__file__).parents[1], pytest.StashKey[set[str]]()


def untracked() -> set[str]:
    """The files in this repository that git neither knows nor ignores."""
    command = ["git", "-C", str(ROOT), "ls-files", "--others", "--exclude-standard"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def watches(session) -> bool:
    """Whether this process is no worker, and this folder a repository."""
    return (ROOT / ".git").exists() and not hasattr(session.config, "workerinput")


def pytest_sessionstart(session):
    if watches(session):
        session.config.stash[UNTRACKED] = untracked()


def pytest_sessionfinish(session):
    if watches(session) and (left := untracked() - session.config.stash[UNTRACKED]):
        pytest.exit(f"the tests left files in the repository: {', '.join(sorted(left))}", returncode=1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A saved model of pictures, small and random."""
    from tests.models import tiny

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny().save(folder)
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder for what is made once for all workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def writer(shared):
    """Makes writers of the toy language."""
    from tests.systems.language import toy

    return cache(partial(toy.writer, shared))


@pytest.fixture(scope="session")
def read(shared):
    """Makes writers of the toy language with a classifier."""
    from tests.systems.language import toy

    return cache(partial(toy.read, shared))
