"""Where engines are, and their keys: what is taken, and what is refused without showing a secret."""

import pytest

from inkwash.errors import UserError
from inkwash.systems.engines.addresses import ADDRESSES, KEYS, Address, find, keys, known, parse


def test_an_address_is_a_name_a_url_and_a_model(monkeypatch):
    found = parse(["qwen=http://host:8000/v1/#Qwen/Qwen-Image", "flux.2=https://[::1]/api#flux"])
    assert found == {
        "qwen": Address("http://host:8000/v1", "Qwen/Qwen-Image"),
        "flux.2": Address("https://[::1]/api", "flux"),
    }
    monkeypatch.setenv(ADDRESSES, " a=http://x/v1#one\n b=http://y/v1#two ")
    assert known() == {"a": Address("http://x/v1", "one"), "b": Address("http://y/v1", "two")}


@pytest.mark.parametrize(
    "text",
    [
        "", "qwen", "qwen=", "qwen=http://host/v1", "qwen=http://host/v1#", "=http://host/v1#m", "../x=http://h/v1#m",
        "q/w=http://h/v1#m", "qwen=ftp://host/v1#m", "qwen=file:///etc/passwd#m", "qwen=http:///v1#m",
        "qwen=http://host/v1?a=b#m", "qwen=http://ho st/v1#m", "qwen=http://host/v1#m n", ".=http://h/v1#m",
        "qwen=http://h:99999/v1#m", "qwen=http://h:x/v1#m", "qwen=http://[::1/v1#m", "qwen=http://hö/v1#m", "qwen=http://:8/v1#m",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UserError, match="NAME=URL#MODEL is needed"):
        parse([text])


@pytest.mark.parametrize("text", ["qwen=http://me:hunter2@host/v1#m", "http://me:hunter2@host/v1"])
def test_a_password_in_an_address_is_refused_and_not_shown(text):
    with pytest.raises(UserError) as error:
        parse([text])
    assert "no name or password stands in an address" in str(error.value) and "hunter2" not in str(error.value)


def test_a_name_stands_for_one_engine():
    with pytest.raises(UserError, match="engine a: given twice"):
        parse(["a=http://x/v1#m", "a=http://y/v1#m"])


def test_keys_are_found_by_name(monkeypatch):
    monkeypatch.setenv(KEYS, "a=sk-1== b=sk-2")
    assert keys(["a", "b", "c"]) == {"a": "sk-1==", "b": "sk-2"}
    monkeypatch.delenv(KEYS)
    assert keys([]) == {}


def test_an_engine_has_one_key(monkeypatch):
    monkeypatch.setenv(KEYS, "a=sk-secret a=sk-other")
    with pytest.raises(UserError, match="INKWASH_ENGINE_KEYS: a has two keys"):
        keys(["a"])


@pytest.mark.parametrize("text", ["sk-secret", "sk-secret==", "a=", "a=sécret", "b=secret"])
def test_what_is_no_key_is_refused_and_not_shown(monkeypatch, text):
    monkeypatch.setenv(KEYS, f"a=good {text}")
    with pytest.raises(
        UserError, match=r"INKWASH_ENGINE_KEYS: word 2 is no NAME=KEY of an engine \(known: a\)"
    ) as error:
        keys(["a"])
    assert "cret" not in str(error.value)


def test_an_engine_is_the_one_of_the_environment(monkeypatch):
    monkeypatch.setenv(ADDRESSES, "a=http://x/v1#one b=http://y/v1#two")
    monkeypatch.setenv(KEYS, "b=sk-2")
    assert find("a", "one") == (Address("http://x/v1", "one"), "")
    assert find("b", "two") == (Address("http://y/v1", "two"), "sk-2")
    with pytest.raises(UserError, match="the engine c is not known here"):
        find("c", "one")
    with pytest.raises(UserError, match="the engine a is another here: it draws by one, not by two"):
        find("a", "two")
