"""The page as people use it: a real Chromium before a real studio.

Every visit records what the page asked for and what the console said, and fails at its end for a request to another
host, an error, a violation of the content security policy, or a dialog of the browser.
"""

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import wave
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from zipfile import ZipFile

import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update

from inkwash.codecs.png import KEY
from inkwash.studio import accounts
from inkwash.studio.app import PAGE
from inkwash.studio.database import new_id
from inkwash.studio.tables import jobs
from tests.house import path_with_points
from tests.studio.conftest import Running
from tests.studio.test_crash import workers_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install 'inkwash[dev]'")
expect = playwright.expect
expect.set_options(timeout=30_000)
pytestmark = pytest.mark.slow

CHROMIUMS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
PASSWORD = "correct horse battery"
EVIL = "<img src=x onerror=alert(1)> '\"$(id)`"
TEXTS = {name: json.loads((PAGE / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", "zh")}
EN, ZH = TEXTS["en"], TEXTS["zh"]
RING = 'task = "points"\n[fit]\nsteps = 400\nlearning_rate = 3e-3\nwarmup = 10\nema_decay = 0.9\n'
FAST = {"model": "emoji-fast", "steps": 1, "size": 64}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """One of its own, with the toy system: how often an address may try links and passwords is not shared with other
    tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path_with_points(tmp_path_factory.mktemp("site")))
        running = Running(tmp_path_factory.mktemp("page") / "home")
        yield running
        running.stop()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # those of the system, then Playwright's own
        paths = [*filter(None, map(shutil.which, CHROMIUMS)), driver.chromium.executable_path]
        if not (found := [path for path in paths if Path(path).exists()]):
            pytest.skip("the page is tested in Chromium, and there is none: apt install chromium")
        browser = driver.chromium.launch(executable_path=found[0], args=FLAGS)
        yield browser
        browser.close()


class Person:
    """A user of the studio, who has a browser and, to look behind the page, a key."""

    def __init__(self, studio, browser):
        self.studio, self.browser, self.contexts = studio, browser, []
        self.name = new_id()
        self.id = accounts.add_user(studio.store, self.name, PASSWORD).id
        self.api = httpx.Client(base_url=studio.url, timeout=60)
        self.renew_key()
        self.requests, self.errors, self.expected = [], [], []
        self.hosts = {urlsplit(studio.url).netloc}

    def renew_key(self):
        key = accounts.issue(self.studio.store, self.id, "key")
        self.api.headers["authorization"] = f"Bearer {key}"

    def stranger(self, **options):
        """A page of a browser that was never here."""
        context = self.browser.new_context(**{"locale": "en-GB"} | options)
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: self.errors.append(f"a dialog: {dialog.message}") or dialog.dismiss())
        return page

    def page(self, at=None, **options):
        """The studio's page, logged in."""
        page = self.stranger(**options)
        session = accounts.issue(self.studio.store, self.id, "session")
        cookie = {"name": f"inkwash-{urlsplit(self.studio.url).port}", "value": session, "url": self.studio.url}
        page.context.add_cookies([cookie])
        page.goto(at or self.studio.url)
        self.hosts.add(urlsplit(page.url).netloc)
        expect(page.locator("#verbs a").first).to_be_visible()
        return page

    def submit(self, path, **request):
        """A job that was submitted elsewhere, when it has ended."""
        job = self.api.post(f"/api/jobs/{path}", json=request).raise_for_status().json()
        job = self.api.get(f"/api/jobs/{job['id']}?wait=60").json()
        assert job["status"] == "done", job["error"]
        return job

    def draw(self, prompt, **options):
        """The pictures of a job that was submitted elsewhere."""
        results = self.submit("pictures/generate", prompt=prompt, **FAST | options)["results"]
        return [result for result in results if result["place"] is not None]

    def upload(self, name, data):
        """A file for a request."""
        (found,) = self.api.post("/api/uploads", files={"files": (name, data)}).raise_for_status().json()
        return {"sha256": found["sha256"], "name": name}

    def jobs(self, *status):
        return self.api.get("/api/jobs", params={"status": status}).json()

    def leave(self):
        for context in self.contexts:
            context.close()
        for job in self.jobs("queued", "running", "paused"):  # the next test finds the studio idle
            self.api.post(f"/api/jobs/{job['id']}/cancel")
        assert {url for url in self.requests if urlsplit(url).netloc not in self.hosts | {""}} == set()
        assert [e for e in self.errors if not any(words in e for words in self.expected)] == []


@pytest.fixture
def person(studio, browser):
    person = Person(studio, browser)
    yield person
    person.leave()


def fill(page, prompt, **settings):
    open_more(page)
    page.fill("[name=prompt]", prompt)
    for name, value in settings.items():
        page.fill(f"[name={name}]", str(value))


def open_more(page):
    page.locator("#create details").evaluate("(details) => (details.open = true)")


def ask_for(page, prompt, **settings):
    fill(page, prompt, **settings)
    page.click("#submit")
    card = page.locator(".job", has=page.locator("h3", has_text=prompt)).first
    expect(card).to_be_visible()
    return card


def drawn(card, n=4):
    """The addresses of the card's pictures, when all are there."""
    images = card.locator('.results img[src^="./api/results/"]:visible')
    expect(images).to_have_count(n, timeout=60_000)
    return [image.get_attribute("src") for image in images.all()]


def url_of(result):
    return result["files"][0]["url"]


def png(page, address):
    """The picture and its recipe, as the browser gets them."""
    data = page.request.get(urljoin(page.url, address)).body()
    picture = Image.open(BytesIO(data))
    assert picture.format == "PNG"
    picture.load()
    return picture, json.loads(picture.info.get(KEY, "null"))


def pixels(picture):
    return np.asarray(picture.convert("RGBA"))


def open_first(page):
    page.locator("#all .open").first.click()
    expect(page.locator("#result")).to_be_visible()
    return page.locator("#result")


# coming in


def link_of(studio):
    """A new one-time link of the user who started the studio."""
    user = accounts.local_user(studio.store)
    return f"{studio.url}/#token={accounts.issue(studio.store, user.id, 'link')}"


def test_the_link_lets_in_once(studio, person):
    link = link_of(studio)
    page = person.stranger()
    page.goto(link)
    expect(page.locator("#link .big")).to_have_text(EN["link.enter"])
    expect(page.locator("#login")).to_be_hidden()
    assert page.url == f"{studio.url}/"  # nothing of the link stays in the history
    page.reload()
    assert page.context.cookies() == []  # whoever fetches the address, as a preview does, uses nothing up
    page.click("#link .big")
    expect(page.locator("#studio")).to_be_visible()
    page.click("#who")
    expect(page.locator("#account h2")).to_have_text(EN["account.title"])
    expect(page.locator("#sign-out")).to_be_hidden()  # with no password one would not come back
    page.reload()
    expect(page.locator("#studio")).to_be_visible()
    person.expected.append("401")
    late = person.stranger()
    late.goto(studio.url)
    late.evaluate("(link) => (location = link)", link)  # into the page that is there
    late.click("#link .big")
    expect(late.locator("#used")).to_have_text(EN["login.used"])
    expect(late.locator("#login")).to_be_visible()
    expect(late.locator("#studio")).to_be_hidden()
    late.reload()
    expect(late.locator("#login")).to_be_visible()
    expect(late.locator("#used")).to_be_hidden()


def test_name_and_password_let_in_and_out(studio, person):
    person.expected.append("401")
    page = person.stranger()
    page.goto(studio.url)
    expect(page.locator("#entrance")).to_contain_text(EN["login.link"])
    page.get_by_label(EN["login.name"]).fill(person.name)
    page.get_by_label(EN["login.password"], exact=True).fill("not this one")
    page.click("#login .big")
    expect(page.locator("#login > .message")).to_have_text(EN["error.password"])
    page.get_by_label(EN["login.password"], exact=True).fill(PASSWORD)
    page.get_by_label(EN["login.password"], exact=True).press("Enter")
    expect(page.locator("#studio")).to_be_visible()
    expect(page.locator("#who")).to_have_text(person.name)
    session = page.context.cookies()[0]["value"]
    page.click("#who")
    page.click("#sign-out")
    expect(page.locator("#entrance")).to_be_visible()
    assert accounts.holder(studio.store, session, "session") is None
    page.reload()
    expect(page.locator("#entrance")).to_be_visible()
    expect(page.locator("#studio")).to_be_hidden()


def test_a_session_that_ends_shows_the_door_and_keeps_what_was_written(studio, person):
    page = person.page()
    with page.expect_response("**/api/plans/**"):  # the last that the page asks by itself
        page.fill("[name=prompt]", "half a thought")
    accounts.revoke(studio.store, page.context.cookies()[0]["value"])
    person.expected.append("401")
    page.click("#submit")
    expect(page.locator("#entrance")).to_be_visible()
    page.get_by_label(EN["login.name"]).fill(person.name)
    page.get_by_label(EN["login.password"], exact=True).fill(PASSWORD)
    page.click("#login .big")
    expect(page.locator("[name=prompt]")).to_have_value("half a thought")
    page.click("#submit")
    drawn(page.locator(".job"))


def log_in(page, name):
    page.get_by_label(EN["login.name"]).fill(name)
    page.get_by_label(EN["login.password"], exact=True).fill(PASSWORD)
    page.click("#login .big")
    expect(page.locator("#who")).to_have_text(name)


def test_who_signs_in_next_finds_nothing_of_who_was_there(studio, person):
    page = person.page()
    other = Person(studio, person.browser)
    with page.expect_response("**/api/plans/**"):  # the last that the page asks by itself
        page.fill("[name=prompt]", "a secret")
    accounts.revoke(studio.store, page.context.cookies()[0]["value"])
    person.expected.append("401")
    page.click("#submit")
    log_in(page, other.name)
    expect(page.locator("[name=prompt]")).to_have_value("")
    second = page.context.new_page()  # and what one tab does goes for all
    second.goto(studio.url)
    expect(second.locator("#who")).to_have_text(other.name)
    page.fill("[name=prompt]", "another secret")
    second.click("#who")
    second.click("#sign-out")
    expect(page.locator("#entrance")).to_be_visible()
    expect(page.locator("#studio")).to_be_hidden()
    log_in(second, person.name)
    expect(page.locator("#who")).to_have_text(person.name)
    expect(page.locator("[name=prompt]")).to_have_value("")


def test_the_disk_that_is_used_is_said_as_it_is(person, studio):
    accounts.change_user(studio.store, person.id, disk=10**7)
    page = person.page()
    page.click("#who")
    used = page.locator("#account .disk")
    before = used.inner_text()
    page.keyboard.press("Escape")
    drawn(ask_for(page, "a fox", n=4, steps=1))
    page.click("#who")
    expect(used).not_to_have_text(before)


def test_storage_that_is_forbidden_or_full(studio, person):
    broken = """for (const name of ["getItem", "setItem"])
        Storage.prototype[name] = () => { throw new DOMException("", "SecurityError"); };"""
    page = person.stranger()
    page.add_init_script(broken)
    person.expected.append("401")
    page.goto(studio.url)
    expect(page.locator("#login")).to_be_visible()
    page.click("#language")
    expect(page.locator("#login h2")).to_have_text(ZH["login.title"])


def test_texts_that_do_not_come_are_asked_for_again(studio, person):
    page = person.stranger()
    person.expected += ["401", "net::ERR_"]
    tries = []
    page.route("**/en.json", lambda route: route.continue_() if tries else tries.append(1) or route.abort())
    page.goto(studio.url)
    expect(page.locator("#login h2")).to_have_text(EN["login.title"])
    page.route("**/zh.json", lambda route: route.abort())
    page.click("#language")
    expect(page.locator("#language")).to_have_text("中文")


def test_an_account_has_a_password_and_keys(person):
    page = person.page()
    page.click("#who")
    account = page.locator("#account")
    old, new = (account.get_by_label(EN[f"password.{name}"]) for name in ("old", "new"))

    def change(first, second):
        old.fill(first)
        new.fill(second)
        account.get_by_text(EN["password.change"]).click()

    change(PASSWORD, "short")
    assert not new.evaluate("(input) => input.validity.valid")
    person.expected.append("401")
    change("not this one", "another battery")
    expect(account.locator(".password .message")).to_have_text(EN["password.wrong"])
    change(PASSWORD, "another battery")
    expect(account.locator(".password .message")).to_have_text(EN["password.changed"])
    person.renew_key()  # which the new password ended
    account.get_by_label(EN["keys.name"]).fill("my script")
    account.get_by_text(EN["keys.make"]).click()
    expect(account.locator("code")).to_have_text(re.compile("^ink-"))
    key = account.locator("code").inner_text()
    client = httpx.Client(base_url=person.studio.url, headers={"authorization": f"Bearer {key}"})
    assert client.get("/api/session").json()["name"] == person.name
    page.context.grant_permissions(["clipboard-read"])
    account.locator(".copy").click()
    page.wait_for_function("async (key) => await navigator.clipboard.readText() === key", arg=key)
    page.reload()  # with the account open, which stays so
    item = account.locator("li", has_text="my script")
    expect(item).to_be_visible()
    expect(account.locator("code")).to_be_hidden()
    item.locator(".delete").click()
    item.locator(".yes").click()
    expect(item).to_have_count(0)
    assert client.get("/api/session").status_code == 401
    page.keyboard.press("Escape")
    expect(account).to_be_hidden()
    late = person.stranger()
    late.goto(person.studio.url)
    late.get_by_label(EN["login.name"]).fill(person.name)
    late.get_by_label(EN["login.password"], exact=True).fill("another battery")
    late.click("#login .big")
    expect(late.locator("#studio")).to_be_visible()


def test_an_open_studio_says_that_it_is(tmp_path, browser):
    studio = Running(tmp_path / "home", "--open")
    try:
        person = Person(studio, browser)
        visitor = person.stranger()
        visitor.goto(studio.url)
        expect(visitor.locator("#guest")).to_contain_text(EN["guest.note"])
        expect(visitor.locator("#who")).to_be_hidden()
        expect(visitor.locator("#verbs a").first).to_be_visible()
        ask_for(visitor, "for everyone", n=1, steps=2)
        drawn(visitor.locator(".job"), 1)
        visitor.click("#sign-in")
        visitor.get_by_label(EN["login.name"]).fill(person.name)
        visitor.get_by_label(EN["login.password"], exact=True).fill(PASSWORD)
        visitor.click("#login .big")
        expect(visitor.locator("#who")).to_have_text(person.name)
        expect(visitor.locator("#guest")).to_be_hidden()
        expect(visitor.locator("#entrance")).to_be_hidden()
        expect(visitor.locator("#none")).to_be_visible()  # what one makes is one's own
        expect(visitor.locator(".job")).to_have_count(0)
        person.leave()
    finally:
        studio.stop()


def test_below_a_root_path_every_address_is(studio, person):
    """As behind a proxy that has the studio at /inkwash/."""
    page = person.page()

    def pass_on(route):
        url = route.request.url.replace("/inkwash/", "/", 1)
        if not route.request.is_navigation_request():
            return route.continue_(url=url)
        answer = route.fetch(url=url)
        route.fulfill(response=answer, body=answer.text().replace('<base href="/">', '<base href="/inkwash/">'))

    page.goto("about:blank")
    page.route("**/inkwash/**", pass_on)
    seen = len(person.requests)
    page.goto(f"{studio.url}/inkwash/#points/scatter")
    expect(page.locator("#verbs [aria-current]")).to_have_attribute("href", "#points/scatter")
    page.locator("#system").select_option("pictures")
    page.locator("#verbs a").nth(1).click()
    page.locator("#verbs a").nth(0).click()
    assert page.url == f"{studio.url}/inkwash/#pictures/generate"
    drawn(ask_for(page, "a tree", n=1, steps=2), 1)
    dialog = open_first(page)
    dialog.locator(".begin").click()
    expect(dialog.locator(".shared a")).to_contain_text(f"{studio.url}/inkwash/shared/")
    with page.expect_download() as download:
        dialog.get_by_text(EN["result.save"], exact=True).click()
    assert "/inkwash/api/results/" in download.value.url
    page.goto(f"{studio.url}/inkwash/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    asked = [urlsplit(url).path for url in person.requests[seen:] if url.startswith("http")]
    assert len(asked) > 30 and [path for path in asked if not path.startswith("/inkwash/")] == []


# drawing


def test_a_newcomer_is_told_what_it_draws_and_given_examples(person):
    page = person.page()
    expect(page.locator("#help")).to_contain_text(EN["help.model.emoji"])
    page.get_by_role("button", name=EN["examples.emoji"].split(" | ")[1]).click()
    expect(page.locator("[name=prompt]")).to_have_value("a penguin")
    page.click("#language")
    expect(page.locator("#help")).to_contain_text(ZH["help.model.emoji"])
    expect(page.locator(".examples")).to_be_hidden()
    page.fill("[name=prompt]", "")
    expect(page.locator(".examples button")).to_have_text(ZH["examples.emoji"].split(" | "))
    page.click("#language")
    cards = {model["name"]: model["about"] for model in person.api.get("/api/models").json()}
    assert cards["e2e"].startswith("Sentences about restaurants")
    show(page, "language/write")
    page.locator("#model select").select_option("e2e")
    expect(page.locator("#help")).to_contain_text(cards["e2e"])  # of others, what their cards say
    expect(page.locator(".examples")).to_have_count(0)


def test_four_pictures_appear_as_they_form(person):
    page = person.page()
    expect(page.locator("#none")).to_have_text(EN["results.none"])
    page.get_by_label(EN["choice.flat"], exact=True).check()
    fill(page, "a red fox", steps=100)
    page.press("[name=prompt]", "Enter")
    card = page.locator(".job")
    expect(card.locator("h3")).to_have_text("a red fox")
    for place in (0, 2):  # each forms before it is there
        forming = card.locator(".tile").nth(place).locator('img[src^="data:image/png;base64,"]')
        expect(forming).to_be_visible()
        preview = Image.open(BytesIO(base64.b64decode(forming.get_attribute("src").partition(",")[2])))
        assert preview.size == (64, 64)
        assert person.jobs("running")
        expect(card.locator(".tile")).to_have_count(4)
    expect(card.locator(".step")).to_contain_text(re.compile(r"[34] of 4 · step \d+ of 100 · \d+ seconds left"))
    assert 0.2 < card.locator("progress").evaluate("(bar) => bar.value") < 1
    addresses = drawn(card)
    expect(card.locator(".state")).to_have_text(EN["jobs.done"])
    expect(card.locator(".cancel")).to_be_hidden()
    recipes = [png(page, address)[1] for address in addresses]
    assert {(r["prompt"], r["style"], r["steps"]) for r in recipes} == {("a red fox", "flat", 100)}
    assert [r["seed"] - recipes[0]["seed"] for r in recipes] == [0, 1, 2, 3]
    assert png(page, addresses[0])[0].size == (256, 256)
    expect(page.locator("#all .tile")).to_have_count(4)  # and they are among all pictures, without a reload


def said_at(page, name):
    """What is said at a field of the form."""
    return page.locator(f"#create [data-field={name}] .message")


def test_what_cannot_be_is_said_at_its_field(person):
    page = person.page()
    fill(page, "a fox", steps=9999)
    page.locator("#create summary").click()  # folds the field away
    page.click("#submit")
    expect(said_at(page, "steps")).to_have_text("Please give a whole number from 1 to 1000.")
    expect(page.locator("[name=steps]")).to_be_focused()
    expect(page.locator("[name=steps]")).to_have_attribute("aria-invalid", "true")
    page.fill("[name=steps]", "2.5")
    page.click("#submit")
    expect(said_at(page, "steps")).to_have_text("Please give a whole number from 1 to 1000.")
    page.fill("[name=steps]", "")
    page.fill("[name=outpaint]", "0.2")
    person.expected.append("422")
    page.click("#submit")  # which only the studio knows to be wrong
    expect(said_at(page, "outpaint")).to_contain_text("image")
    expect(said_at(page, "steps")).to_be_empty()
    expect(page.locator("[name=outpaint]")).to_be_focused()
    assert person.jobs() == []


def test_numbers_are_read_right_or_refused(person):
    page = person.page()
    fill(page, "a fox", n="１", size=64, guidance="1,5", steps="1e1")
    page.click("#submit")
    expect(said_at(page, "guidance")).to_contain_text("Please give a number")
    for text in ("0x10", "1 000", "Infinity", "two"):
        page.fill("[name=guidance]", text)
        page.click("#submit")
        expect(said_at(page, "guidance")).to_contain_text("Please give a number")
    page.fill("[name=guidance]", "１．５")
    page.fill("[name=seed]", "-1")
    page.click("#submit")
    expect(said_at(page, "seed")).to_contain_text("Please give a whole number from 0 to")
    page.fill("[name=seed]", "７")
    page.click("#submit")
    drawn(page.locator(".job"), 1)
    (job,) = person.jobs()
    assert job["request"].items() >= {"n": 1, "size": 64, "guidance": 1.5, "steps": 10, "seed": 7}.items()


def test_seeds_that_javascript_would_round_are_refused_or_exact(person):
    person.draw("a large seed", n=1, seed=2**64 - 2)
    page = person.page()
    fill(page, "a fox", n=4, size=64, steps=1, seed=2**53 - 3)  # the fourth picture's would be 2^53
    page.click("#submit")
    expect(said_at(page, "seed")).to_have_text(f"Please give a whole number from 0 to {2**53 - 4}.")
    page.fill("[name=seed]", str(2**53 - 4))
    page.click("#submit")
    card = page.locator(".job", has_text="a fox")
    drawn(card)
    assert [result["recipe"]["seed"] for result in person.jobs()[0]["results"]] == [2**53 - 4 + i for i in range(4)]
    page.locator('#all .open[title="a large seed"]').click()
    page.locator("#result").get_by_text(EN["result.use"]).click()
    expect(page.locator("[name=seed]")).to_have_value(str(2**64 - 2))
    page.fill("[name=n]", "1")
    page.click("#submit")
    drawn(page.locator(".job"), 1)
    assert person.jobs()[0]["request"]["seed"] == 2**64 - 2
    person.expected.append("422")
    page.fill("[name=n]", "4")
    page.click("#submit")
    expect(page.locator("#create")).to_contain_text("choose a whole number from 0 to 2^64 - 4")


def test_enter_that_takes_a_chinese_word_draws_nothing(person):
    page = person.page()
    page.fill("[name=prompt]", "狐狸")
    typed = (
        "(field, composing) => field.dispatchEvent(new KeyboardEvent('keydown', {...how, isComposing: composing}))"
    )
    typed = typed.replace("...how", "key: 'Enter', bubbles: true, cancelable: true")
    assert page.locator("[name=prompt]").evaluate(typed, True)  # left to the input method
    expect(page.locator(".job")).to_have_count(0)
    assert not page.locator("[name=prompt]").evaluate(typed, False)
    expect(page.locator(".job")).to_have_count(1)


def test_a_reload_keeps_the_job(person):
    page = person.page()
    card = ask_for(page, "a yellow house", steps=100)
    expect(card.locator(".forming")).to_be_visible()
    page.reload()
    card = page.locator(".job")
    expect(card.locator("h3")).to_have_text("a yellow house")
    assert person.jobs("running")
    expect(card.locator(".forming")).to_be_visible()
    for address in drawn(card):
        assert png(page, address)[1]["prompt"] == "a yellow house"


class Wire:
    """Between browser and studio; it can be cut."""

    def __init__(self, url):
        self.port, self.ends, self.is_cut = urlsplit(url).port, [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.connect, daemon=True).start()

    def connect(self):
        while True:
            client, _ = self.listener.accept()
            if self.is_cut:
                client.close()
                continue
            ends = client, socket.create_connection(("127.0.0.1", self.port))
            self.ends += ends
            for one, other in (ends, ends[::-1]):
                threading.Thread(target=self.pass_on, args=(one, other), daemon=True).start()

    def pass_on(self, one, other):
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def cut(self):
        self.is_cut = True
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_lost_connection_is_mended(studio, person):
    wire = Wire(studio.url)
    page = person.page(at=wire.url)
    card = ask_for(page, "a rocket", steps=100)
    expect(card.locator(".forming")).to_be_visible()
    person.expected.append("net::ERR_")
    wire.cut()
    expect(page.locator("#gone")).to_have_text(EN["gone"])
    expect(page.locator("#gone")).to_be_visible()
    page.click("#submit")
    expect(page.locator("#create > .message")).to_have_text(EN["error.reach"])
    (job,) = person.jobs()
    assert job["status"] == "running"
    assert person.api.get(f"/api/jobs/{job['id']}?wait=60").json()["status"] == "done"  # while nobody listens
    expect(card.locator(".state")).to_have_text(EN["jobs.running"])
    wire.is_cut = False
    expect(page.locator("#gone")).to_be_hidden()
    drawn(card)
    expect(card.locator(".state")).to_have_text(EN["jobs.done"])
    expect(page.locator("#all .tile")).to_have_count(4)
    expect(page.locator("#create > .message")).to_be_empty()  # it can be reached
    assert len(person.jobs()) == 1


def test_what_could_not_be_fetched_is_fetched_again(person):
    person.draw("a fox", n=1)
    page = person.page()
    person.expected.append("net::ERR_")
    page.route("**/thumbnail", lambda route: route.abort())
    page.route("**/api/session", lambda route: route.abort())
    page.reload()
    expect(page.locator("#gone")).to_have_text(EN["gone"])
    expect(page.locator("#entrance")).to_be_hidden()
    page.unroute("**/api/session")
    image = page.locator("#all img")
    expect(image).to_have_js_property("complete", True)
    expect(image).to_have_js_property("naturalWidth", 0)
    expect(page.locator("#gone")).to_be_hidden()
    page.unroute("**/thumbnail")
    expect(image).to_have_js_property("naturalWidth", 64)


def test_a_database_that_is_busy_or_lost_is_said_in_ones_language(person):
    page = person.page()
    page.fill("[name=prompt]", "a fox")
    person.expected.append("503")

    def refuse(code):
        error = {"message": "in English", "type": "server_error", "param": None, "code": code}
        answer = {"status": 503, "json": {"error": error}, "headers": {"retry-after": "2"}}
        page.route("**/api/jobs/pictures/generate", lambda route: route.fulfill(**answer), times=1)
        page.click("#submit")

    refuse("busy")
    expect(page.locator("#create > .message")).to_have_text(EN["error.locked"].replace("{wait}", "2 seconds"))
    page.click("#language")
    refuse("database_lost")
    expect(page.locator("#create > .message")).to_have_text(ZH["error.lost"])


def test_offline_all_is_there_again_by_itself(person):
    page = person.page()
    card = ask_for(page, "a blue rocket", steps=100)
    expect(card.locator(".forming")).to_be_visible()
    person.expected.append("ERR_INTERNET_DISCONNECTED")
    page.context.set_offline(True)
    page.click("#submit")
    expect(page.locator("#create > .message")).to_have_text(EN["error.reach"])
    page.context.set_offline(False)
    drawn(card)


def test_a_studio_that_starts_anew_draws_on(tmp_path, browser):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    studio = Running(tmp_path / "home", "--port", str(port))
    try:
        person = Person(studio, browser)
        page = person.page()
        card = ask_for(page, "a green tree", steps=100)
        expect(card.locator(".open")).to_have_count(1)
        person.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"]
        studio.stop()
        expect(page.locator("#gone")).to_be_visible()
        studio.start()
        expect(page.locator("#gone")).to_be_hidden()
        drawn(card)
        person.leave()
    finally:
        studio.stop()


def test_pressing_again_after_a_lost_answer_draws_once(person):
    page = person.page()

    def lose(route):
        route.fetch()
        route.abort("connectionreset")

    page.route("**/api/jobs/pictures/generate", lose, times=1)
    person.expected.append("ERR_CONNECTION_RESET")
    fill(page, "a lone tree", steps=100)
    page.click("#submit")
    expect(page.locator("#create > .message")).to_have_text(EN["error.reach"])
    with page.expect_response("**/api/jobs/pictures/generate"):
        page.click("#submit")
    expect(page.locator("#create > .message")).to_be_empty()
    expect(page.locator(".job")).to_have_count(1)
    assert len(person.jobs()) == 1
    page.click("#submit")  # which is another wish
    expect(page.locator(".job")).to_have_count(2)


def test_the_queue_is_shown_and_jobs_are_cancelled(person):
    page = person.page()
    first = ask_for(page, "one apple", steps=200, n=10)
    expect(first.locator(".state")).to_have_text(EN["jobs.running"])
    second, third, fourth = (ask_for(page, f"{n} apples", n=4) for n in ("two", "three", "four"))
    expect(second.locator(".state")).to_have_text(EN["jobs.next"])
    expect(fourth.locator(".state")).to_have_text(EN["jobs.ahead"].replace("{position}", "2"))
    expect(second.locator(".step")).to_have_text(re.compile(r"about \d+ seconds?"))  # once it runs
    expect(fourth.locator(".results")).to_be_hidden()
    third.locator(".cancel").click()
    expect(third.locator(".state")).to_have_text(EN["jobs.cancelled"])
    expect(fourth.locator(".state")).to_have_text(EN["jobs.ahead"].replace("{position}", "1"))
    expect(first.locator(".open").first).to_be_visible()
    first.locator(".cancel").click()
    expect(first.locator(".state")).to_have_text(EN["jobs.cancelled"])
    kept = len(person.jobs()[-1]["results"])  # what was drawn
    assert 0 < kept < 10
    expect(first.locator(".tile")).to_have_count(kept)
    expect(second.locator(".state")).to_have_text(EN["jobs.running"])
    for card in (second, fourth):
        card.locator(".cancel").click()
        expect(card.locator(".cancel")).to_be_hidden()
    assert [job["status"] for job in person.jobs()] == 4 * ["cancelled"]


def test_the_jobs_of_programs_do_not_push_ones_own_out_of_sight(person):
    page = person.page()
    mine = ask_for(page, "my own", steps=1000, n=100)  # for longer than the test
    expect(mine.locator(".state")).to_have_text(EN["jobs.running"])
    for number in range(15):
        fox = {"prompt": f"of a program {number}", "steps": 200, "n": 10}
        person.api.post("/api/jobs/pictures/generate", json=fox).raise_for_status()
    fold = page.locator("#jobs .programs")
    expect(fold.locator("summary")).to_have_text(EN["jobs.programs"].replace("{n}", "12+"))
    page.reload()
    expect(fold.locator("summary")).to_have_text(EN["jobs.programs"].replace("{n}", "12+"))
    expect(page.locator(".job:visible")).to_have_count(1)
    expect(mine).to_be_visible()
    assert [job["api"] for job in person.jobs()] == 15 * ["api"] + ["page"]
    for job in person.jobs("queued")[2:]:
        person.api.post(f"/api/jobs/{job['id']}/cancel")
    expect(fold.locator("summary")).to_have_text(EN["jobs.programs"].replace("{n}", "2"))
    page.reload()  # news still on their way would put cards into the open fold
    expect(fold.locator("summary")).to_have_text(EN["jobs.programs"].replace("{n}", "2"))
    fold.locator("summary").click()
    expect(fold.locator(".job h3")).to_have_text(["of a program 14", "of a program 13"])


def test_words_of_jobs_that_made_nothing_are_found_and_deleted(studio, person):
    page = person.page()
    first, second = (ask_for(page, words, steps=200) for words in ("first words", "second words"))
    for card in (second, first):
        card.locator(".cancel").click()
        expect(card.locator(".state")).to_have_text(EN["jobs.cancelled"])
    first.locator(".delete").click()
    expect(first.locator(".sure")).to_contain_text(EN["jobs.sure"])
    first.locator(".yes").click()
    expect(first).to_have_count(0)
    (job,) = person.jobs()
    assert job["request"]["prompt"] == "second words"
    with studio.store.writing() as tx:
        tx.execute(update(jobs).where(jobs.c.id == job["id"]).values(status="failed", error="out of ink"))
    page.reload()
    expect(page.locator(".job")).to_have_count(0)
    page.get_by_text(EN["past.title"]).click()
    past = page.locator("#past .job")
    expect(past.locator("h3")).to_have_text("second words")
    expect(past.locator(".state")).to_have_text(EN["jobs.failed"].replace("{error}", "out of ink"))
    past.locator(".delete").click()
    past.locator(".yes").click()
    expect(page.locator("#past")).to_be_hidden()
    assert person.jobs() == [] and person.api.get(f"/api/jobs/{job['id']}").status_code == 404


def test_a_failure_and_a_spent_share_are_said_in_ones_language(studio, person):
    page = person.page()
    card = ask_for(page, "a lost cause", steps=200)
    expect(card.locator(".forming")).to_be_visible()
    with studio.store.writing() as tx:
        tx.execute(update(jobs).where(jobs.c.user_id == person.id).values(status="failed", error=EVIL))
    expect(card.locator(".state")).to_have_text(EN["jobs.failed"].replace("{error}", EVIL))
    accounts.change_user(studio.store, person.id, daily=2)
    person.expected.append("429")
    page.click("#submit")
    expect(page.locator("#create > .message")).to_have_text(EN["error.quota"].replace("{wait}", "24 hours"))
    page.click("#language")
    page.click("#submit")
    expect(page.locator("#create > .message")).to_have_text(ZH["error.quota"].replace("{wait}", "24小时"))
    expect(card.locator(".state")).to_have_text(ZH["jobs.failed"].replace("{error}", EVIL))


# results


def test_all_pictures_are_listed_and_found(studio, person):
    for prompt in ("red rocket", "blue rocket", "yellow house", "green tree", "red apple"):
        assert len(person.draw(prompt, n=10)) == 10
    with studio.store.writing() as tx:  # long ago: the stream does not tell of them
        tx.execute(update(jobs).where(jobs.c.user_id == person.id).values(changed=jobs.c.changed - 60))
    page = person.page(viewport={"width": 1000, "height": 600})
    tiles, search = page.locator("#all .tile"), page.locator("#search")
    expect(tiles).to_have_count(48)
    page.locator("#older").scroll_into_view_if_needed()
    expect(tiles).to_have_count(50)
    expect(page.locator("#older")).to_be_hidden()
    names = page.locator("#all img").evaluate_all("(images) => images.map((image) => image.alt)")
    newest_first = ("red apple", "green tree", "yellow house", "blue rocket", "red rocket")
    assert names == [name for name in newest_first for _ in range(10)]
    search.fill("rocket")
    expect(tiles).to_have_count(20)
    person.draw("green rocket", n=1, style="flat")  # comes by itself, as it has the word
    person.draw("yellow sun", n=1)
    expect(tiles).to_have_count(21)
    search.fill("ROCKET re")
    expect(tiles).to_have_count(11)
    search.fill("100%_")
    expect(tiles).to_have_count(0)
    expect(page.locator("#none")).to_have_text(EN["results.nothing"])
    search.fill("")
    expect(page.locator('#all img[alt="yellow sun"]')).to_be_visible()
    expect(page.locator("#all img").first).to_have_js_property("naturalWidth", 64)


def test_a_picture_and_its_recipe(person, tmp_path):
    style = {"style": "flat", "negative": "it's grey", "guidance": 2.5, "sampler": "ddim", "transparent": True}
    (made,) = person.draw('a "red" $fox', **FAST | style | {"model": "emoji", "steps": 5, "n": 1})
    page = person.page()
    page.locator("#all .open").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#result")
    expect(dialog.locator("h2")).to_have_text('a "red" $fox')
    terms = dialog.locator("dt").all_inner_texts()
    facts = dict(zip(terms, dialog.locator("dd").all_inner_texts(), strict=True))
    recipe = made["recipe"]
    shown = {
        EN.get(f"option.{key}", key.capitalize()): str(recipe[key])
        for key in ("negative", "seed", "steps", "guidance", "size", "sampler", "version")
    }
    assert facts.items() >= shown.items()
    assert facts["Style"] == EN["choice.flat"]
    assert recipe["hash"].startswith(facts[EN["option.hash"]])
    expect(dialog.locator("img")).to_have_css("image-rendering", "pixelated")
    with page.expect_download() as download:
        dialog.get_by_text(EN["result.save"], exact=True).click()
    saved = Image.open(download.value.path())
    assert json.loads(saved.info[KEY]) == recipe
    assert download.value.suggested_filename == made["files"][0]["name"]
    with page.expect_download() as download:
        dialog.get_by_text(EN["result.bare"], exact=True).click()
    assert b"fox" not in Path(download.value.path()).read_bytes()
    assert (pixels(Image.open(download.value.path())) == pixels(saved)).all()

    words = shlex.split(dialog.locator("code").inner_text())
    assert words[0] == "inkwash"
    again = tmp_path / "again.png"
    subprocess.run([sys.executable, "-m", *words, "--out", str(again)], check=True, timeout=120)
    assert (pixels(Image.open(again)) == pixels(saved)).all()

    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#all .open").first).to_be_focused()


def test_settings_are_used_again(person):
    how = {"style": "3d", "negative": "grey", "guidance": 2.5, "sampler": "ddim", "steps": 7, "size": 64}
    (made,) = person.draw("a blue cat", **FAST | how | {"model": "emoji", "n": 1})
    page = person.page()
    page.fill("[name=prompt]", "something else")
    open_first(page).get_by_text(EN["result.use"]).click()
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("[name=prompt]")).to_have_value("a blue cat")
    expect(page.get_by_label(EN["choice.3d"], exact=True)).to_be_checked()
    for name in ("negative", "guidance", "sampler", "steps", "size"):
        expect(page.locator(f"#create [name={name}]")).to_have_value(str(how[name]))
    page.click("#submit")
    first = drawn(page.locator(".job"))[0]
    assert (pixels(png(page, first)[0]) == pixels(png(page, url_of(made))[0])).all()


def test_a_png_dropped_on_the_page_gives_its_settings_back(person, tmp_path):
    (made,) = person.draw("a yellow sun", n=1, seed=12345, style="noto")
    page = person.page()
    data = person.api.get(url_of(made)).content
    drop_file(page, data)
    expect(page.locator("[name=prompt]")).to_have_value("a yellow sun")
    expect(page.locator("[name=seed]")).to_have_value("12345")
    expect(page.locator("#create [name=model]")).to_have_value("emoji-fast")
    expect(page.locator("#create > .message")).to_have_text(EN["form.recovered"].replace("{verb}", "Generate"))
    page.fill("[name=prompt]", "")
    (tmp_path / "sun.png").write_bytes(data)
    page.get_by_label(EN["form.recover"]).set_input_files(tmp_path / "sun.png")  # as one without a mouse does
    expect(page.locator("[name=prompt]")).to_have_value("a yellow sun")
    person.expected.append("422")
    drop_file(page, person.api.get(f"{url_of(made)}?recipe=false").content)
    expect(page.locator("#create > .message")).to_have_text(EN["error.recipe"])
    person.expected.append("400")
    drop_file(page, b"no picture at all")
    expect(page.locator("#create > .message")).to_have_text(EN["error.recipe"])
    assert page.url == f"{person.studio.url}/"


def drop_file(page, data, on="#results", name="dropped.png"):
    drop = """([base64, on, name]) => {
        const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt());
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, {type: name.endsWith("png") ? "image/png" : "text/csv"}));
        const how = {dataTransfer: transfer, bubbles: true, cancelable: true};
        const isOurs = (name) => !document.querySelector(on).dispatchEvent(new DragEvent(name, how));
        return ["dragover", "drop"].every(isOurs);
    }"""
    assert page.evaluate(
        drop, [base64.b64encode(data).decode(), on, name]
    )  # else the browser would open the file instead


def test_a_picture_is_deleted_when_one_is_sure(person):
    page = person.page()
    card = ask_for(page, "a short life", n=2, steps=2)
    last = drawn(card, 2)[1]
    dialog = open_first(page)
    dialog.locator(".delete").click()
    expect(dialog.locator(".sure")).to_contain_text(EN["delete.sure"])
    expect(dialog.locator(".no")).to_be_focused()
    dialog.locator(".no").click()
    expect(dialog.locator(".sure")).to_be_hidden()
    assert person.api.get(last).status_code == 200
    dialog.locator(".delete").click()
    dialog.locator(".yes").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#all .tile")).to_have_count(1)
    expect(card.locator(".tile")).to_have_count(1)
    assert person.api.get(last).status_code == 404
    page.reload()
    expect(page.locator("#all .tile")).to_have_count(1)


def test_a_picture_that_is_deleted_elsewhere_goes(person):
    (old,) = person.draw("an old one", n=1)
    page = person.page()
    card = ask_for(page, "a new one", n=2, steps=2, size=64)
    drawn(card, 2)
    (job,) = person.jobs()[:1]
    dialog = open_first(page)
    for result in job["results"]:
        person.api.delete(f"/api/results/{result['id']}")
    expect(dialog).to_be_hidden()
    expect(page.locator("#all .tile")).to_have_count(1)
    expect(card.locator(".tile")).to_have_count(0)
    person.api.delete(f"/api/results/{old['id']}")
    expect(page.locator("#all .tile")).to_have_count(0)
    expect(page.locator("#none")).to_be_visible()


def test_what_was_deleted_while_the_page_was_cut_off_goes(studio, person):
    made = person.draw("a fox", n=3)
    wire = Wire(studio.url)
    page = person.page(at=wire.url)
    expect(page.locator("#all .tile")).to_have_count(3)
    dialog = open_first(page)
    person.expected += ["net::ERR_", "404"]
    wire.cut()
    expect(page.locator("#gone")).to_be_visible()
    for result in made[1:]:
        person.api.delete(f"/api/results/{result['id']}")
    wire.is_cut = False
    expect(page.locator("#all .tile")).to_have_count(1)
    expect(dialog).to_be_hidden()


def test_a_job_that_is_deleted_elsewhere_goes(studio, person):
    wire = Wire(studio.url)
    page = person.page(at=wire.url)
    running = ask_for(page, "a slow fox", n=9, steps=200)
    waiting = ask_for(page, "a fox that waits", n=9, steps=200)
    person.expected += ["net::ERR_", "404"]
    wire.cut()
    expect(page.locator("#gone")).to_be_visible()
    for job in person.jobs():
        person.api.post(f"/api/jobs/{job['id']}/cancel")
        person.api.delete(f"/api/jobs/{job['id']}").raise_for_status()
    wire.is_cut = False
    expect(running).to_have_count(0)
    expect(waiting).to_have_count(0)
    card = ask_for(page, "a last fox", n=1, steps=1)
    drawn(card, 1)
    expect(card.locator(".delete")).to_be_visible()
    for job in person.jobs():
        person.api.delete(f"/api/jobs/{job['id']}").raise_for_status()
    card.locator(".delete").click()
    card.locator(".yes").click()
    expect(card).to_have_count(0)


def test_back_closes_a_picture(person):
    person.draw("a fox", n=1)
    page = person.page(viewport={"width": 390, "height": 844})
    show(page, "pictures/train")
    dialog = open_first(page)
    page.go_back()
    expect(dialog).to_be_hidden()
    assert page.url.endswith("#pictures/train")
    page.go_forward()
    expect(dialog).to_be_visible()
    page.reload()
    expect(dialog).to_be_visible()
    page.go_back()
    expect(dialog).to_be_hidden()
    open_first(page)
    dialog.locator(".close").click()
    expect(dialog).to_be_hidden()
    page.wait_for_function("() => !history.state")
    page.go_back()  # nothing of a closed picture is left before this
    expect(page.locator("#verbs [aria-current]")).to_have_attribute("href", "#pictures/generate")
    open_first(page)
    dialog.get_by_text(EN["result.use"]).click()
    expect(dialog).to_be_hidden()
    expect(page.locator("[name=prompt]")).to_have_value("a fox")
    expect(page.locator("[name=prompt]")).to_be_in_viewport()


def test_back_and_forward_after_a_picture_was_deleted(person):
    first, second = person.draw("a fox", n=2)
    page = person.page()
    person.expected.append("404")
    dialog = page.locator("#result")
    page.locator(f'#all [data-id="{first["id"]}"] .open').click()
    dialog.locator(".delete").click()
    dialog.locator(".yes").click()
    expect(dialog).to_be_hidden()
    page.wait_for_function("() => !history.state")
    page.go_forward()
    expect(page.locator("#results > .message")).to_have_text(EN["error.missing"])
    drop_file(page, person.api.get(url_of(second)).content)
    expect(page.locator("[name=prompt]")).to_have_value("a fox")
    open_first(page)
    page.reload()
    expect(dialog).to_be_visible()
    page.go_back()
    expect(dialog).to_be_hidden()


def test_back_leaves_an_address_that_names_nothing(person):
    page = person.page()
    page.goto("about:blank")
    page.goto(f"{person.studio.url}/#nothing/here")
    expect(page.locator("#verbs [aria-current]")).to_have_attribute("href", "#pictures/generate")
    page.go_back()
    expect(page).to_have_url("about:blank")


def test_text_that_is_marked_to_beyond_a_dialog_leaves_it_open(person):
    page = person.page()
    page.click("#who")
    box = page.locator("#account .keys p").first.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(5, 5)
    page.mouse.up()
    page.wait_for_timeout(200)
    expect(page.locator("#account")).to_be_visible()
    page.mouse.click(5, 5)
    expect(page.locator("#account")).to_be_hidden()


def test_the_way_out_of_a_picture_stays_in_sight(person):
    person.draw("a fox", n=1)
    page = person.page()
    scroll = """(dialog) => Math.max(...[dialog, ...dialog.querySelectorAll("div")].map((node) => {
        node.scrollTop = 1e6;
        return node.scrollTop;
    }))"""
    for width in (390, 820, 1440):
        page.set_viewport_size({"width": width, "height": 500})
        dialog = open_first(page)
        expect(dialog.locator("img")).to_have_js_property("complete", True)
        assert dialog.evaluate(scroll) > 50
        expect(dialog.locator(".close")).to_be_in_viewport(ratio=1)
        dialog.locator(".close").click()
        expect(dialog).to_be_hidden()


@pytest.mark.parametrize("words", [True, False])
def test_a_picture_is_shared_and_no_more(person, words):
    (made,) = person.draw("a secret garden", n=1)
    page = person.page()
    dialog = open_first(page)
    expect(dialog.locator(".shared")).to_be_hidden()
    dialog.get_by_label(EN["share.recipe"]).set_checked(words)
    dialog.locator(".begin").click()
    expect(dialog.locator(".shared a")).to_contain_text(f"{person.studio.url}/shared/")
    address = dialog.locator(".shared a").inner_text()
    # what Chromium itself shows a picture in has styles, which the policy forbids, and asks for an icon
    person.expected += ["Applying inline style", "404"]
    stranger = person.stranger()
    assert stranger.goto(address).headers["content-type"] == "image/png"
    assert stranger.locator("img").evaluate("(image) => image.naturalWidth") == 64
    picture, recipe = png(stranger, address)
    assert (pixels(picture) == pixels(png(page, url_of(made))[0])).all()
    assert recipe == (made["recipe"] if words else None)
    page.reload()  # with the result open, which stays so
    expect(dialog.locator(".shared a")).to_have_text(address)  # it is still known that it is shared, and how
    expect(dialog.get_by_label(EN["share.recipe"])).to_be_checked(checked=words)
    dialog.locator(".end").click()
    expect(dialog.locator(".begin")).to_be_visible()
    assert httpx.get(address).status_code == 404


# any system


def show(page, path):
    """The form of a verb of a system."""
    page.evaluate("(path) => (location.hash = path)", path)
    expect(page.locator("#verbs [aria-current]")).to_have_attribute("href", f"#{path}")


@pytest.fixture
def ring(person):
    """The name of a model of the toy system, which the person trained elsewhere."""
    recipe = person.upload("ring.toml", RING.replace("400", "50").encode())
    (result,) = person.submit("points/train", recipe=recipe)["results"]
    return result["model"]


def test_a_new_system_has_its_form(person):
    page = person.page()
    page.locator("#system").select_option("points")
    assert page.url.endswith("#points/scatter")
    page.reload()
    expect(page.locator("#verbs a")).to_have_text(["Scatter", "Train", "Evaluate"])
    expect(page.locator("#help")).to_have_text("Scatter points as a model has learned them.")
    open_more(page)
    count = page.get_by_label("Count")
    assert [count.get_attribute(name) for name in ("inputmode", "placeholder")] == ["numeric", "default: 500"]
    expect(count).to_have_accessible_description("How many points.")
    assert page.get_by_label("Sampler").locator("option").all_inner_texts() == [
        EN["form.default"], "heun", "ddim", "ancestral", "tuned",
    ]  # fmt: skip
    expect(page.locator("[name=shift]")).to_have_attribute("accept", "text/csv")
    expect(page.locator("#submit")).to_have_text("Scatter")
    page.click("#submit")
    expect(said_at(page, "model")).to_have_text(EN["form.no_model"])
    page.get_by_text("Train", exact=True).click()
    assert page.url.endswith("#points/train")
    page.go_back()
    expect(page.locator("#submit")).to_have_text("Scatter")
    assert person.jobs() == []


def test_a_model_is_trained_and_used_on_the_page(person, tmp_path):
    (tmp_path / "ring.toml").write_text(RING)
    (tmp_path / "shift.csv").write_text("5,0\n")
    page = person.page()
    show(page, "points/train")
    page.set_input_files("[name=recipe]", tmp_path / "ring.toml")
    expect(page.locator("[data-field=recipe] li")).to_contain_text("ring.toml")
    page.click("#submit")
    card = page.locator(".job")
    expect(card.locator("h3")).to_have_text("ring.toml")
    expect(card.locator(".tile strong")).to_have_text("ring")
    expect(card.locator(".state")).to_have_text(EN["jobs.done"])  # a checkpoint can be used before
    card.get_by_text(EN["model.use"]).click()
    expect(page.locator("#verbs [aria-current]")).to_have_attribute("href", "#points/scatter")
    chosen = page.locator("[name=model] option:checked")
    expect(chosen).to_have_text(re.compile(r"^ring · mine · [\d.]+ kB$"))
    names = page.get_by_label("Sampler").locator("option").all_inner_texts()
    assert names[1:] == ["heun", "ddim", "tuned"]  # as it allows
    page.fill("[name=count]", "50")
    page.fill("[name=seed]", str(2**53 - 1))
    drop_file(page, (tmp_path / "shift.csv").read_bytes(), "[data-field=shift]", "shift.csv")
    expect(page.locator("[data-field=shift] li")).to_contain_text("shift.csv")
    page.click("#submit")
    expect(card.locator(".kind")).to_have_text(["Points · Scatter · ring"])  # in the training's place
    expect(card.locator(".state")).to_have_text(EN["jobs.done"])
    job = person.jobs()[0]
    assert job["request"].items() >= {"model": "ring", "count": 50, "seed": 2**53 - 1, "sampler": None}.items()
    expect(page.locator("#all .tile")).to_have_count(2)  # the model, too
    dialog = open_first(page)
    (result,) = job["results"]
    assert dialog.locator("figcaption > :first-child").all_inner_texts() == [one["name"] for one in result["files"]]
    expect(dialog.locator("figure img")).to_have_js_property("naturalWidth", 64)
    for number, file in enumerate(result["files"]):
        with page.expect_download() as download:
            dialog.locator("figure").nth(number).get_by_text(EN["result.save"], exact=True).click()
        data = Path(download.value.path()).read_bytes()
        assert data == person.api.get(file["url"]).content
    expect(dialog.locator("figure pre")).to_have_text(data.decode())
    x = [float(line.split(",")[0]) for line in data.decode().splitlines()]
    assert len(x) == 50 and np.mean(x) > 4  # all are shifted
    expect(dialog.locator(".command")).to_be_hidden()  # a command line has not this model
    dialog.get_by_text(EN["result.use"]).click()
    expect(page.locator("[name=seed]")).to_have_value(str(2**53 - 1))
    expect(page.locator("[data-field=shift] li")).to_contain_text("shift.csv")
    page.get_by_text(EN["model.delete"]).click()
    page.locator("#model .yes").click()
    expect(page.locator("[name=model] option")).to_have_count(0)
    assert not any(model["owned"] for model in person.api.get("/api/models").json())


def test_a_training_is_paused_killed_resumed_and_stopped(studio, person, tmp_path):
    (tmp_path / "long.toml").write_text(RING.replace("400", "200000"))
    page = person.page()
    show(page, "points/train")
    page.set_input_files("[name=recipe]", tmp_path / "long.toml")
    page.click("#submit")
    card = page.locator(".job")
    expect(card.locator(".step")).to_contain_text(re.compile(r"step \d+ of 200000 · .* left"))
    card.locator(".pause").click()
    expect(card.locator(".state")).to_have_text(EN["jobs.paused"])
    expect(card.locator(".pause")).to_be_hidden()
    page.reload()
    expect(card.locator(".state")).to_have_text(EN["jobs.paused"])
    card.locator(".resume").click()
    expect(card.locator(".state")).to_have_text(EN["jobs.running"])
    expect(card.locator(".step")).to_contain_text("of 200000")
    (worker,) = workers_of(studio.process.pid)
    os.kill(worker, signal.SIGKILL)
    expect(card.locator(".state")).to_have_text(EN["jobs.running"])
    expect(card.locator(".step")).to_contain_text("of 200000")
    card.locator(".stop").click()
    expect(page.locator("#verbs [aria-current]")).to_have_attribute("href", "#points/scatter")
    expect(page.locator("[name=model]")).to_have_value("long")
    expect(card.locator(".state")).to_have_text(EN["jobs.done"])
    page.fill("[name=count]", "20")
    page.click("#submit")
    expect(page.locator(".job .tile img")).to_be_visible()


def test_a_zip_becomes_its_files(person, tmp_path):
    with ZipFile(tmp_path / "data.zip", "w") as archive:
        for name in ("a.txt", "inner/b.txt"):
            archive.writestr(name, name)
    page = person.page()
    show(page, "points/train")
    page.set_input_files("[name=data]", tmp_path / "data.zip")
    expect(page.locator("[data-field=data] li > :first-child")).to_have_text(["a.txt", "inner/b.txt"])
    page.click("#submit")
    card = page.locator(".job")
    expect(card.locator(".state")).to_contain_text("a recipe is needed")  # which the toy says
    (job,) = person.jobs()
    assert {file["name"]: file["sha256"] for file in job["request"]["data"]} == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.txt", "inner/b.txt")
    }
    page.get_by_role("button", name=EN["files.remove"].replace("{name}", "a.txt")).click()
    expect(page.locator("[data-field=data] li > :first-child")).to_have_text(["inner/b.txt"])


def test_a_table_is_shown_and_results_are_found_by_system(person, ring):
    person.submit("points/evaluate", model=ring, count=20)
    person.draw("a fox", n=1)
    page = person.page()
    expect(page.locator("#all .tile")).to_have_count(3)
    page.locator("#filter").select_option("points")
    expect(page.locator("#all .tile")).to_have_count(2)
    expect(page.locator("#all pre")).to_contain_text("| model |")
    dialog = open_first(page)
    expect(dialog.locator(".table")).to_contain_text("| noise |")
    expect(dialog.locator("figure pre")).to_contain_text('"noise"')


def test_a_model_narrows_what_can_be_chosen(person):
    page = person.page()
    open_more(page)
    systems = {system["name"]: system for system in person.api.get("/api/systems").json()}
    fields = {field["name"]: field for field in systems["pictures"]["verbs"][0]["fields"]}
    models = [model for model in person.api.get("/api/models").json() if model["system"] == "pictures"]
    assert len({json.dumps(model["limits"]["generate"]) for model in models}) > 1
    for model in models:
        page.locator("#model select").select_option(model["name"])
        limits = model["limits"]["generate"]
        expect(page.locator("input[name=style], select[name=style] option")).to_have_count(
            len(limits["style"]["choices"]) + 1
        )
        shown = page.locator("select[name=sampler] option").evaluate_all("(all) => all.map((one) => one.value)")
        assert shown[1:] == (limits.get("sampler", {}).get("choices") or fields["sampler"]["choices"])
        is_absent = limits.get("transparent", {}).get("absent", False)
        expect(page.locator("[name=transparent]")).to_be_visible(visible=not is_absent)
        for name in ("steps", "guidance"):
            usual = limits.get(name, {}).get("default")
            hint = "" if usual is None else EN["form.default_is"].replace("{value}", f"{usual:g}")
            expect(page.locator(f"[name={name}]")).to_have_attribute("placeholder", hint)


def test_what_it_will_take_is_said_if_it_is_known(person, ring):
    page = person.page()
    show(page, "points/scatter")
    with page.expect_response("**/api/plans/points/scatter") as unknown:
        page.get_by_label("Seed").fill("7")
    assert unknown.value.json()["seconds"] is None
    assert unknown.value.request.post_data_json == {"model": ring, "seed": 7}
    expect(page.locator("#plan")).to_be_empty()
    plan = {"seconds": 100.5, "bytes": None, "text": ""}
    page.route("**/api/plans/points/scatter", lambda route: route.fulfill(json=plan))
    page.get_by_label("Seed").fill("8")
    expect(page.locator("#plan")).to_have_text("about 2 minutes")
    page.click("#language")
    expect(page.locator("#plan")).to_have_text("约需2分钟")


def test_a_picture_is_varied_made_again_and_put_in(person):
    (made,) = person.draw("a red fox", n=1, seed=5)
    page = person.page()
    open_first(page).get_by_text(EN["result.vary"]).click()
    drawn(page.locator(".job"))
    varied = person.jobs()[0]["request"]
    assert varied["image"]["name"] == made["files"][0]["name"]
    assert varied["prompt"] == "a red fox" and varied["seed"] != 5
    page.locator(".job .again").click()
    expect(page.locator(".job")).to_have_count(2)
    drawn(page.locator(".job").first)
    again = person.jobs()[0]["request"]
    assert again | {"seed": 0} == varied | {"seed": 0} and again["seed"] != varied["seed"]
    page.reload()
    dialog = open_first(page)
    dialog.get_by_label(EN["result.use_as"]).select_option(label="Pictures · Generate · Mask")
    expect(dialog).to_be_hidden()
    expect(page.locator("[data-field=mask] li")).to_have_count(1)
    expect(page.locator("[data-field=image] li")).to_have_count(0)


def answer(data, media):
    return lambda route: route.fulfill(body=data, content_type=media)


def test_sound_film_and_text_are_shown_and_never_markup(person):
    """As some systems make them; here the wire is told so."""
    (made,) = person.draw("a fox", n=1)
    sound = BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    contents = {"audio/wav": sound.getvalue(), "video/mp4": b"", "text/csv": EVIL.encode()}
    results = []
    page = person.page()
    for number, (media, data) in enumerate(contents.items()):
        file = {"name": f"file-{number}", "media": media, "bytes": len(data), "url": f"/api/results/{number}/files/0"}
        results.append(made | {"id": str(number), "files": [file], "media": media, "thumbnail": None, "title": media})
        page.route(f"**{file['url']}", answer(data, media))
    page.route("**/api/results?*", lambda route: route.fulfill(json=results))
    page.route("**/share", lambda route: route.fulfill(json=None))
    page.reload()
    duration = """(audio) => new Promise((done, fail) => {
        Object.assign(audio, {onloadedmetadata: () => done(audio.duration), onerror: fail});
        audio.load(audio.preload = "metadata");
    })"""
    assert page.locator("#all audio").evaluate(duration) == 1
    expect(page.locator("#all video")).to_have_attribute("src", f".{results[1]['files'][0]['url']}")
    page.locator("#all .tile").last.scroll_into_view_if_needed()  # then it is fetched
    expect(page.locator("#all pre")).to_have_text(EVIL)
    page.locator("#all .open", has=page.locator("pre")).click()
    expect(page.locator("#result figure pre")).to_have_text(EVIL)
    page.keyboard.press("Escape")
    page.locator("#all .open", has=page.locator("video")).click()
    expect(page.locator("#result video")).to_have_js_property("controls", True)


# words


def test_both_languages_say_the_same_things():
    names = ("system.", "verb.", "option.", "choice.", "help.")  # in English they say themselves what they are
    assert list(EN) == [key for key in ZH if key in EN]
    assert all(key.startswith(names) for key in ZH if key not in EN)
    for key, text in EN.items():
        assert text.strip() and ZH[key].strip()
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", ZH[key])), key
    code = "".join(file.read_text(encoding="utf-8") for file in (*PAGE.glob("*.js"), PAGE / "index.html"))
    named = set(re.findall(r'data-(?:text|hint|label)="([^"]+)"|"((?:[a-z]+\.)+[a-z_]+)"', code))
    named = {one or other for one, other in named}
    assert {name for name in named if name not in EN} == set()
    computed = ("jobs.", "option.", "choice.", "model.", "hint.", "examples.", "help.")
    assert {key for key in EN if key not in named and not key.startswith(computed)} == set()


def test_the_language_is_the_browsers_and_can_be_changed(person):
    person.draw("a fox", n=1)
    page = person.page(locale="zh-CN")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(page.locator("#mine")).to_have_text(ZH["results.title"])
    expect(page.locator("[name=prompt]")).to_have_attribute("placeholder", ZH["hint.prompt"])
    card = ask_for(page, "一只狐狸", steps=200)
    expect(card.locator(".step")).to_contain_text("共 200 步")
    look_for_keys(page)
    page.click("#language")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("#mine")).to_have_text(EN["results.title"])
    expect(card.locator(".state")).to_have_text(EN["jobs.running"])
    expect(card.locator(".step")).to_contain_text("of 200")
    expect(page.locator("[name=prompt]")).to_have_value("一只狐狸")  # what was written stays
    page.reload()
    expect(page.locator("#mine")).to_have_text(EN["results.title"])  # remembered
    card.locator(".cancel").click()
    expect(card.locator(".state")).to_have_text(EN["jobs.cancelled"])
    open_first(page)
    look_for_keys(page)


def look_for_keys(page):
    """No text of the page is the name of a text."""
    everything = """() => [...document.querySelectorAll("body *")].flatMap((node) => [
        ...[...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data),
        ...["placeholder", "aria-label", "alt", "title"].map((name) => node.getAttribute(name) ?? ""),
    ]).map((text) => text.trim()).filter(Boolean)"""
    texts = page.evaluate(everything)
    assert len(texts) > 50
    assert [
        text
        for text in texts
        if re.fullmatch(r"(form|files|plan|jobs|model|results?|share|delete|login|error)\.\w+", text)
    ] == []
    empty = page.evaluate("() => [...document.querySelectorAll('[data-text]')].filter((n) => !n.textContent).length")
    assert empty == 0


def test_the_words_of_the_field_in_chinese(person):
    page = person.page(locale="zh-CN")
    open_more(page)
    for words in ("提示词", "反向提示词", "引导系数", "采样器", "随机种子"):
        expect(page.get_by_label(words, exact=True)).to_be_visible()
    page.get_by_label("步数").fill("9999")
    page.click("#submit")
    expect(said_at(page, "steps")).to_have_text("请填不小于 1 不大于 1000 的整数。")
    assert page.locator("#verbs a").all_inner_texts()[0] == page.locator("#submit").inner_text() == "生成"


def test_words_are_never_markup(person):
    page = person.page(locale="en-GB")
    card = ask_for(page, EVIL, n=1, steps=2, negative=EVIL)
    drawn(card, 1)
    expect(card.locator("h3")).to_have_text(EVIL)
    expect(page.locator("#all img")).to_have_attribute("alt", EVIL)
    dialog = open_first(page)
    expect(dialog.locator("h2")).to_have_text(EVIL)
    assert dialog.locator("dd").all_inner_texts().count(EVIL) == 1
    assert shlex.split(dialog.locator("code").inner_text())[-1] == EVIL
    dialog.get_by_text(EN["result.use"]).click()
    expect(page.locator("[name=prompt]")).to_have_value(EVIL)
    page.fill("#search", EVIL)
    page.reload()
    expect(page.locator("#all .tile")).to_have_count(1)
    assert page.locator('img[src="x"]').count() == 0  # a dialog, too, fails the visit


def test_nothing_in_the_page_is_inline_or_from_elsewhere():
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "//" not in re.sub(r"(^|\s)//\s", "", text), file.name
        if file.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text), file.name
        if file.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), file.name


# how it is used


def test_on_a_phone(person):
    person.draw("a fox", n=10)
    phone = {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 2,
    }
    page = person.page(**phone)
    page.tap("#create summary")
    page.fill("[name=prompt]", "fox " + "w" * 300)
    page.fill("[name=steps]", "20")
    page.tap("#submit")
    card = page.locator(".job")
    expect(card.locator(".forming")).to_be_visible()
    fits(page)
    # at one moment, for the card moves as the job goes on
    tops = card.locator(".tile").evaluate_all("(tiles) => tiles.map((tile) => tile.getBoundingClientRect().y)")
    assert tops[0] == tops[1] < tops[2]  # two beside each other
    drawn(card)
    fits(page)
    page.locator("#all .open").last.tap()
    dialog = page.locator("#result")
    expect(dialog).to_be_visible()
    dialog.locator(".begin").tap()
    dialog.locator(".delete").tap()
    expect(dialog.locator(".yes")).to_be_visible()
    fits(page)
    assert dialog.evaluate("(dialog) => dialog.scrollWidth <= dialog.clientWidth")
    expect(dialog.locator(".close")).to_be_in_viewport(ratio=1)  # however far down one is
    dialog.locator(".close").tap()
    expect(dialog).to_be_hidden()
    page.tap("#who")
    page.tap("#account .keys form button")
    expect(page.locator("#account code")).to_be_visible()
    fits(page)
    page.tap("#account .close")
    page.tap("#jobs .job .delete")
    fits(page)
    page.get_by_text(EN["choice.noto"], exact=True).tap()
    expect(page.get_by_label(EN["choice.noto"])).to_be_checked()
    person.expected.append("401")
    page.context.clear_cookies()
    page.reload()
    expect(page.locator("#entrance")).to_be_visible()
    fits(page)


def fits(page):
    """Nothing is beyond the right edge, and what is touched is large enough."""
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.evaluate("() => visualViewport.width") == 390  # the browser did not zoom out
    touched = "button, .button, .chip, .tab, summary, select, textarea, .check, "
    touched += "input:not([type=radio]):not([type=checkbox])"
    for node in page.locator(touched).locator("visible=true").all():
        box = node.bounding_box()
        assert box["height"] >= 44 and box["width"] >= 44, (node.inner_html(), box)
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, (node.inner_html(), box)


def test_by_keyboard_and_for_screen_readers(person):
    person.draw("a fox", n=1)
    page = person.page()
    expect(page.locator("[name=prompt]")).to_be_focused()
    expect(page.locator(".examples")).to_be_visible()
    page.keyboard.type("a tree")
    page.keyboard.press("Tab")  # past the examples, of which one has no need any more
    page.keyboard.press("ArrowRight")
    assert page.locator("[name=style]").nth(1).is_checked()
    outline = "(chip) => getComputedStyle(chip).outlineStyle"
    assert page.locator(".chip").nth(1).evaluate(outline) == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("[name=negative]")).to_be_visible()
    unnamed = """() => [...document.querySelectorAll("input, select, textarea, button, a, img, progress, section")]
        .filter((node) => !(node.labels?.length || node.ariaLabel || node.textContent.trim() || node.title
                            || node.getAttribute("aria-labelledby") || node.hasAttribute("alt")
                            || node.querySelector("img")?.alt || node.closest("[hidden]")))
        .map((node) => node.outerHTML)"""
    assert page.evaluate(unnamed) == []
    card = ask_for(page, "a tree", n=1, steps=2)
    drawn(card, 1)
    expect(card.get_by_role("status").filter(has_text=EN["jobs.done"])).to_be_visible()
    expect(page.get_by_role("img", name="a tree")).to_have_count(2)


def test_dark_and_still_as_the_system_is(person):
    page = person.page(color_scheme="light", reduced_motion="no-preference")
    paper = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    moves = "(button) => getComputedStyle(button).transitionDuration"
    ask_for(page, "a fox", n=1, steps=200)
    image = page.locator(".forming img")
    assert page.evaluate(paper) > 200
    assert image.evaluate(moves) != "0s"
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert page.evaluate(paper) < 60
    assert image.evaluate(moves) == "0s"


def test_the_reference_for_programs(studio, person):
    page = person.stranger()
    page.goto(f"{studio.url}/docs")
    expect(page.locator(".opblock-summary-path").first).to_be_visible()
    operations = [
        (method, path)
        for path, methods in person.api.get("/openapi.json").json()["paths"].items()
        for method in methods
    ]
    expect(page.locator(".opblock")).to_have_count(len(operations))
    page.locator(".opblock", has_text="/api/session").locator("button").first.click()
    expect(page.locator(".opblock.is-open")).to_contain_text("Who is logged in.")
