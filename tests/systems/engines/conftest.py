import pytest

from inkwash.systems.engines import client
from inkwash.systems.engines.addresses import ADDRESSES, KEYS, Address
from inkwash.systems.engines.model import Engine
from tests.systems.engines import server


@pytest.fixture
def images(monkeypatch):
    """A server of the protocol. Nothing is waited for long."""
    for name in (ADDRESSES, KEYS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "BEAT", 0.01)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    with server.running() as found:
        yield found


@pytest.fixture
def engine(images):
    return Engine("qwen", Address(images.url, server.MODEL), "sk-secret")
