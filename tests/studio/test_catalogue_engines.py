"""An engine beside a studio: its model among the others, by three APIs, by the clients that others use. The studio
keeps queue, gallery and recipes; the pictures are drawn elsewhere, here by a small server of the protocol."""

import base64
import io
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import openai
import pytest
import webuiapi
from PIL import Image

import inkwash
from inkwash.cli import main
from inkwash.codecs.png import LABEL, embedded_recipe
from inkwash.systems.engines.addresses import ADDRESSES, KEYS
from tests.studio import machines
from tests.studio.conftest import Running
from tests.systems.engines import server
from tests.systems.engines.server import MODEL, Answer, as_json, color, draw

pytestmark = pytest.mark.slow
SECRET = "sk-very-secret"
SIZE = {"width": 32, "height": 16}
HTML = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def engine():
    with server.running() as found:
        yield found


@pytest.fixture(autouse=True)
def as_usual(engine):
    """What a test makes of the server is the next one's no more."""
    engine.answer = draw
    engine.asked.clear()


@pytest.fixture(scope="module")
def studio(tmp_path_factory, engine):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEYS, f"qwen={SECRET}")
        options = ("--engine", f"qwen={engine.url}#{MODEL}", "--alias", "dall-e-3=qwen")
        running = Running(tmp_path_factory.mktemp("studio") / "home", *options)
        yield running
        running.stop()


@pytest.fixture(scope="module")
def web(studio):
    with studio.client() as client:
        yield client


@pytest.fixture(scope="module")
def client(studio):
    return openai.OpenAI(base_url=f"{studio.url}/v1", api_key=studio.key(), max_retries=0)


@pytest.fixture(scope="module")
def api(studio):
    port = int(studio.url.rpartition(":")[2])
    return webuiapi.WebUIApi(port=port, username="anyone", password=studio.key())


def start(web, **request):
    answer = web.post("/api/jobs/engines/generate", json={"prompt": "a fox", "model": "qwen", **SIZE, **request})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def ended(web, job):
    return web.get(f"/api/jobs/{job}", params={"wait": 60}).json()


def content_of(file):
    with suppress(FileNotFoundError):  # of a job that has just ended
        return file.read_bytes()
    return b""


def wait_until(condition):
    """What the condition brings once it brings something."""
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.02)
    raise TimeoutError


def decoded(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def png(size):
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, format="PNG")
    file.seek(0)
    file.name = "photo.png"
    return file


# the model


def test_the_model_is_one_of_the_list(web):
    (model,) = [one for one in web.get("/api/models").json() if one["system"] == "engines"]
    assert (model["name"], model["aliases"], model["owned"]) == ("qwen", ["dall-e-3"], False)
    assert model["makes"] == f"pictures from words, drawn elsewhere by {MODEL}"
    assert model["limits"]["generate"]["width"]["default"] == 1024


def test_a_job_is_drawn_elsewhere_and_kept_here(web, engine):
    job = ended(web, start(web, n=2, seed=7))
    assert job["status"] == "done" and [one["recipe"]["seed"] for one in job["results"]] == [7, 8]
    assert [(asked.fields["prompt"], asked.fields["seed"], asked.fields["n"]) for asked in engine.asked] == [
        ("a fox", 7, 1),
        ("a fox", 8, 1),
    ]
    assert engine.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    data = web.get(job["results"][0]["files"][0]["url"]).content
    recipe = embedded_recipe(data)
    assert Image.open(io.BytesIO(data)).getpixel((0, 0)) == color(7) and LABEL.encode() in data
    assert (recipe["model"], recipe["engine"], recipe["hash"]) == ("qwen", MODEL, None)
    assert recipe == job["results"][0]["recipe"]


def test_nothing_of_where_the_engine_is_and_of_its_key_is_told_or_kept(studio, web, engine):
    engine.answer = lambda asked: as_json({"detail": f"not with {SECRET}"}, 400)
    assert ended(web, start(web))["error"] == "the engine qwen refuses this (400): not with ***"
    ended(web, start(web))
    told = [web.get(path).text for path in ("/api/models", "/api/systems", "/api/jobs", "/openapi.json", "/metrics")]
    kept = [content_of(Path(folder, name)) for folder, _, names in os.walk(studio.home) for name in names]
    port = engine.url.partition("//")[2].partition("/")[0]
    for secret in (SECRET, port):
        assert not any(secret in text for text in told)
        assert not any(secret.encode() in content for content in kept)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"steps": 4}, "steps"),
        ({"negative": "x"}, "negative"),
        ({"width": 40, "height": 40}, "width"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_the_protocol_has_not_is_refused_before_it_is_asked(web, engine, request_, param):
    body = {"prompt": "a fox", "model": "qwen", **request_}
    answer = web.post("/api/jobs/engines/generate", json=body)
    assert answer.status_code in (400, 422) and param in answer.text
    assert engine.asked == []


def test_an_uploaded_picture_is_edited(web, engine):
    Image.new("L", (48, 32), 255).save(mask := io.BytesIO(), "PNG")
    uploads = {"photo.png": png((48, 32)).read(), "mask.png": mask.getvalue()}
    answer = web.post("/api/uploads", files=[("files", one) for one in uploads.items()]).json()
    photo, hole = ({"sha256": one["sha256"], "name": one["name"]} for one in answer)
    job = ended(web, start(web, image=photo, mask=hole))
    assert job["status"] == "done", job["error"]
    assert engine.asked[0].path == "/v1/images/edits" and sorted(engine.asked[0].files) == ["image", "mask"]


# when it fails


def test_a_failure_of_the_engine_is_the_jobs_and_the_next_one_is_drawn(web, engine):
    engine.answer = lambda asked: as_json({"error": {"message": HTML}}, 400)
    job = ended(web, start(web))
    assert (job["status"], job["error"]) == ("failed", f"the engine qwen refuses this (400): {HTML}")
    engine.answer = lambda asked: Answer(200, b"half")
    assert "no picture in base64" in ended(web, start(web))["error"]
    engine.answer = draw
    assert ended(web, start(web))["status"] == "done"


def test_a_job_waits_for_an_engine_that_is_busy_and_says_so(web, engine):
    free = threading.Event()
    engine.answer = lambda asked: draw(asked) if free.is_set() else Answer(503)
    job = start(web)

    said = ["the engine qwen is busy (503); it is asked again"]
    wait_until(lambda: web.get(f"/api/jobs/{job}").json()["notes"] == said and len(engine.asked) > 1)
    free.set()
    done = ended(web, job)
    assert (done["status"], done["notes"]) == ("done", said)


def test_a_job_that_is_cancelled_ends_at_the_engine_too(web, engine):
    begun, gone = threading.Event(), threading.Event()

    def silent(handler):
        begun.set()
        handler.connection.settimeout(60)
        if not handler.connection.recv(1):
            gone.set()

    engine.answer = lambda asked: silent
    job = start(web)
    assert begun.wait(60)
    assert web.post(f"/api/jobs/{job}/cancel").status_code == 200
    assert gone.wait(60)
    engine.answer = draw
    assert ended(web, start(web))["status"] == "done"
    assert ended(web, job)["status"] == "cancelled"


# Python, OpenAI's clients and A1111's


def test_python_draws_by_the_models_name(studio, engine):
    with inkwash.Studio(studio.url, studio.key()) as drawing:
        picture = drawing.generate("a fox", model="qwen", seed=7, width=48, height=16)
        assert picture.size == (48, 16) and picture.info["inkwash"]["system"] == "engines"
        assert drawing.generate("a fox", model="dall-e-3", seed=7).size == (1024, 1024)


def test_openais_clients_draw_through_the_queue(client, engine):
    assert {"qwen", "dall-e-3"} <= {model.id for model in client.models.list()}
    answer = client.images.generate(model="dall-e-3", prompt="a fox", size="48x32", n=2, extra_body={"seed": 7})
    assert [datum.seed for datum in answer.data] == [7, 8] and (answer.size, answer.note) == ("48x32", None)
    assert decoded(answer.data[1].b64_json).getpixel((0, 0)) == color(8)
    events = list(client.images.generate(model="qwen", prompt="a fox", size="48x32", stream=True))
    assert [event.type for event in events] == ["image_generation.completed"] and events[0].size == "48x32"


def test_openais_clients_edit_where_their_mask_is_transparent(client, engine):
    mask = Image.new("RGBA", (48, 32), "white")
    mask.paste((0, 0, 0, 0), (0, 0, 24, 32))
    file = io.BytesIO()
    mask.save(file, format="PNG")
    file.seek(0)
    file.name = "mask.png"
    seed = {"seed": 7}
    answer = client.images.edit(model="qwen", image=png((48, 32)), mask=file, prompt="a hat", extra_body=seed)
    picture = decoded(answer.data[0].b64_json)
    assert picture.getpixel((10, 10)) == color(7) and picture.getpixel((40, 10)) == (255, 0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"style": "flat"},
        {"background": "transparent"},
        {"size": "40x40"},
        {"extra_body": {"steps": 4}},
        {"extra_body": {"sampler": "euler"}},
        {"extra_body": {"negative_prompt": "x"}},
    ],
)
def test_what_an_engine_cannot_do_is_refused_in_openais_way(client, engine, options):
    with pytest.raises(openai.APIStatusError) as error:
        client.images.generate(**{"model": "qwen", "prompt": "a fox"} | options)
    assert error.value.status_code in (400, 422) and error.value.param and engine.asked == []


def test_an_engine_makes_no_variations(web, engine):
    answer = web.post("/v1/images/variations", data={"model": "qwen"}, files={"image": png((48, 32))})
    assert answer.status_code == 400 and "the engine of qwen makes no variations" in answer.text
    assert engine.asked == []


def test_a_failure_is_said_in_openais_way(client, engine):
    engine.answer = lambda asked: as_json({"detail": "against the policy"}, 400)
    with pytest.raises(openai.BadRequestError, match=r"the engine qwen refuses this \(400\): against the policy"):
        client.images.generate(model="qwen", prompt="a fox")


CHOSEN = {"sd_model_checkpoint": "qwen"}


def test_a1111s_clients_draw(api, engine):
    answer = api.txt2img(prompt="a fox", width=48, height=32, seed=7, n_iter=2, override_settings=CHOSEN)
    assert [picture.getpixel((0, 0)) for picture in answer.images] == [color(7), color(8)]
    info = answer.info
    assert (info["seed"], info["width"], info["height"], info["sd_model_name"]) == (7, 48, 32, "qwen")
    assert info["infotexts"][0] == f"a fox\nSeed: 7, Size: 48x32, Model: qwen, Version: inkwash {inkwash.__version__}"
    (model,) = [one for one in api.get_sd_models() if one["model_name"] == "qwen"]
    assert (model["title"], model["hash"]) == ("qwen", None)
    mask = Image.new("L", (48, 32))
    mask.paste(255, (0, 0, 24, 32))
    red = Image.new("RGB", (48, 32), "red")
    options = {"width": 48, "height": 32, "seed": 7, "override_settings": CHOSEN, "inpainting_fill": 1}
    picture = api.img2img(images=[red], mask_image=mask, prompt="a hat", **options).images[0]
    assert picture.getpixel((10, 10)) == color(7) and picture.getpixel((40, 10))[:3] == (255, 0, 0)


def ask_a1111(studio, verb="txt2img", **options):
    body = {"prompt": "a fox", "override_settings": CHOSEN, **SIZE, **options}
    return httpx.post(f"{studio.url}/sdapi/v1/{verb}", json=body, auth=("anyone", studio.key()), timeout=60)


@pytest.mark.parametrize(
    "options",
    [
        {"negative_prompt": "x"},
        {"enable_hr": True},
        {"styles": ["flat"]},
        {"steps": 4},
        {"cfg_scale": 1.5},
        {"cfg_scale": 0},
        {"sampler_name": "DDIM"},
        {"sampler_index": "Heun"},
        {"scheduler": "Karras"},
    ],
)
def test_what_an_engine_cannot_do_is_refused_in_a1111s_way(studio, engine, options):
    answer = ask_a1111(studio, **options)
    assert answer.status_code in (400, 422) and f"{next(iter(options))}: the engine of qwen has none" in answer.text
    assert engine.asked == []


@pytest.mark.parametrize(
    "options",
    [
        {"denoising_strength": 0.3},
        {"denoising_strength": 0},
        {"image_cfg_scale": 3},
        {"override_settings": CHOSEN | {"CLIP_stop_at_last_layers": 2}},
    ],
)
def test_what_an_engine_does_not_know_of_edits_is_refused(studio, engine, options):
    photo = base64.b64encode(png((32, 16)).read()).decode()
    answer = ask_a1111(studio, "img2img", init_images=[photo], **options)
    assert answer.status_code == 422 and ": the engine of qwen has none" in answer.text and engine.asked == []


def test_what_a1111s_clients_send_by_themselves_keeps_no_engine_from_drawing(studio, engine):
    usual = {
        "steps": 50,
        "cfg_scale": 7.0,
        "sampler_index": "Euler",
        "scheduler": "Automatic",
        "image_cfg_scale": 1.5,
    }
    photo = base64.b64encode(png((32, 16)).read()).decode()
    answer = ask_a1111(studio, "img2img", init_images=[photo], denoising_strength=0.75, **usual)
    assert answer.status_code == 200, answer.text
    assert ask_a1111(studio, denoising_strength=0, **usual).status_code == 200 and len(engine.asked) == 2


def test_an_interrupted_job_of_a1111s_is_answered(studio, web, engine):
    engine.answer = lambda asked: Answer(503)
    body, found = {"prompt": "a fox", "override_settings": CHOSEN, **SIZE}, []

    def ask():
        found.append(
            httpx.post(f"{studio.url}/sdapi/v1/txt2img", json=body, auth=("anyone", studio.key()), timeout=60)
        )

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: engine.asked)
    web.post("/sdapi/v1/interrupt")
    thread.join(60)
    answer = found[0].json()
    assert answer["images"] == [] and json.loads(answer["info"])["interrupted"]


# how it is started


def test_a_worker_on_another_machine_stands_before_the_engine(tmp_path, cluster, engine):
    name = cluster.create()
    here, key = {ADDRESSES: f"qwen={engine.url}#{MODEL}"}, {KEYS: f"qwen={SECRET}"}
    with machines.running(tmp_path, cluster.tcp(name), "") as found:
        url = machines.address(found.start("--port", "0", "--device", "none", **here))
        found.worker()  # which does not know the engine, and leaves the job
        found.worker(**here, **key)
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {found.key()}"}, timeout=120) as web:
            job = ended(web, start(web, seed=7))
    assert job["status"] == "done", job["error"]
    assert engine.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    cluster.drop(name)


EXAMPLE = "as qwen=http://host:8000/v1#Qwen/Qwen-Image"


@pytest.mark.parametrize(
    ("words", "keys", "line"),
    [
        ("--engine qwen", "", f"engine qwen: NAME=URL#MODEL is needed, {EXAMPLE}"),
        ("--engine emoji=http://h/v1#m", "", "engine emoji: there is a model 'emoji' already; choose another name"),
        ("--engine a=http://me:pw@h/v1#m", "", "engine a: no name or password stands in an address"),
        ("--engine a=http://h/v1#m", "b=sk-1", f"{KEYS}: word 1 is no NAME=KEY of an engine (known: a)"),
        ("--alias x=a", "", "--alias x=a: unknown model 'a'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_begun(tmp_path, monkeypatch, capsys, words, keys, line):
    monkeypatch.setenv(KEYS, keys)
    monkeypatch.delenv(ADDRESSES, raising=False)
    assert main(["studio", "--home", str(tmp_path / "home"), *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"inkwash: {line}") and error.count("\n") == 1 and not (tmp_path / "home").exists()
