"""An engine on the page: that it draws elsewhere is said, in both languages; nothing of it where there is none."""

import pytest

from tests.studio.conftest import Running
from tests.studio.test_page import (
    EN,
    EVIL,
    ZH,
    ask_for,
    browser,  # noqa: F401
    drawn,
    expect,
    fill,
    open_more,
    person,  # noqa: F401
    png,
)
from tests.systems.engines import server
from tests.systems.engines.server import MODEL, as_json, color, draw

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine():
    with server.running() as found:
        yield found


@pytest.fixture(scope="module")
def studio(tmp_path_factory, engine):
    options = ("--engine", f"qwen={engine.url}#{MODEL}")
    running = Running(tmp_path_factory.mktemp("studio") / "home", *options)
    yield running
    running.stop()


def test_an_engine_draws_what_the_page_asks_for(person, engine):  # noqa: F811
    engine.answer = draw
    page = person.page()
    page.locator("#system").select_option("engines")
    expect(page.locator("#help")).to_contain_text("by an engine elsewhere: what you write")
    open_more(page)
    for name, usual in (("n", 1), ("width", 1024), ("height", 1024)):
        hint = EN["form.default_is"].replace("{value}", str(usual))
        expect(page.locator(f"[name={name}]")).to_have_attribute("placeholder", hint)
    (address,) = drawn(ask_for(page, "a fox", width=96, height=64, seed=7), n=1)
    picture, recipe = png(page, address)
    assert picture.size == (96, 64) and picture.getpixel((0, 0)) == color(7)
    assert (recipe["model"], recipe["engine"]) == ("qwen", MODEL)


def test_what_an_engine_says_of_an_error_is_text(person, engine):  # noqa: F811
    engine.answer = lambda asked: as_json({"detail": EVIL}, 400)
    page = person.page(at=f"{person.studio.url}/#engines/generate")
    fill(page, "a fox")
    page.click("#submit")
    expect(page.get_by_text(f"the engine qwen refuses this (400): {EVIL}")).to_be_visible()
    assert page.locator("img[src=x]").count() == 0


def test_in_chinese_it_is_said_that_the_engine_is_elsewhere(person):  # noqa: F811
    page = person.page(at=f"{person.studio.url}/#engines/generate", locale="zh-CN")
    expect(page.locator("#help")).to_contain_text(ZH["help.engines/generate"])
    chosen = page.locator("#system option:checked")
    expect(chosen).to_have_text(ZH["system.engines"])
    open_more(page)
    expect(page.get_by_label("高度", exact=True)).to_have_count(1)
