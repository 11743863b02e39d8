"""A1111's door, by the client that others use for the original: webuiapi."""

import asyncio
import base64
import io
import json
import re
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import inkwash
from inkwash.cli import main
from inkwash.studio import accounts
from inkwash.systems.pictures.model import GRIDS
from inkwash.weights.shipped import FOLDER

SMALL = {"width": 64, "height": 64}
FAST = {**SMALL, "steps": 2, "override_settings": {"sd_model_checkpoint": "emoji-fast"}}


def connect(studio, name):
    port = int(studio.url.rpartition(":")[2])
    return webuiapi.WebUIApi(port=port, username="anyone", password=studio.key(name))


@pytest.fixture(scope="module")
def api(studio):
    return connect(studio, "painter")


@pytest.fixture(scope="module")
def web(studio):
    with studio.client("painter") as client:
        yield client


@pytest.fixture(scope="module")
def emoji():
    return inkwash.load("emoji")


@pytest.fixture(scope="module")
def fox(emoji):
    return emoji.generate("a red fox", style="flat", seed=7)


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


def encoded(picture, **options):
    file = io.BytesIO()
    picture.save(file, format="PNG", **options)
    return base64.b64encode(file.getvalue()).decode()


# drawing


def test_the_clients_default_arguments_draw_what_the_model_draws_with_them(api, emoji):
    answer = api.txt2img(prompt="a red fox", seed=7)
    wanted = emoji.generate("a red fox", seed=7, sampler="euler_ancestral", steps=20, guidance=7.0, size=512)
    assert same(answer.image, wanted)
    assert answer.parameters["cfg_scale"] == 7 and answer.parameters["sampler_name"] == "Euler a"
    facts = {key: answer.info[key] for key in ("seed", "all_seeds", "width", "height", "sampler_name", "steps")}
    assert facts == {
        "seed": 7,
        "all_seeds": [7],
        "width": 512,
        "height": 512,
        "sampler_name": "Euler a",
        "steps": 20,
    }
    assert json.loads(answer.image.info["inkwash"])["prompt"] == "a red fox"


def test_a_seed_is_a_picture_and_no_seed_is_a_new_one(api):
    one, two, other = (api.txt2img(prompt="a fox", seed=seed, **FAST).image for seed in (5, 5, 6))
    assert same(one, two) and not same(one, other)
    first, second = (api.txt2img(prompt="a fox", **FAST).info["seed"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Euler", "euler"),
        ("DPM++ 2M", "dpmpp_2m"),
        ("heun", "heun"),
        ("DDPM", "ancestral"),
        ("LCM", "consistency"),
    ],
)
def test_samplers_go_by_both_names(api, emoji, name, ours):
    options = {"steps": 4, "seed": 1, "cfg_scale": 1.5, "styles": ["flat"], "negative_prompt": "a dog"}
    answer = api.txt2img(prompt="a fox", sampler_name=name, **options, **SMALL)
    options = {"steps": 4, "seed": 1, "guidance": 1.5, "style": "flat", "negative": "a dog"}
    assert same(answer.image, emoji.generate("a fox", sampler=ours, **options))
    assert "Schedule type: Uniform" in answer.info["infotexts"][0]


@pytest.mark.parametrize(
    ("options", "grid"),
    [
        ({"scheduler": "Karras"}, "karras"),
        ({"scheduler": "exponential"}, "exponential"),
        ({"scheduler": "Beta"}, "beta"),
        ({"scheduler": "SGM Uniform"}, "uniform"),
        ({"scheduler": "automatic"}, "uniform"),
        ({"sampler_name": "DPM++ 2M Karras"}, "karras"),  # as until A1111 1.9
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "Karras"}, "karras"),
        ({"sampler_name": "dpmpp_2m exponential"}, "exponential"),
    ],
)
def test_a_scheduler_is_how_the_steps_lie_in_time(api, emoji, options, grid):
    options = {"sampler_name": "DPM++ 2M", "steps": 4, "seed": 1, "cfg_scale": 1.5, **options}
    answer = api.txt2img(prompt="a fox", **options, **SMALL)
    wanted = {
        name: emoji.generate("a fox", sampler="dpmpp_2m", steps=4, seed=1, guidance=1.5, grid=name) for name in GRIDS
    }
    assert [name for name in GRIDS if same(answer.image, wanted[name])] == [grid]
    assert f"Sampler: DPM++ 2M, Schedule type: {grid.title()}, " in answer.info["infotexts"][0]
    assert json.loads(answer.image.info["inkwash"])["grid"] == grid


def test_what_is_left_out_is_as_is_usual_with_the_model(web, fox):
    answer = web.post("/sdapi/v1/txt2img", json={"prompt": "a red fox", "styles": ["flat"], "seed": 7}).json()
    assert same(Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))), fox)


def test_batches(api):
    answer = api.txt2img(prompt="a fox", batch_size=2, n_iter=2, seed=3, **FAST)
    assert len({picture.tobytes() for picture in answer.images}) == 4
    assert answer.info["all_seeds"] == [3, 4, 5, 6] and answer.info["batch_size"] == 2
    seeds = [re.search(r"Seed: (\d+)", text)[1] for text in answer.info["infotexts"]]
    assert seeds == ["3", "4", "5", "6"]
    assert same(answer.images[2], api.txt2img(prompt="a fox", seed=5, **FAST).image)


def test_the_model_is_chosen_by_name_or_title(api):
    wanted = inkwash.load("emoji-fast").generate("a fox", seed=1, sampler="ddim", steps=2, guidance=1.0)
    title = next(title for title in api.util_get_model_names() if title.startswith("emoji-fast"))
    for name in ("emoji-fast", title):
        options = {"override_settings": {"sd_model_checkpoint": name, "CLIP_stop_at_last_layers": 1}, **SMALL}
        answer = api.txt2img(prompt="a fox", seed=1, sampler_name="DDIM", steps=2, cfg_scale=1.0, **options)
        assert same(answer.image, wanted) and answer.info["sd_model_name"] == "emoji-fast"
    with pytest.raises(RuntimeError, match=r"404.*unknown model"):
        api.txt2img(prompt="a fox", override_settings={"sd_model_checkpoint": "sd15"})


def test_hires_is_a_larger_picture(api, emoji):
    options = {"steps": 4, "seed": 1, "cfg_scale": 1.5, "sampler_name": "DDIM"}
    wanted = emoji.generate("a fox", steps=4, seed=1, guidance=1.5, sampler="ddim", size=128)
    twice = api.txt2img(prompt="a fox", enable_hr=True, hr_scale=2, **options, **SMALL)
    to = api.txt2img(prompt="a fox", enable_hr=True, hr_resize_x=128, **options, **SMALL)
    assert same(twice.image, wanted) and same(to.image, wanted)


def test_from_a_picture(api, emoji, fox):
    options = {"seed": 3, "steps": 8, "sampler_name": "Euler", "cfg_scale": 1.5}
    answer = api.img2img(images=[fox], prompt="a blue fox", denoising_strength=0.5, **options, **SMALL)
    options = {"seed": 3, "steps": 8, "sampler": "euler", "guidance": 1.5}
    assert same(answer.image, emoji.generate("a blue fox", image=fox, strength=0.5, **options))
    assert answer.info["denoising_strength"] == 0.5 and "init_images" not in answer.parameters
    assert same(api.img2img(images=[fox], denoising_strength=0, **SMALL).image, fox)


def test_a_picture_without_a_data_prefix_and_sent_back_on_request(web, fox):
    order = {"init_images": [encoded(fox)], "denoising_strength": 0, "include_init_images": True, **SMALL}
    answer = web.post("/sdapi/v1/img2img", json=order).json()
    assert same(Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))), fox)
    assert answer["parameters"]["init_images"] == order["init_images"]


def test_what_is_black_in_the_mask_is_kept_to_the_pixel(api, fox):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 32))
    answer = api.img2img(images=[fox], mask_image=mask, prompt="a blue fox", seed=3, steps=8, **SMALL)
    drawn, before = np.asarray(answer.image), np.asarray(fox)
    assert np.array_equal(drawn[32:], before[32:])
    assert np.abs(drawn[:32].astype(float) - before[:32]).mean() > 3
    turned = Image.eval(mask, lambda value: 255 - value)
    options = {"mask_image": turned, "inpainting_mask_invert": 1, "prompt": "a blue fox", "seed": 3, "steps": 8}
    assert same(api.img2img(images=[fox], **options, **SMALL).image, answer.image)


def test_what_lies_under_the_mask_is_filled_as_asked(api):
    flag, mask = Image.new("RGB", (64, 64), "red"), Image.new("L", (64, 64))
    flag.paste("blue", (32, 0, 64, 64))
    mask.paste(255, (20, 16, 44, 48))
    hole, options = np.asarray(mask) == 255, {"mask_image": mask, "prompt": "a fox", "seed": 3, "steps": 8}
    nothing = [
        np.asarray(api.img2img(images=[flag], inpainting_fill=fill, denoising_strength=0, **options, **SMALL).image)
        for fill in range(4)
    ]
    before = np.asarray(flag)
    assert all(np.array_equal(picture[~hole], before[~hole]) for picture in nothing)
    around, inner, noise, grey = (picture[hole] for picture in nothing)
    red, _, blue = nothing[0][32, 20:44].T.astype(int)
    assert (np.diff(red) <= 0).all() and (np.diff(blue) >= 0).all()  # from the left colour to the right one
    assert red[0] > 200 > 50 > blue[0] and red[-1] < 50 < 200 < blue[-1] and around[:, 1].max() == 0
    assert np.array_equal(inner, before[hole]) and noise.std() > 60 and (grey == 127).all()
    drawn = [
        api.img2img(images=[flag], inpainting_fill=fill, denoising_strength=0.5, **options, **SMALL)
        for fill in range(4)
    ]
    assert len({answer.image.tobytes() for answer in drawn}) == 4
    for answer in drawn:
        assert np.array_equal(np.asarray(answer.image)[~hole], before[~hole])
    with pytest.raises(RuntimeError, match=r"422.*inpainting_fill"):
        api.img2img(images=[flag], inpainting_fill=4, **options, **SMALL)


@pytest.mark.parametrize("side", [128, 256])
def test_no_line_of_the_picture_is_left_under_a_mask_that_is_resized(api, side):
    mask, ink = Image.new("L", (side, side)), Image.new("RGB", (side, side), "red")
    mask.paste(255, (round(0.31 * side), round(0.31 * side), round(0.69 * side), round(0.69 * side)))
    options = {"prompt": "a fox", "steps": 1, "seed": 3, "denoising_strength": 0, "inpainting_fill": 3}
    picture = np.asarray(api.img2img(images=[ink], mask_image=mask, **options, **SMALL).image)
    assert np.abs(picture[21:43, 21:43].astype(int) - 127).max() <= 6  # of the ink 128 and more would show


def test_what_a1111_calls_a_latent_mask_is_not_passed_over(web, fox):
    body = {"prompt": "a fox", "init_images": [encoded(fox)], "latent_mask": encoded(fox)}
    answer = web.post("/sdapi/v1/img2img", json=body)
    assert answer.status_code == 422 and "latent_mask" in answer.json()["detail"]


@pytest.mark.parametrize(("mode", "corner", "middle"), [(0, "red", "red"), (1, "red", "red"), (2, "white", "red")])
def test_a_picture_that_is_no_square(api, mode, corner, middle):
    flag = Image.new("RGB", (64, 32), "red")
    flag.paste("blue", (60, 0, 64, 32))
    answer = api.img2img(images=[flag], denoising_strength=0, resize_mode=mode, **SMALL).image
    colours = {"red": (255, 0, 0), "white": (255, 255, 255)}
    assert (answer.getpixel((2, 2)), answer.getpixel((2, 32))) == (colours[corner], colours[middle])
    blue = answer.getpixel((63, 32))[2]
    assert (blue > 200) == (mode != 1)  # which cuts off what is left and right of the middle


def test_pictures_may_stay_in_the_studio(api, studio):
    answer = api.txt2img(prompt="a fox", send_images=False, **FAST)
    user = accounts.find_user(studio.store, "painter").id
    newest = studio.store.results(user, limit=1)[0]
    assert answer.images == [] and newest.recipe["seed"] == answer.info["seed"]


def test_the_async_client(api):
    async def draw():
        asked = [api.txt2img(prompt="a fox", seed=seed, use_async=True, **FAST) for seed in (1, 2, 1)]
        return [answer.image for answer in await asyncio.gather(*asked)]

    one, two, again = asyncio.run(draw())
    assert same(one, again) and not same(one, two)


# what is refused, and what is not


LORA = "a fox <lora:detail:0.8>"
UNIT = {"enabled": True, "model": "canny", "module": "none"}
CANNOT = [
    ({"prompt": ""}, "the prompt is empty"),
    ({"prompt": LORA}, "there is no lora 'detail' here"),
    ({"negative_prompt": LORA}, "there is no lora 'detail' here"),
    ({"width": 64, "height": 32}, "64 x 32: the models draw squares"),
    ({"width": 1024, "height": 1024, "enable_hr": True}, "2048 x 2048"),
    ({"batch_size": 4, "n_iter": 3}, "10 pictures at most"),
    ({"styles": ["flat", "noto"]}, "one style"),
    ({"styles": ["flta"]}, "did you mean flat"),
    ({"scheduler": "Align Your Steps"}, "unknown scheduler 'align your steps'"),
    ({"scheduler": "DDIM"}, "unknown scheduler 'ddim'"),
    (
        {"sampler_name": "DPM++ 2M Karras", "scheduler": "Exponential"},
        "sampler_name says Karras, scheduler Exponential",
    ),
    ({"sampler_name": "tuned", "scheduler": "Karras"}, "grid means nothing with the sampler tuned"),
    ({"sampler_name": "DPM2 a Karras"}, "unknown sampler 'DPM2 a'"),
    ({"sampler_name": "DPM++ 2S a"}, "unknown sampler 'DPM++ 2S a'"),
    ({"subseed_strength": 0.5}, "subseed_strength"),
    ({"restore_faces": True}, "restore_faces"),
    ({"tiling": True}, "tiling"),
    ({"s_churn": 2}, "s_churn"),
    ({"eta": 0.5}, "eta"),
    ({"refiner_checkpoint": "sdxl"}, "refiner_checkpoint"),
    ({"script_name": "X/Y/Z plot"}, "script_name"),
    ({"infotext": "a cat\nSteps: 3, Sampler: Euler, Seed: 9"}, "infotext"),
    ({"styles": ["Latent"]}, "unknown style 'Latent'"),
    ({"enable_hr": True, "hr_upscaler": "R-ESRGAN 4x+"}, "hr_upscaler"),
    ({"enable_hr": True, "denoising_strength": 0.4}, "denoising_strength"),
    ({"override_settings": {"sd_vae": "kl-f8"}}, "not sd_vae"),
    ({"override_settings": {"lora_dir": "/"}}, "not lora_dir"),
    ({"alwayson_scripts": {"ControlNet": {"args": [UNIT]}}}, "no ControlNet models"),
    ({"alwayson_scripts": {"controlnet": {"args": [{"enabled": False}, UNIT]}}}, "no ControlNet models"),
    ({"alwayson_scripts": {"ADetailer": {"args": [True, {}]}}}, "no script 'ADetailer'"),
    ({"alwayson_scripts": {"thing": {"args": ["x"]}}}, "no script 'thing'"),
    ({"seed": 2**64}, "seed"),
    ({"seed": 2**64 - 1, "batch_size": 2}, "2^64 - 2"),
    ({"steps": 0}, "steps"),
    ({"prompt": "x" * 2001}, "prompt"),
]


@pytest.mark.parametrize(("order", "message"), CANNOT)
def test_what_cannot_be_done_is_refused_in_one_line_and_makes_no_job(web, studio, order, message):
    user = accounts.find_user(studio.store, "painter").id
    before = len(studio.store.jobs(user, limit=1000))
    answer = web.post("/sdapi/v1/txt2img", json={"prompt": "a fox", **order})
    error = answer.json()
    assert answer.status_code == 422 and message in error["detail"] and "\n" not in error["detail"]
    assert set(error) == {"error", "detail", "body", "errors"}
    assert len(studio.store.jobs(user, limit=1000)) == before


HARMLESS = {
    "alwayson_scripts": {
        "ControlNet": {"args": []},
        "ADetailer": {"args": [False]},
        "roop": {"args": ["iVBOR", False, "0"]},
        "controlnet": {"args": [{"enabled": False, "model": "canny"}]},
    },
    "hr_upscaler": "R-ESRGAN 4x+",
    "scheduler": "Automatic",
    "clip_skip": 1,
    "force_task_id": "x",
    "s_tmax": None,
    "styles": None,
    "override_settings": {"sd_model_checkpoint": "emoji-fast", "sd_vae": "Automatic"},
}


def test_what_is_not_switched_on_does_no_harm(web):
    order = {"prompt": "a fox", "seed": 3, "steps": 2, **SMALL}
    plain = web.post("/sdapi/v1/txt2img", json={**order, "override_settings": HARMLESS["override_settings"]})
    answer = web.post("/sdapi/v1/txt2img", json={**order, **HARMLESS})
    assert answer.status_code == 200 and answer.json()["images"] == plain.json()["images"]


def test_a_controlnet_unit_of_the_client_is_refused(api, fox):
    unit = webuiapi.ControlNetUnit(image=fox, module="canny", model="control_canny")
    # without scripts of the call's own the client keeps the unit in its default, for every later call of the process
    given = {"prompt": "a fox", "controlnet_units": [unit]}
    with pytest.raises(RuntimeError, match=r"422.*no ControlNet models here"):
        api.txt2img(**given, alwayson_scripts={})
    with pytest.raises(RuntimeError, match=r"422.*no ControlNet models here"):
        api.img2img(**given, alwayson_scripts={}, images=[fox])
    unit.enabled = False
    assert api.txt2img(**given, alwayson_scripts={}, **FAST).image.size == (64, 64)
    with pytest.raises(RuntimeError, match=r"422.*no ControlNet preprocessors"):
        api.controlnet_detect(images=[fox])


BAD_IMAGES = [
    ("http://127.0.0.1:1/x.png", "URLs are not fetched"),
    ("file:///etc/passwd", "URLs are not fetched"),
    ("no base64!", "not base64"),
    (base64.b64encode(b"no picture").decode(), "not a picture"),
]


@pytest.mark.parametrize(("image", "message"), BAD_IMAGES)
@pytest.mark.parametrize("place", ["init_images", "mask", "png-info"])
def test_bad_pictures_are_refused_wherever_they_come_in(web, fox, place, image, message):
    path, order = "img2img", {"init_images": [image], "prompt": "a fox"}
    if place == "mask":
        order = {"init_images": [encoded(fox)], "mask": image, "prompt": "a fox"}
    if place == "png-info":
        path, order = "png-info", {"image": image}
    answer = web.post(f"/sdapi/v1/{path}", json=order)
    assert answer.status_code == 400 and message in answer.json()["detail"]


def test_one_picture_to_begin_from(web, fox):
    for images in ([], [encoded(fox)] * 2):
        assert web.post("/sdapi/v1/img2img", json={"init_images": images, "prompt": "a fox"}).status_code == 422


def test_what_there_is_no_model_for_is_said(api, fox):
    for call in (api.extra_single_image, api.interrogate):
        with pytest.raises(RuntimeError, match=r"422.*no "):
            call(fox)
    with pytest.raises(RuntimeError, match=r"422.*no upscaler"):
        api.extra_batch_images([fox])


# lists


def test_lists(api):
    assert [model["model_name"] for model in api.get_sd_models()] == ["emoji", "emoji-fast", "icons"]
    for model in api.get_sd_models():
        assert model["sha256"] == inkwash.load(model["model_name"]).hash
        assert model["title"] == f"{model['model_name']} [{model['sha256'][:10]}]" and model["config"] is None
    assert api.util_get_current_model() == api.get_sd_models()[0]["title"]
    assert {"Euler a", "Euler", "DPM++ 2M", "DPM++ 2M SDE", "DDIM", "UniPC", "Heun"} <= set(
        api.util_get_sampler_names()
    )
    assert api.util_get_scheduler_names() == sorted(["automatic", *GRIDS])
    emoji, icons = (inkwash.load(name).config for name in ("emoji", "icons"))
    assert [style["name"] for style in api.get_prompt_styles()] == [
        *emoji.styles,
        *icons.style_aliases,
        *icons.styles,
    ]
    nothing = ("loras", "hypernetworks", "face_restorers", "realesrgan_models", "sd_vae", "latent_upscale_modes")
    assert all(getattr(api, f"get_{name}")() == [] for name in nothing)
    assert [upscaler["name"] for upscaler in api.get_upscalers()] == ["None"]
    assert api.get_scripts() == {"txt2img": [], "img2img": []} and not api.has_controlnet and not api.has_adetailer
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}} and api.get_cmd_flags() == {}
    assert 1e7 < api.get_memory()["ram"]["used"] < 1e10
    assert api.controlnet_model_list() == [] and api.controlnet_module_list() == ["none"]
    assert api.controlnet_version() == 0 and api.refresh_checkpoints() == {}


def test_each_listed_sampler_and_style_can_be_asked_for(api):
    for name in api.util_get_sampler_names():
        steps = 4 if name == "tuned" else 2
        answer = api.txt2img(prompt="a fox", sampler_name=name, steps=steps, **SMALL)
        assert answer.info["sampler_name"] == name
    of_emoji = inkwash.load("emoji").config.styles
    for style in (style["name"] for style in api.get_prompt_styles()):
        model = FAST if style in of_emoji else FAST | {"override_settings": {"sd_model_checkpoint": "icons"}}
        assert api.txt2img(prompt="a fox", styles=[style], **model).info["styles"] == [style]


def test_options_choose_ones_own_model(studio):
    mine, others = connect(studio, "chooser"), connect(studio, "neighbour")
    usual = mine.util_get_current_model()
    mine.util_set_model("emoji-fast")
    assert mine.util_get_current_model().startswith("emoji-fast [") and others.util_get_current_model() == usual
    assert mine.txt2img(prompt="a fox", steps=2, **SMALL).info["sd_model_name"] == "emoji-fast"
    assert others.txt2img(prompt="a fox", steps=2, **SMALL).info["sd_model_name"] == "emoji"
    only_this = {"override_settings": {"sd_model_checkpoint": "emoji"}}
    assert mine.txt2img(prompt="a fox", steps=2, **only_this, **SMALL).info["sd_model_name"] == "emoji"
    options = mine.get_options()
    assert options["sd_checkpoint_hash"] == inkwash.load("emoji-fast").hash
    assert mine.set_options(options | {"sd_model_checkpoint": usual}) is None  # clients send all of it back
    assert mine.util_get_current_model() == usual


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sd_model_checkpoint": "sd15"}, "unknown model 'sd15'"),
        ({"sd_model_checkpoint": "exchange"}, "unknown model 'exchange'"),
        ({"security_level": "weak"}, "not security_level"),
        ({"sd_model_checkpoint": "emoji-fast", "outdir_samples": "/tmp"}, "not outdir_samples"),
        ({"sd_vae": "x\r\nsecurity_level = weak"}, "not sd_vae"),
        ({"sd_checkpoint_hash": ["x"]}, "not sd_checkpoint_hash"),
    ],
)
def test_other_options_are_refused_and_change_nothing(api, change, message):
    before = api.get_options()
    assert message in api.set_options(change)["detail"] and api.get_options() == before


def test_a_chosen_model_that_is_gone_is_said(idle):
    engine = idle.app.state.engine
    user = accounts.local_user(engine.store)
    accounts.choose_a1111_model(engine.store, user.id, "mine")
    for answer in (idle.post("/sdapi/v1/txt2img", json={"prompt": "a fox"}), idle.get("/sdapi/v1/options")):
        assert answer.status_code == 404 and "'mine', which POST options chose, is gone" in answer.json()["detail"]
    assert idle.post("/sdapi/v1/options", json={"sd_model_checkpoint": "emoji"}).status_code == 200
    assert idle.get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith("emoji [")


def fields_of(text):
    """Of A1111's infotext: the prompts, and the last line's fields, of which those with a comma are JSON."""
    words, _, line = text.rpartition("\n")
    prompt, _, negative = words.partition("\nNegative prompt: ")
    found = re.findall(r'\s*([\w][\w -]*): ("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)', line)
    return {"prompt": prompt, "negative": negative} | {k: json.loads(v) if v[0] == '"' else v for k, v in found}


def test_the_png_has_a1111s_parameters_beside_the_recipe(api, tmp_path):
    options = {"prompt": "a red fox,\nsleeping", "negative_prompt": "snow", "seed": 9, "steps": 3, "cfg_scale": 1.5}
    answer = api.txt2img(sampler_name="DPM++ 2M", scheduler="Karras", n_iter=2, **options, **SMALL)
    for i, picture in enumerate(answer.images):
        assert picture.info["parameters"] == answer.info["infotexts"][i] == api.png_info(picture).info
    wanted = {
        "prompt": "a red fox,\nsleeping",
        "negative": "snow",
        "Steps": "3",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": "1.5",
        "Seed": "10",
        "Size": "64x64",
        "Model hash": inkwash.load("emoji").hash[:10],
        "Model": "emoji",
        "Version": f"inkwash {inkwash.__version__}",
    }
    assert fields_of(picture.info["parameters"]) == wanted
    file = tmp_path / "fox.png"
    file.write_bytes(base64.b64decode(answer.json["images"][1]))
    assert main(["again", str(file), "-o", str(tmp_path / "again.png")]) == 0
    assert same(Image.open(tmp_path / "again.png"), picture)


def test_parameters_in_any_script(api, fox):
    options = {"denoising_strength": 0.25, "steps": 4, "seed": 1, "alwayson_scripts": {}, **SMALL}
    answer = api.img2img(images=[fox], prompt="一只狐狸 🦊", **options)
    fields = fields_of(answer.image.info["parameters"])
    assert (fields["prompt"], fields["Denoising strength"]) == ("一只狐狸 🦊", "0.25")
    assert same(answer.image, Image.open(io.BytesIO(base64.b64decode(answer.json["images"][0]))))


def test_png_info_tells_the_recipe(api, fox):
    answer = api.txt2img(
        prompt="a red fox, sleeping", negative_prompt="snow", styles=["noto"], seed=9, steps=2, **SMALL
    )
    found = api.png_info(answer.image)
    assert found.info == answer.info["infotexts"][0] == found.json["items"]["parameters"]
    first, second, last = found.info.split("\n")
    assert (first, second) == ("a red fox, sleeping", "Negative prompt: snow")
    wanted = "Steps: 2, Sampler: Euler a, Schedule type: Uniform, CFG scale: 7.0, Seed: 9, Size: 64x64, Model hash: "
    assert last.startswith(wanted) and "Model: emoji, Style: noto" in last
    assert found.parameters["Seed"] == "9" and found.parameters["Prompt"] == "a red fox, sleeping"
    assert api.png_info(Image.new("RGB", (8, 8))).json == {"info": "", "items": {}, "parameters": {}}


@pytest.mark.parametrize(
    "recipe",
    [
        '{"prompt": "\\ud800", "seed": NaN, "steps": [{"a": 1}], "size": 1e999}',
        '{"model": "x, \\" y: \\n z", "version": {"a": null}}',
        "{}",
        "[1]",
        "{" * 50_000,
        '{"a":' * 50_000,
        '{"steps":' + "[" * 900 + "]" * 900 + "}",
    ],
)
def test_png_info_bears_any_recipe(web, recipe):
    facts = PngInfo()
    facts.add_itxt("inkwash", recipe)
    answer = web.post("/sdapi/v1/png-info", json={"image": encoded(Image.new("RGB", (8, 8)), pnginfo=facts)})
    assert answer.status_code == 200 and isinstance(answer.json()["info"], str)


# on the way


class Drawing(threading.Thread):
    """A request on its way: its answer, or what was raised."""

    def __init__(self, api, **options):
        super().__init__()
        self.api, self.options = api, options
        self.start()

    def run(self):
        try:
            self.result = self.api.txt2img(prompt="a fox", seed=1, cfg_scale=1.5, **SMALL | self.options)
        except RuntimeError as error:
            self.result = error


def until(look, happens, seconds=60):
    end = time.monotonic() + seconds
    while not happens(found := look()):
        assert time.monotonic() < end, found
        time.sleep(0.05)  # who asks without a pause is told to slow down
    return found


def test_progress_and_interrupt_are_about_ones_own_job_alone(studio):
    mine, others = connect(studio, "slow"), connect(studio, "nosy")
    assert mine.get_progress()["progress"] == 0 and mine.get_progress()["state"]["job_count"] == 0
    drawing = Drawing(mine, steps=150, n_iter=5)
    found = until(mine.get_progress, lambda found: found["current_image"])
    assert 0 < found["progress"] < 0.5 and found["eta_relative"] > 0
    assert found["state"]["sampling_steps"] == 150 and found["state"]["job_count"] == 5
    assert Image.open(io.BytesIO(base64.b64decode(found["current_image"]))).size == (64, 64)
    assert mine.custom_get("progress?skip_current_image=true", baseurl=True)["current_image"] is None
    seen = others.get_progress()
    assert (seen["progress"], seen["current_image"], seen["state"]["job_count"]) == (0, None, 0)
    assert others.interrupt() == others.skip() == {}
    until(mine.get_progress, lambda now: now["progress"] > found["progress"] + 0.02)
    assert "none of them skipped" in mine.skip()["detail"]
    assert mine.interrupt() == {}
    drawing.join(30)
    assert len(drawing.result.images) in (1, 2) and drawing.result.info["interrupted"]
    user = accounts.find_user(studio.store, "slow").id
    assert studio.store.jobs(user)[0].status == "cancelled" and mine.get_progress()["state"]["job_count"] == 0


def test_an_interrupted_request_is_answered_with_what_was_done(studio, emoji):
    mine = connect(studio, "hasty")
    drawing = Drawing(mine, steps=100, n_iter=10)
    until(mine.get_progress, lambda found: found["state"]["job_no"] == 1 and found["state"]["sampling_step"] > 1)
    mine.interrupt()
    drawing.join(30)
    assert 1 <= len(drawing.result.images) < 10
    wanted = emoji.generate("a fox", seed=1, guidance=1.5, steps=100, sampler="euler_ancestral")
    assert same(drawing.result.image, wanted) and drawing.result.info["all_seeds"][0] == 1


def test_an_interrupted_picture_is_answered_as_far_as_it_was(studio, emoji):
    mine = connect(studio, "curious")
    drawing = Drawing(mine, steps=150, width=128, height=128)
    until(mine.get_progress, lambda found: found["current_image"])
    assert mine.skip() == {}  # one picture: as interrupt
    drawing.join(30)
    previews, options = [], {"seed": 1, "guidance": 1.5, "steps": 150, "sampler": "euler_ancestral"}
    emoji.generate("a fox", **options, preview=previews.append, previews=4)
    wanted = [preview.resize((128, 128), Image.Resampling.LANCZOS) for preview in previews]
    assert any(same(drawing.result.image, preview) for preview in wanted)
    assert drawing.result.info["interrupted"] and drawing.result.info["all_seeds"] == [1]
    found = fields_of(drawing.result.info["infotexts"][0])
    assert found["Unfinished"] == "True" and found == fields_of(drawing.result.image.info["parameters"])
    assert found | {"Sampler": "Euler a", "CFG scale": "1.5", "Size": "128x128", "Model": "emoji"} == found
    assert emoji.hash.startswith(found["Model hash"]) and found["Version"] == f"inkwash {inkwash.__version__}"
    assert (
        "inkwash" not in drawing.result.image.info and b"trainedAlgorithmicMedia" in drawing.result.image.info["xmp"]
    )


def test_what_was_interrupted_before_it_began_is_no_error(studio):
    first, mine = connect(studio, "first"), connect(studio, "second")
    before = Drawing(first, steps=150)
    until(first.get_progress, lambda found: found["state"]["sampling_step"] > 1)
    waiting = Drawing(mine, steps=2)
    until(mine.get_progress, lambda found: found["state"]["job_count"])
    assert mine.interrupt() == {} == mine.interrupt() == mine.skip()  # also when nothing runs
    waiting.join(30)
    assert waiting.result.images == [] and waiting.result.info["interrupted"]
    assert waiting.result.info["infotexts"] == [] == waiting.result.info["all_seeds"]
    assert waiting.result.info["width"] == 64 and waiting.result.info["sampler_name"] == "Euler a"
    first.interrupt()
    before.join(30)


def test_jobs_of_other_apis_are_left_alone(studio):
    mine = connect(studio, "both")
    with studio.client("both") as client:
        job = client.post("/api/jobs/pictures/generate", json={"prompt": "a fox", "steps": 100}).json()["id"]
        until(lambda: client.get(f"/api/jobs/{job}").json(), lambda found: found["progress"])
        assert mine.get_progress()["state"]["job_count"] == 0
        mine.interrupt()
        assert client.get(f"/api/jobs/{job}", params={"wait": 60}).json()["status"] == "done"


# who asks, and what is never said


def test_a_wrong_key(studio):
    port = int(studio.url.rpartition(":")[2])
    for options in ({"username": "anyone", "password": "ink-wrong"}, {}):
        with pytest.raises(RuntimeError, match=r"401.*log in first"):
            webuiapi.WebUIApi(port=port, **options).txt2img(prompt="a fox")
    answer = httpx.get(f"{studio.url}/sdapi/v1/sd-models")
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic")


def test_no_answer_says_where_anything_lies(studio, web):
    document = httpx.get(f"{studio.url}/openapi.json").json()
    paths = [path for path, methods in document["paths"].items() if "get" in methods and not path.startswith("/api")]
    paths = [path for path in paths if path.startswith(("/sdapi", "/controlnet"))]
    answers = [web.get(path).raise_for_status().text for path in paths]
    drawn = web.post("/sdapi/v1/txt2img", json={"prompt": "a fox", **FAST}).json()
    answers += [json.dumps(drawn), base64.b64decode(drawn["images"][0]).decode("latin-1")]
    assert len(answers) > 20
    secret = [str(studio.home), str(FOLDER), str(Path.home()), "site-packages", ".safetensors", ".onnx"]
    found = [(word, text[:100]) for word in secret for text in answers if word in text]
    assert found == []
