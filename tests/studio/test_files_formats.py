"""Every format of `generate` in a studio: made, shown, saved with and without its recipe; and SVGs that come in."""

import json
import re
import time
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import inkwash
from inkwash.codecs.png import embedded_recipe
from inkwash.errors import UserError
from inkwash.systems.pictures import distance_fields
from tests.studio.conftest import fox, sent
from tests.studio.test_security import draw

WORDS = "a secret umbrella"
SHAPE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">{}<circle cx="12" cy="12" r="7"/></svg>'
MEDIA = {"png": "image/png", "webp": "image/webp", "ico": "image/x-icon", "svg": "image/svg+xml", "gif": "image/gif"}


@pytest.fixture
def me(studio):
    with studio.client() as client:
        yield client


def pixels(data):
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGBA"))


@pytest.mark.parametrize("format", ["svg", "webp", "ico", "png"])
def test_a_format_is_made_shown_and_saved_with_its_recipe_or_without(format, me):
    (result,) = draw(me, prompt=WORDS, model="icons", steps=1, seed=7, format=format)["results"]
    (file,) = result["files"]
    assert result["recipe"]["prompt"] == WORDS and file["media"] == MEDIA[format]
    answer, bare = me.get(file["url"]), me.get(f"{file['url']}?recipe=false")
    for one, name in ((answer, f"a-secret-umbrella-7.{format}"), (bare, f"image.{format}")):
        assert one.headers["content-type"] == MEDIA[format]
        assert one.headers["content-disposition"].startswith(f'attachment; filename="{name}"')
    recipe = embedded_recipe(answer.content)
    assert recipe["prompt"] == WORDS and recipe["model"] == "icons" and WORDS.encode() not in bare.content
    assert b"trainedAlgorithmicMedia" in bare.content
    with pytest.raises((KeyError, ValueError)):
        embedded_recipe(bare.content)
    if format == "svg":
        drawn, without = (ElementTree.fromstring(one.content) for one in (answer, bare))
        assert drawn[1].attrib == without[1].attrib and drawn[1].tag.endswith("path")
    else:
        assert (pixels(answer.content) == pixels(bare.content)).all()
        assert me.get(result["thumbnail"]).headers["content-type"] == "image/webp"
    read = me.post("/api/recipe", files={"file": (f"x.{format}", answer.content)}).json()
    assert (read["request"]["prompt"], read["request"].get("format", "png")) == (WORDS, format)


def test_an_svg_can_run_nothing_where_it_is_opened(me, studio):
    (result,) = draw(me, prompt=WORDS, model="icons", steps=1, format="svg")["results"]
    url = me.put(f"/api/results/{result['id']}/share", json={"recipe": False}).json()["url"]
    for address in (result["files"][0]["url"], url):
        headers = me.get(address).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "sandbox" in policy and "script" not in policy
        assert headers["content-disposition"].startswith("attachment")
        assert headers["x-content-type-options"] == "nosniff"
    assert WORDS.encode() not in me.get(url).content and result["thumbnail"] is None


def test_favicons_are_files_by_the_names_that_their_html_has(me):
    (result,) = draw(me, prompt=WORDS, model="icons", steps=1, seed=7, format="favicon")["results"]
    files = {file["name"]: file for file in result["files"]}
    html = me.get(files["favicon.html"]["url"])
    assert set(re.findall('href="/([^"]+)"', html.text)) < set(files) and html.headers["content-type"] != "text/html"
    assert result["files"][0]["name"] == "icon-512.png" and me.get(result["thumbnail"]).status_code == 200
    for name in ("favicon.ico", "favicon.svg", "icon-192.png"):
        assert embedded_recipe(me.get(files[name]["url"]).content)["prompt"] == WORDS
        assert WORDS.encode() not in me.get(f"{files[name]['url']}?recipe=false").content


def test_an_animation_goes_without_its_recipe_too(me):
    (result,) = draw(me, prompt=WORDS, to="a cat", n=2, steps=1)["results"]
    url = result["files"][0]["url"]
    whole, bare = me.get(url).content, me.get(f"{url}?recipe=false").content
    assert WORDS.encode() in whole and WORDS.encode() not in bare and b"trainedAlgorithmicMedia" in bare
    assert (pixels(whole) == pixels(bare)).all()


def test_pixels_are_no_svg_and_that_is_said_before_the_queue(me):
    answer = fox(me, format="svg")
    assert answer.status_code == 422 and "unknown format 'svg'" in answer.json()["error"]["message"]


# pictures to draw alike


def test_an_svg_is_drawn_alike_as_its_own_pixels_are(me, tmp_path):
    pytest.importorskip("resvg_py")
    (tmp_path / "disc.svg").write_text(SHAPE.format(""))
    file = BytesIO()
    distance_fields.open_svg(tmp_path / "disc.svg").save(file, "PNG")
    given = {"prompt": "", "model": "icons", "steps": 1, "seed": 3}
    pictures = []
    for name, data in (
        ("disc.svg", SHAPE.format("").encode()),
        ("any.name", SHAPE.format("").encode()),
        ("a.svg", file.getvalue()),
    ):
        (result,) = draw(me, **given, like=sent(me, data, name))["results"]
        pictures.append(pixels(me.get(result["files"][0]["url"]).content))
    assert all((one == pictures[0]).all() for one in pictures)
    assert fox(me, image=sent(me, SHAPE.format("").encode(), "disc.svg")).json()["error"]["code"] == "invalid_image"


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ('<image href="/etc/passwd"/>', "pictures or entities"),
        ('<svg:image href="http://localhost/"/>', "pictures or entities"),
        ("<!-- " + "x" * 1_000_000 + "-->", "more than 1 MB"),
        ("<g", "no SVG that can be read"),
    ],
)
def test_an_svg_that_is_broken_large_or_reaches_out_is_one_line(inner, words, me):
    pytest.importorskip("resvg_py")
    answer = fox(me, prompt="", model="icons", like=sent(me, SHAPE.format(inner).encode(), "a.svg"))
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400 and words in message and message.startswith("like: ") and "\n" not in message


def test_an_svg_that_asks_for_years_of_drawing_is_given_up(monkeypatch):
    """By a process of its own: what draws it lets no other thread of the studio's run."""
    pytest.importorskip("resvg_py")
    monkeypatch.setattr(distance_fields, "SVG_SECONDS", 1)
    uses = [f'<use href="#g{i}"/>' * 10 for i in range(6)]
    groups = "".join(f'<g id="g{i + 1}">{use}</g>' for i, use in enumerate(uses[:5]))
    bomb = SHAPE.format(f'<defs><rect id="g0" width="5" height="5"/>{groups}</defs><use href="#g5"/>')
    started = time.monotonic()
    with pytest.raises(UserError, match=r"a\.svg: an SVG that takes more than 1 s"):
        distance_fields.render_svg(bomb.encode(), "a.svg")
    assert time.monotonic() - started < 20


def test_a_program_sends_an_svg_and_saves_one(studio, tmp_path):
    pytest.importorskip("resvg_py")
    svg = tmp_path / "no ending"
    svg.write_text(SHAPE.format(""))
    with inkwash.Studio(studio.url, studio.key()) as client:
        given = {"model": "icons", "steps": 1, "seed": 3}
        pictures = [client.generate("", like=like, **given) for like in (svg, str(svg), BytesIO(svg.read_bytes()))]
        assert all((np.asarray(one) == np.asarray(pictures[0])).all() for one in pictures)
        (result,) = client.run("pictures", "generate", like=svg.read_bytes(), format="svg", **given)
        (file,) = result.save(tmp_path)
        recipe = json.loads(ElementTree.parse(file).getroot()[0].text)["inkwash"]
        assert file.suffix == ".svg" and (recipe["seed"], recipe["format"]) == (3, "svg")
        with pytest.raises(UserError, match="is an SVG, which has no pixels"):
            result.image()
        with pytest.raises(UserError, match="format = svg: take run"):
            client.generate("a fox", format="svg")
        with pytest.raises(UserError, match=r"nowhere\.svg: no such file"):
            client.generate("", like=tmp_path / "nowhere.svg", model="icons")
