"""Other tools' checkpoints as a studio offers them: by name, by three APIs, by the clients that others use."""

import base64
import hashlib
import io
import json
import shutil
import time
from pathlib import Path
from typing import get_args

import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image, PngImagePlugin

import inkwash
from inkwash.errors import UserError
from inkwash.studio import a1111, accounts, hashes
from inkwash.studio.catalogue import card, shared_models
from inkwash.studio.engine import Engine, Settings
from inkwash.systems.checkpoints.facts import hash_of
from inkwash.systems.checkpoints.request import Sampler
from inkwash.weights.shipped import shipped
from tests.networks.test_stable_diffusion import folders  # noqa: F401
from tests.studio.conftest import Running
from tests.studio.test_a1111 import Drawing, fields_of, until
from tests.systems.checkpoints.test_facts import single
from tests.weights.test_scan import LORA, marks, write

pytestmark = pytest.mark.slow
FAST = {"steps": 2, "seed": 7}
HUB = "models--someone--fox/snapshots/0123abcd"


@pytest.fixture(scope="module")
def place(tmp_path_factory, folders):  # noqa: F811
    """A folder of models as other tools keep them."""
    root = tmp_path_factory.mktemp("models")
    for name, at in (("sd1", "sd1"), ("sdxl", "xl/sdxl"), ("sd1", HUB)):
        shutil.copytree(folders[name], root / at)
    (root / "lora").mkdir()
    for name, tensors in {
        "one": single("sd1"),
        "xl/one": single("sdxl"),
        "vae": marks("VAE", "SD 1, SD 2 or SDXL"),
        "lora/detail": LORA,
    }.items():
        write(root / f"{name}.safetensors", tensors)
    (root / "old.ckpt").write_bytes(b"PK")
    return root


@pytest.fixture(scope="module")
def studio(tmp_path_factory, place):
    options = ("--model", str(place), "--alias", "dall-e-3=sd1")
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


@pytest.fixture(scope="module")
def sd1(place):
    return inkwash.load(place / "sd1")


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8))


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


def decoded(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def sent(picture):
    file = io.BytesIO()
    picture.save(file, format="PNG")
    file.name = "picture.png"
    file.seek(0)
    return file


def own(models):
    return {name: path for name, path in models.items() if name not in shipped()}


# names


def test_of_a_folder_of_models_what_can_be_drawn_is_offered(place):
    found = own(shared_models([place]))
    assert found == {
        "fox": place / HUB,
        "one": place / "one.safetensors",
        "sd1": place / "sd1",
        "one.safetensors": place / "xl/one.safetensors",
        "sdxl": place / "xl/sdxl",
    }
    assert [card(path)["bytes"] for path in found.values()] == [
        sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
        for path in found.values()
    ]


def test_a_file_has_its_name_without_the_ending_where_that_is_free(tmp_path, place):
    for name in ("fox.v1.5.safetensors", "emoji.safetensors"):
        write(tmp_path / name, single("sd1"))
    (tmp_path / "linked.safetensors").symlink_to(tmp_path / "emoji.safetensors")
    found = own(shared_models(tmp_path / name for name in ("fox.v1.5.safetensors", "emoji.safetensors")))
    assert list(found) == ["fox.v1.5", "emoji.safetensors"]
    assert list(own(shared_models([tmp_path / "linked.safetensors"]))) == ["linked"]
    other = tmp_path / "models--org--fox/snapshots/45"
    shutil.copytree(place / "sd1", other)
    assert list(own(shared_models([place / HUB, other]))) == ["fox", "org/fox"]
    with pytest.raises(UserError, match="there is a model 'org/fox' already"):
        shutil.copytree(other, tmp_path / "again/models--org--fox/snapshots/45")
        shared_models([place / HUB, other, tmp_path / "again/models--org--fox/snapshots/45"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae.safetensors", "a VAE for SD 1, SD 2 or SDXL, and no checkpoint"),
        ("lora", "no model there"),
        ("old.ckpt", "old.ckpt"),
    ],
)
def test_what_cannot_be_drawn_is_named_at_the_start(place, name, message):
    with pytest.raises(UserError, match=message) as error:
        shared_models([place / name])
    assert "\n" not in str(error.value)


def test_a_model_that_was_moved_away_takes_no_other_with_it(tmp_path, idle):
    engine = idle.app.state.engine
    file = write(tmp_path / "one.safetensors", single("sd1"))
    engine.catalogue.shared |= own(shared_models([file]))
    request = {"prompt": "a fox", "model": "one"}
    assert idle.post("/api/jobs/checkpoints/generate", json=request).status_code == 202
    assert "one" in [model["name"] for model in idle.get("/api/models").json()]
    file.unlink()
    assert "one" not in [model["name"] for model in idle.get("/api/models").json()]
    assert "one" not in [model["model_name"] for model in idle.get("/sdapi/v1/sd-models").json()]
    answer = idle.post("/api/jobs/checkpoints/generate", json=request)
    assert answer.status_code == 404 and answer.json()["error"]["message"].startswith("the model 'one' is not where")
    assert str(tmp_path) not in answer.text


def test_where_a_broken_model_lies_is_not_said(tmp_path, idle):
    file = write(tmp_path / "one.safetensors", single("sd1"))
    idle.app.state.engine.catalogue.shared |= own(shared_models([file]))
    file.write_bytes(b"x" * 100)
    body = {"prompt": "a fox", "override_settings": {"sd_model_checkpoint": "one"}}
    for path, request in (
        ("/api/jobs/checkpoints/generate", {"prompt": "a fox", "model": "one"}),
        ("/api/plans/checkpoints/generate", {"prompt": "a fox", "model": "one"}),
        ("/v1/images/generations", {"prompt": "a fox", "model": "one"}),
        ("/sdapi/v1/txt2img", body),
    ):
        answer = idle.post(path, json=request)
        assert answer.status_code in (400, 422) and str(tmp_path) not in answer.text and "one: " in answer.text
    assert idle.get("/sdapi/v1/samplers").status_code == idle.get("/api/models").status_code == 200


def test_what_must_be_installed_is_said(tmp_path, idle, monkeypatch):
    def missing(system, verb=""):
        if system.name == "checkpoints":
            raise UserError("checkpoints generate: this needs torch")

    monkeypatch.setattr("inkwash.studio.a1111.available", missing)
    monkeypatch.setattr("inkwash.studio.catalogue.available", missing)
    file = write(tmp_path / "one.safetensors", single("sd1"))
    idle.app.state.engine.catalogue.shared |= own(shared_models([file]))
    order = {"prompt": "a fox", "override_settings": {"sd_model_checkpoint": "one"}}
    answer = idle.post("/sdapi/v1/txt2img", json=order)
    assert answer.status_code == 422 and answer.json()["detail"].endswith("this needs torch")
    assert "DDIM" in [sampler["name"] for sampler in idle.get("/sdapi/v1/samplers").json()]


def test_a_worker_has_the_models_that_its_server_has(tmp_path, place):
    for name in ("one", "b/one"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / f"{name}.safetensors", single("sd1"))
    engine = Engine(Settings(tmp_path / "home", models=(str(tmp_path),)))
    before = own(engine.catalogue.shared)
    (tmp_path / "a").mkdir()
    write(tmp_path / "a/one.safetensors", single("sd1"))  # which would come before
    words = [word.removeprefix("--model=") for word in engine._command("w", "cpu") if word.startswith("--model=")]
    assert {name: Path(path) for name, path in map(json.loads, words)} == before and len(before) == 2


# hashes


def soon():
    return time.monotonic() + 60


def test_a_file_is_read_once_for_each_size_and_time(tmp_path, monkeypatch):
    file, read = tmp_path / "one.safetensors", []
    monkeypatch.setattr(hashes, "hash_of", lambda path: read.append(path) or hash_of(path))
    for content in (b"one", b"another"):
        file.write_bytes(content)
        found = {hashes.hash_so_far(file, soon()) for _ in range(3)}
        assert found == {hashlib.sha256(content).hexdigest()}
    assert read == [file, file]
    file.unlink()
    assert hashes.hash_so_far(file, soon()) is None


def test_who_asks_before_a_file_is_read_is_not_kept_waiting(tmp_path):
    file = tmp_path / "one.safetensors"
    file.write_bytes(b"one")
    with hashes.READING:
        assert hashes.hash_so_far(file, 0.0) is None
    assert hashes.hash_so_far(file, soon()) == hashlib.sha256(b"one").hexdigest()


# the studio's own API, and Python


def test_python_draws_with_a_checkpoint_by_its_name_or_alias(studio, sd1, picture):
    with inkwash.Studio(studio.url, studio.key()) as drawing:
        found = drawing.generate("a fox", model="sd1", width=96, height=64, clip_skip=1, rescale=0.5, **FAST)
        assert same(found, sd1.generate("a fox", width=96, height=64, clip_skip=1, rescale=0.5, **FAST))
        one, two = drawing.generate("a fox", model="dall-e-3", n=2, image=picture, strength=0.5, **FAST)
        assert same(two, sd1.generate("a fox", image=picture, strength=0.5, **FAST | {"seed": 8}))
        assert one.info["inkwash"]["system"] == "checkpoints" and one.info["inkwash"]["model"] == "sd1"
        assert drawing.generate("a fox", model="emoji-fast", seed=7).size == (64, 64)
        with pytest.raises(UserError, match="format = webp: take run\\('checkpoints', 'generate'"):
            drawing.generate("a fox", model="sd1", format="webp")


def test_a_picture_of_up_to_2048_pixels_goes_in_as_it_is(studio, tmp_path):
    large = Image.new("RGB", (2048, 16), "red")
    large.putpixel((0, 0), (0, 0, 255))
    with inkwash.Studio(studio.url, studio.key()) as drawing:
        job = drawing.start("checkpoints", "generate", prompt="a fox", model="sd1", image=large, width=8, height=8)
        sha256 = drawing.wait(job).request["image"]["sha256"]
    row = studio.store.upload_of(sha256, studio.store.job(job.id).user_id)
    assert same(Image.open(studio.store.files.path(row.sha256, row.suffix)), large)


# OpenAI's clients


def test_openais_clients_draw_any_shape(client, sd1):
    names = [model.id for model in client.models.list()]
    assert {"sd1", "sdxl", "fox", "one", "one.safetensors", "dall-e-3"} <= set(names)
    assert client.models.retrieve("sdxl").id == "sdxl"
    options = {"prompt": "a fox", "extra_body": FAST | {"sampler": "euler", "negative_prompt": "a dog"}}
    answer = client.images.generate(model="dall-e-3", size="96x64", **options)
    wanted = sd1.generate("a fox", width=96, height=64, sampler="euler", negative="a dog", **FAST)
    assert same(decoded(answer.data[0].b64_json), wanted)
    assert (answer.size, answer.note, answer.data[0].seed) == ("96x64", None, 7)
    answer = client.images.generate(model="sdxl", n=2, **options)
    assert answer.size == "64x64" and [datum.seed for datum in answer.data] == [7, 8]
    events = list(client.images.generate(model="sd1", size="96x64", stream=True, partial_images=1, **options))
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "completed"]
    assert events[-1].size == "96x64" and same(decoded(events[-1].b64_json), wanted)


def test_openais_clients_edit_in_the_pictures_own_shape(client, sd1, picture):
    mask = Image.new("RGBA", picture.size, "white")
    mask.paste((0, 0, 0, 0), (0, 0, 48, 48))
    answer = client.images.edit(
        model="sd1", image=sent(picture), mask=sent(mask), prompt="a fox", size="96x48", extra_body=FAST
    )
    found = np.asarray(decoded(answer.data[0].b64_json))
    assert same(found[:, 48:], np.asarray(picture)[:, 48:]) and not same(found[:, :48], np.asarray(picture)[:, :48])
    answer = client.images.edit(model="sd1", image=sent(picture), prompt="a fox", extra_body=FAST)
    wanted = sd1.generate("a fox", image=picture, **FAST)
    assert same(decoded(answer.data[0].b64_json), wanted) and wanted.size == (88, 48)
    assert answer.size == "88x48"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"size": "96x60"}, "size"),
        ({"size": "4096x64"}, "size"),
        ({"size": "large"}, "size"),
        ({"style": "flat"}, "style"),
        ({"background": "transparent"}, "background"),
        ({"extra_body": {"sampler": "eular"}}, "sampler"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused_in_openais_way(client, options, param):
    with pytest.raises(openai.APIStatusError) as error:
        client.images.generate(**{"model": "sd1", "prompt": "a fox"} | options)
    assert error.value.status_code in (400, 422) and error.value.param == param
    assert "\n" not in error.value.body["message"]


# A1111's clients


def drawn(api, how="txt2img", checkpoint="sd1", layers=None, **options):
    settings = {"sd_model_checkpoint": checkpoint} | ({"CLIP_stop_at_last_layers": layers} if layers else {})
    options = {"prompt": "a fox", "override_settings": settings, "cfg_scale": 5.0, **FAST} | options
    return getattr(api, how)(**options)


def test_a1111s_clients_draw_any_shape(api, sd1):
    answer = drawn(api, width=96, height=64, sampler_name="Euler", negative_prompt="a dog", layers=2)
    options = {"width": 96, "height": 64, "sampler": "euler", "negative": "a dog", "guidance": 5.0, **FAST}
    assert same(answer.image, sd1.generate("a fox", grid="normal", clip_skip=1, **options))
    assert [answer.info[name] for name in ("width", "height", "clip_skip", "sampler_name")] == [96, 64, 2, "Euler"]
    text = answer.info["infotexts"][0]
    assert text == answer.image.info["parameters"] == api.png_info(answer.image).info
    assert (
        "Sampler: Euler, Schedule type: Uniform, CFG scale: 5, Seed: 7, Size: 96x64, Model: sd1, Clip skip: 2" in text
    )


def test_a1111s_clients_draw_a_second_larger_pass(api, sd1):
    second = {"hr_scale": 1.5, "hr_upscaler": "Lanczos", "hr_second_pass_steps": 3, "denoising_strength": 0.6}
    answer = drawn(api, width=64, height=64, sampler_name="Euler", enable_hr=True, **second)
    options = {"hires": 1.5, "hires_upscaler": "lanczos", "hires_steps": 3, "hires_strength": 0.6}
    options |= {"width": 64, "height": 64, "sampler": "euler", "guidance": 5.0, **FAST}
    assert answer.image.size == (96, 96) and same(answer.image, sd1.generate("a fox", grid="normal", **options))
    assert (
        "Denoising strength: 0.6, Hires upscale: 1.5, Hires steps: 3, Hires upscaler: Lanczos"
        in (answer.info["infotexts"][0])
    )


@pytest.mark.parametrize(
    ("options", "grid"),
    [
        ({"scheduler": "Normal"}, "normal"),
        ({"scheduler": "Uniform"}, "normal"),  # one in A1111
        ({"scheduler": "Karras"}, "karras"),
        ({"scheduler": "Exponential"}, "exponential"),
        ({"scheduler": "SGM Uniform"}, "sgm_uniform"),
        ({"scheduler": "sgm_uniform"}, "sgm_uniform"),
        ({"scheduler": "Simple"}, "simple"),
        ({"scheduler": "DDIM"}, "ddim_uniform"),
        ({"scheduler": "Beta"}, "beta"),
        ({"scheduler": "KL Optimal"}, "kl_optimal"),
        ({"scheduler": "Align Your Steps"}, "align_your_steps"),
        ({"scheduler": "Linear Quadratic"}, "linear_quadratic"),
        ({"scheduler": "Automatic"}, "karras"),  # of this sampler
        ({"sampler_name": "Euler a", "scheduler": "Automatic"}, "normal"),
        ({"sampler_name": "DPM++ 2M SDE"}, "exponential"),
        ({"sampler_name": "DPM++ SDE Karras"}, "karras"),
        ({"sampler_name": "DPM++ 2M exponential"}, "exponential"),
        ({"sampler_name": None}, None),
    ],
)
def test_schedulers_and_samplers_by_a1111s_names(idle, place, options, grid):
    engine = idle.app.state.engine
    engine.catalogue.shared["sd1"] = place / "sd1"
    body = a1111.Txt2Img(prompt="a fox", **{"sampler_name": "DPM++ 2M"} | options)
    values = a1111.values_of(body, "sd1", "checkpoints", accounts.local_user(engine.store), engine)
    assert values["grid"] == grid and values["sampler"] in (*get_args(Sampler), None)


def test_clip_skip_is_a1111s_less_one_and_nothing_with_sdxl(idle, place):
    engine = idle.app.state.engine
    engine.catalogue.shared |= {"sd1": place / "sd1", "sdxl": place / "xl/sdxl"}
    found = {
        (name, layers): a1111.values_of(
            a1111.Txt2Img(prompt="a fox", override_settings={"CLIP_stop_at_last_layers": layers}),
            *(name, "checkpoints", accounts.local_user(engine.store), engine),
        )["clip_skip"]
        for name in ("sd1", "sdxl")
        for layers in (None, 0, 1, 2, 12)
    }
    assert [found["sd1", layers] for layers in (None, 0, 1, 2, 12)] == [0, 0, 0, 1, 11]
    assert {found["sdxl", layers] for layers in (None, 0, 1, 2, 12)} == {0}


def test_a_checkpoint_that_edits_is_asked_as_a1111_asks_it(idle, tmp_path, place):
    engine = idle.app.state.engine
    edits = write(tmp_path / "edits.safetensors", single("sd1", 8))
    engine.catalogue.shared |= {"edits": edits, "sd1": place / "sd1"}
    body = a1111.Img2Img(prompt="a fox", init_images=["x"], image_cfg_scale=2, denoising_strength=0.4)
    user = accounts.local_user(engine.store)
    edit, usual = (a1111.values_of(body, name, "checkpoints", user, engine) for name in ("edits", "sd1"))
    assert edit["image_guidance"] == 2 and "strength" not in edit
    assert usual["strength"] == 0.4 and "image_guidance" not in usual


def test_a_table_that_ends_in_noise_alone_has_its_own_grid_if_a1111s_cannot_be(idle, tmp_path):
    engine = idle.app.state.engine
    engine.catalogue.shared["v"] = write(tmp_path / "v.safetensors", single("sdxl", marked=["v_pred", "ztsnr"]))
    user = accounts.local_user(engine.store)
    orders = [{"sampler_name": "DPM++ 2M"}, {"sampler_name": "Euler a"}, {"sampler_name": "DPM++ 2M Karras"}]
    bodies = [a1111.Txt2Img(prompt="a fox", **order) for order in orders]
    assert [a1111.values_of(body, "v", "checkpoints", user, engine)["grid"] for body in bodies] == [
        None, "normal", "karras",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_a1111s_clients_begin_from_a_picture_of_any_shape(api, sd1, picture, mode):
    """48 x 96 pixels, drawn at 64 x 64."""
    options = {"denoising_strength": 0.5, "sampler_name": "Euler", "steps": 4, "width": 64, "height": 64}
    answer = drawn(api, "img2img", images=[picture], resize_mode=mode, **options)
    if mode == 2:  # the edges go on
        inner = np.asarray(picture.resize((64, 32), Image.Resampling.LANCZOS))
        begun = Image.fromarray(np.concatenate([*[inner[:1]] * 16, inner, *[inner[-1:]] * 16]))
    else:
        box = (24, 0, 72, 48) if mode else None
        begun = picture.resize((64, 64), Image.Resampling.LANCZOS, box)
    options = {"sampler": "euler", "grid": "normal", "steps": 4, "strength": 0.5, "guidance": 5.0, "seed": 7}
    assert same(answer.image, sd1.generate("a fox", image=begun, width=64, height=64, **options))
    assert answer.info["denoising_strength"] == 0.5


def test_a1111s_clients_paint_within_a_mask(api, picture):
    mask = Image.new("L", picture.size)
    mask.paste(255, (0, 0, 48, 48))
    for is_inverted in (False, True):
        options = {"mask_image": mask, "inpainting_mask_invert": is_inverted, "width": 96, "height": 48}
        found = np.asarray(drawn(api, "img2img", images=[picture], **options).image)
        stays = np.asarray(mask) == (255 if is_inverted else 0)
        assert same(found[stays], np.asarray(picture)[stays])
        assert not same(found[~stays], np.asarray(picture)[~stays])


def test_without_a_size_a_picture_keeps_its_shape(web, sd1, picture):
    image = base64.b64encode(sent(picture).read()).decode()
    settings = {"sd_model_checkpoint": "sd1"}
    order = {"prompt": "a fox", "init_images": [image], "override_settings": settings, **FAST}
    answer = web.post("/sdapi/v1/img2img", json=order).raise_for_status().json()
    wanted = sd1.generate("a fox", image=picture, **FAST)
    assert same(decoded(answer["images"][0]), wanted)
    assert [json.loads(answer["info"])[name] for name in ("width", "height")] == [88, 48]


def test_a_picture_that_is_interrupted_has_its_shape(api, sd1):
    drawing = Drawing(api, steps=200, width=96, height=64, override_settings={"sd_model_checkpoint": "sd1"})
    until(api.get_progress, lambda found: found["current_image"])
    api.interrupt()
    drawing.join(30)
    assert drawing.result.info["interrupted"] and drawing.result.image.size == (96, 64)
    found = fields_of(drawing.result.info["infotexts"][0])
    expected = {"Size": "96x64", "Sampler": "Euler a", "Schedule type": "Normal", "Model hash": sd1.hash[:10]}
    assert found | expected == found


def test_lists_of_a1111s_clients(api, place):
    found = {model["model_name"]: model for model in api.get_sd_models()}
    file = found["one"]
    assert file["sha256"] == hashlib.sha256((place / "one.safetensors").read_bytes()).hexdigest()
    assert (file["hash"], file["title"]) == (file["sha256"][:10], f"one [{file['sha256'][:10]}]")
    assert list(found)[:3] == ["emoji", "emoji-fast", "icons"] and found["sdxl"]["sha256"] == hash_of(
        place / "xl/sdxl"
    )
    assert {"normal", "sgm_uniform", "ddim_uniform", "uniform"} <= set(api.util_get_scheduler_names())
    labels = [one["label"] for one in api.get_schedulers()]
    assert len(labels) == len(set(labels)) and {"SGM Uniform", "DDIM", "Align Your Steps"} <= set(labels)
    assert {"DPM++ 2M", "LMS", "tuned"} <= set(api.util_get_sampler_names())
    assert "flat" in [style["name"] for style in api.get_prompt_styles()]


def test_options_choose_a_checkpoint(api, sd1):
    usual = api.util_get_current_model()
    api.util_set_model("sd1")
    try:
        assert api.util_get_current_model() == f"sd1 [{sd1.hash[:10]}]"
        assert api.get_options()["sd_checkpoint_hash"] == sd1.hash
        answer = api.txt2img(prompt="a fox", width=64, height=64, sampler_name="DDIM", **FAST)
        wanted = sd1.generate("a fox", sampler="ddim", grid="ddim_uniform", **FAST)
        assert same(answer.image, wanted) and answer.info["sd_model_name"] == "sd1"
    finally:
        api.util_set_model(usual)
    assert api.util_get_current_model() == usual


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"width": 60, "height": 64}, "width = 60: choose a multiple of 8 pixels"),
        ({"styles": ["flat"]}, "styles: sd1 has none"),
        ({"enable_hr": True, "hr_resize_x": 96}, "hr_resize_x: of a second pass this cannot be chosen"),
        ({"enable_hr": True, "hr_upscaler": "4x-UltraSharp"}, "unknown hr_upscaler '4x-UltraSharp'"),
        ({"enable_hr": True, "hr_sampler_name": "Euler"}, "hr_sampler_name: of a second pass"),
        ({"scheduler": "Polyexponential"}, "unknown scheduler 'polyexponential'"),
        ({"sampler_name": "DPM2 a"}, "unknown sampler 'DPM2 a'"),
        ({"prompt": "a fox <lora:detail:1>"}, "there is no lora 'detail' here"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"layers": 13}, "CLIP_stop_at_last_layers"),
        ({"checkpoint": "emoji", "layers": 2, "width": 64, "height": 64}, "CLIP_stop_at_last_layers"),
        ({"checkpoint": "one", "steps": 201}, "steps"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused_in_a1111s_way(api, order, message):
    with pytest.raises(RuntimeError, match="422") as error:
        drawn(api, **order)
    assert message in json.loads(error.value.args[1])["detail"]


def test_of_a_clip_skip_that_lasts_nothing_is_known(api):
    assert "not CLIP_stop_at_last_layers" in api.set_options({"CLIP_stop_at_last_layers": 2})["detail"]


def test_a_checkpoints_recipe_comes_back_out_of_its_picture(web, studio, place):
    answer = web.post("/v1/images/generations", json={"prompt": "a fox", "model": "sd1", "size": "96x64", **FAST})
    png = base64.b64decode(answer.json()["data"][0]["b64_json"])
    found = web.post("/api/recipe", files={"file": ("fox.png", png)}).json()
    assert (found["system"], found["verb"]) == ("checkpoints", "generate")
    again = web.post("/api/jobs/checkpoints/generate", json=found["request"]).json()
    (result,) = web.get(f"/api/jobs/{again['id']}", params={"wait": 60}).json()["results"]
    assert same(Image.open(io.BytesIO(png)), Image.open(io.BytesIO(web.get(result["files"][0]["url"]).content)))
    assert str(place).encode() not in png and str(place) not in json.dumps(web.get("/api/models").json())


def test_a_model_of_another_system_is_named_as_such(web):
    for system, model, others in (("pictures", "sd1", "checkpoints"), ("checkpoints", "emoji", "pictures")):
        answer = web.post(f"/api/jobs/{system}/generate", json={"prompt": "a fox", "model": model})
        message = answer.json()["error"]["message"]
        assert answer.status_code == 422 and message == f"{model} is a model of {others}, not of {system}"


def test_the_settings_of_another_tools_picture_fill_the_form(web):
    info = PngImagePlugin.PngInfo()
    fields = "Steps: 3, Sampler: Euler a, Seed: 11, Size: 64x96, Model: sd1"
    info.add_text("parameters", f"a fox\nNegative prompt: a dog\n{fields}")
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    found = web.post("/api/recipe", files={"file": ("web.png", file.getvalue())}).json()
    assert (found["system"], found["verb"]) == ("checkpoints", "generate")
    wanted = {"prompt": "a fox", "negative": "a dog", "steps": 3, "sampler": "euler_ancestral", "seed": 11}
    wanted |= {"width": 64, "height": 96, "model": "sd1", "seed_like": "a1111"}
    assert wanted.items() <= found["request"].items()
    made = web.post("/api/jobs/checkpoints/generate", json=found["request"]).json()
    (result,) = web.get(f"/api/jobs/{made['id']}", params={"wait": 60}).json()["results"]
    assert result["recipe"]["seed"] == 11
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    answer = web.post("/api/recipe", files={"file": ("plain.png", file.getvalue())})
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "no_recipe"
