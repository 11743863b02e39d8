"""Other tools' checkpoints on the page: their own system, options and limits; nothing of it where there are none."""

import pytest

from tests.networks.test_stable_diffusion import folders  # noqa: F401
from tests.studio.conftest import Running
from tests.studio.test_page import (
    EN,
    ZH,
    ask_for,
    browser,  # noqa: F401
    drawn,
    expect,
    fill,
    open_first,
    open_more,
    person,  # noqa: F401
    png,
    said_at,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def studio(tmp_path_factory, folders):  # noqa: F811
    running = Running(tmp_path_factory.mktemp("studio") / "home", "--model", str(folders["sd1"]))
    yield running
    running.stop()


def systems_of(page):
    return page.locator("#system option").evaluate_all("(all) => all.map((one) => one.value)")


def test_checkpoints_are_drawn_with_their_own_options(person):  # noqa: F811
    page = person.page()
    assert "checkpoints" in systems_of(page)
    page.locator("#system").select_option("checkpoints")
    assert page.url.endswith("#checkpoints/generate")
    expect(page.locator("#help")).to_contain_text("by another tool's checkpoint")
    open_more(page)
    (system,) = [one for one in person.api.get("/api/systems").json() if one["name"] == "checkpoints"]
    (verb,) = system["verbs"]
    (model,) = [one for one in person.api.get("/api/models").json() if one["system"] == "checkpoints"]
    limits = model["limits"]["generate"]
    for field in verb["fields"]:
        is_absent = limits.get(field["name"], {}).get("absent", False)
        expect(page.locator(f"#create [name={field['name']}]").first).to_be_visible(visible=not is_absent)
    for name, usual in (("n", 1), ("steps", 25), ("guidance", 7), ("size", 64), ("clip_skip", 0)):
        hint = EN["form.default_is"].replace("{value}", str(usual))
        expect(page.locator(f"[name={name}]")).to_have_attribute("placeholder", hint)
    grids = page.locator("select[name=grid] option").evaluate_all("(all) => all.map((one) => one.value)")
    assert grids[1:] == limits["grid"]["choices"]
    person.expected.append("422")
    fill(page, "a fox", width=60, height=64, steps=2)
    page.click("#submit")
    expect(said_at(page, "width")).to_contain_text("choose a multiple of 8")
    (address,) = drawn(ask_for(page, "a fox", width=96, height=64, steps=2, clip_skip=1, seed=7), n=1)
    picture, recipe = png(page, address)
    assert picture.size == (96, 64) and (recipe["model"], recipe["clip_skip"], recipe["seed"]) == ("sd1", 1, 7)
    dialog = open_first(page)
    expect(dialog.locator("code")).to_contain_text("inkwash checkpoints generate --model sd1 --seed 7")
    dialog.get_by_text(EN["result.use"]).click()
    assert [page.locator(f"[name={name}]").input_value() for name in ("width", "height", "clip_skip")] == [
        "96",
        "64",
        "1",
    ]


def test_checkpoints_in_chinese(person):  # noqa: F811
    page = person.page(at=f"{person.studio.url}/#checkpoints/generate", locale="zh-CN")
    expect(page.locator("#help")).to_contain_text(ZH["help.checkpoints/generate"])
    (system,) = [one for one in person.api.get("/api/systems").json() if one["name"] == "checkpoints"]
    for field in system["verbs"][0]["fields"]:
        assert ZH[f"option.{field['name']}"]
        assert f"help.{field['name']}" in ZH or field["name"] == "model"
    expect(page.get_by_label("高度", exact=True)).to_have_count(1)


def test_without_a_checkpoint_there_is_no_such_system(person):  # noqa: F811
    page = person.page(at=f"{person.studio.url}/#checkpoints/generate")
    assert "checkpoints" in systems_of(page) and page.url.endswith("#checkpoints/generate")
    others = [one for one in person.api.get("/api/models").json() if one["system"] != "checkpoints"]
    page.route("**/api/models", lambda route: route.fulfill(json=others))
    page.reload()
    expect(page.locator("#submit")).to_be_visible()
    expect(page.locator("#system")).to_have_value("pictures")
    assert "checkpoints" not in systems_of(page) and not page.url.endswith("#checkpoints/generate")
    found = page.locator("#filter option").evaluate_all("(all) => all.map((one) => one.value)")
    assert "checkpoints" not in found and "pictures" in found
