"""One thread for every test: two spinning threads beside another busy process can cost a factor of forty."""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A saved model of pictures, small and random."""
    from tests.models import tiny

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny().save(folder)
    return folder
