"""Numbers and texts of requests, as all APIs take them."""

import base64
import io
import json
from dataclasses import MISSING

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient

from inkwash.studio import accounts
from inkwash.studio.app import create
from inkwash.studio.engine import Settings
from inkwash.studio.requests import Needs, chosen, lack, model_names
from inkwash.systems import systems
from inkwash.systems.base import options
from tests.models import wordless
from tests.studio.conftest import fox


def png():
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def me(quick):
    with httpx.Client(base_url=quick.url, headers=quick.headers) as client:
        yield client


TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
GENERATE, IMAGES = "/api/jobs/pictures/generate", "/v1/images/generations"
NUMBERS = [
    (GENERATE, "n"), (GENERATE, "seed"), (GENERATE, "steps"), (GENERATE, "guidance"),
    ("/api/plans/pictures/generate", "n"), ("/api/jobs/language/write", "temperature"),
    (IMAGES, "n"), (IMAGES, "seed"), (IMAGES, "steps"), (IMAGES, "guidance"), (IMAGES, "partial_images"),
    (IMAGES, "output_compression"), (TXT2IMG, "batch_size"), (TXT2IMG, "seed"), (TXT2IMG, "cfg_scale"),
    (TXT2IMG, "width"), (TXT2IMG, "eta"), (TXT2IMG, "s_noise"), (TXT2IMG, "hr_scale"), (TXT2IMG, "subseed_strength"),
    (IMG2IMG, "inpainting_fill"), (IMG2IMG, "resize_mode"), ("/api/users", "daily"), ("/api/users", "disk"),
]  # fmt: skip


def body(path):
    """What may be asked there, but for what no model has."""
    if path == "/api/users":
        return {"name": "anna", "password": "correct horse battery"}
    if path == IMG2IMG:
        return {"init_images": [base64.b64encode(png()).decode()]}
    return {} if "language" in path else {"prompt": "a fox"}


def message(answer):
    error = answer.json()
    return error["detail"] if "detail" in error else error["error"]["message"]


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(("path", "name"), NUMBERS)
def test_true_and_false_are_no_numbers(me, path, name, value):
    answer = me.post(path, json={**body(path), name: value})
    assert answer.status_code in (400, 422)
    assert message(answer) == f"{name}: a number is needed, not true or false"


@pytest.mark.parametrize("value", [2, 2.0, "2"])
def test_a_number_may_be_a_text_that_reads_so_wherever_it_comes_in(me, value):
    assert fox(me, n=value).json()["request"]["n"] == 2
    wrong = {"override_settings": {"sd_model_checkpoint": "none"}}  # what is complained of: the number is not
    assert "unknown model" in message(
        me.post(TXT2IMG, json={"prompt": "a fox", "batch_size": value, "eta": 1.0} | wrong)
    )
    assert "unknown model" in message(me.post(IMAGES, json={"prompt": "a fox", "n": value, "model": "none"}))
    form = {"data": {"prompt": "a fox", "n": "2", "model": "none"}, "files": {"image": png()}}
    assert "unknown model" in message(me.post("/v1/images/edits", **form))


@pytest.mark.parametrize("value", [2.5, "two", "", [2], {}])
def test_what_is_no_whole_number_is_none_anywhere(me, value):
    for path, name in ((GENERATE, "n"), (IMAGES, "n"), (TXT2IMG, "batch_size"), (TXT2IMG, "eta")):
        answer = me.post(path, json={**body(path), name: value})
        assert answer.status_code in (400, 422) and message(answer).startswith(f"{name}")


@pytest.mark.parametrize("path", [GENERATE, IMAGES, TXT2IMG])
@pytest.mark.parametrize("prompt", ["", " \n", "\u200b\u200d", "\u2060\u200e", "\x07\x1b", "\ufe0f", "\u3164\u2800"])
def test_a_prompt_of_which_nothing_can_be_seen_is_empty(me, path, prompt):
    answer = me.post(path, json={"prompt": prompt})
    assert answer.status_code in (400, 422) and "the prompt is empty" in message(answer)


@pytest.mark.parametrize("path", [GENERATE, IMAGES, TXT2IMG])
@pytest.mark.parametrize("prompt", ["\0", "a fox\0", "a\0fox"])
def test_no_text_has_the_sign_that_ends_texts(me, path, prompt):
    for order in (
        {"prompt": prompt},
        {"prompt": "a fox", "negative_prompt" if path != GENERATE else "negative": prompt},
    ):
        answer = me.post(path, json=order)
        assert answer.status_code in (400, 422) and "has the sign U+0000" in message(answer)


@pytest.mark.parametrize("prompt", ["👩‍👩‍👧", "❤️", "狐狸", "ثعلب", "a\u200bfox", "?"])
def test_what_can_be_seen_is_a_prompt(me, prompt):
    assert fox(me, prompt).json()["request"]["prompt"] == prompt


@pytest.mark.parametrize(
    ("path", "order"),
    [
        (GENERATE, {"n": 2}),
        (IMAGES, {"n": 2}),
        (TXT2IMG, {"batch_size": 2}),
    ],
)
def test_the_last_seed_is_one_as_in_python(me, path, order):
    answer = me.post(path, json={"prompt": "a fox", "seed": 2**64 - 1, **order})
    assert answer.status_code in (400, 422) and "from 0 to 2^64 - 2" in message(answer)
    assert fox(me, seed=2**64 - 2, n=2).json()["request"]["seed"] == 2**64 - 2


def test_names_and_words_with_that_sign_find_nothing_and_break_nothing(me):
    job = fox(me).json()["id"]
    assert me.get(f"/api/jobs/{job}?wait=20").json()["results"] and me.get("/api/results?words=a").json()
    for path in (
        "/api/results?words=a%00",
        "/api/results?words=x%00",  # what a fox ends with
        "/api/jobs?system=a%00",
        "/api/jobs?before=a%00",
        "/api/results?before=%00",
    ):
        assert me.get(path).json() == []
    for path in ("/api/jobs/a%00", "/api/results/a%00", "/v1/models/a%00", "/shared/a%00"):
        assert me.get(path).status_code == 404
    answer = me.post("/api/users", json={"name": "a\0b", "password": "correct horse battery"})
    assert answer.status_code == 422 and "a name has" in message(answer)


def test_a_model_without_words_is_asked_without_a_prompt(tmp_path):
    """A prompt is refused by each of the APIs, and what a model of words needs is not asked of it."""
    wordless(tmp_path / "shapes")
    app = create(Settings(tmp_path / "home", port=80, models=(str(tmp_path / "shapes"),)))
    store = app.state.engine.store
    key = accounts.issue(store, accounts.local_user(store).id, "key")
    client = TestClient(app, base_url="http://localhost", headers={"authorization": f"Bearer {key}"})
    (model,) = (one["name"] for one in client.get("/api/models").json() if "shapes" in one["name"])
    assert client.post(GENERATE, json={"model": model, "n": 2}).status_code == 202
    assert "the prompt is empty" in message(client.post(GENERATE, json={}))
    for path in (GENERATE, IMAGES, TXT2IMG):
        named = {"override_settings": {"sd_model_checkpoint": model}} if path == TXT2IMG else {"model": model}
        answer = client.post(path, json={"prompt": "a fox", **named})
        assert answer.status_code in (400, 422) and "prompt means nothing with the model shapes" in message(answer)


def test_an_animation_has_as_many_pictures_as_are_asked_for(me):
    """8 if it is not said: what is counted is what is made."""
    film = {"prompt": "a fox", "to": "a cat"}
    assert "n = 1: from one prompt to another" in message(me.post(GENERATE, json=film | {"n": 1}))
    eight, sixteen = (me.post("/api/plans/pictures/generate", json=film | n).json()["bytes"] for n in ({}, {"n": 16}))
    assert sixteen == 2 * eight


# what a worker must have for them


def test_a_worker_of_another_version_or_with_other_models_says_what_it_lacks():
    request = systems()["pictures"].verbs["generate"].request(prompt="a fox", steps=30)
    needs = Needs("pictures", "generate", chosen(request), {"emoji": "a" * 64})
    assert {"prompt", "steps"} <= {*needs.options} <= {"prompt", "steps", "n"} and model_names(request) == ["emoji"]
    for other, hashes, lost in (
        (needs, {"a" * 64}, ""),
        (needs, {"b" * 64}, "the model emoji (aaaaaaaaaa)"),
        (needs._replace(options=["prompt", "sparkle"]), {"a" * 64}, "pictures generate of another version"),
        (needs._replace(verb="sing"), {"a" * 64}, "pictures sing of another version"),
        (needs._replace(system="songs"), {"a" * 64}, "songs generate of another version"),
    ):
        assert ", ".join(lack(json.dumps(other._asdict()), hashes)).startswith(lost)
        assert bool(lack(json.dumps(other._asdict()), hashes)) == bool(lost)
    upscaler = systems()["restoration"].verbs if "restoration" in systems() else {}
    for verb in upscaler.values():
        fields = options(verb.request)
        if "beside" in fields:
            names = {name: "a" for name, option in fields.items() if option.default is MISSING}
            assert model_names(verb.request(**names, beside=("b", "c")))[-2:] == ["b", "c"]
