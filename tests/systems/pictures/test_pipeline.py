from itertools import pairwise
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import inkwash
from inkwash import diffusion
from inkwash.codecs import pixels
from inkwash.codecs.png import KEY
from inkwash.diffusion.arrays import numpy
from inkwash.errors import UserError
from inkwash.systems.pictures import icons_data, request
from inkwash.systems.pictures.data import InitImage
from inkwash.systems.pictures.export import export
from inkwash.systems.pictures.model import GRIDS, SAMPLERS, Config
from inkwash.systems.pictures.pipeline import Pipeline, time_grid
from tests.models import tiny
from tests.systems.pictures.shapes import icons


@pytest.fixture(scope="module")
def model(tiny_folder):
    return inkwash.load(tiny_folder)


def test_words_style_seed_and_negative_prompt_all_matter(model):
    def make(prompt="a fox", style="flat", seed=1, **options):
        return np.asarray(model.generate(prompt, style=style, seed=seed, **options)).astype(int)

    base = make()
    assert base.shape == (16, 16, 3) and base.std() > 5
    np.testing.assert_array_equal(base, make())
    for other in (
        make(prompt="a castle"),
        make(style="noto"),
        make(style=None),
        make(seed=2),
        make(negative="red"),
        make(guidance=1.0),
    ):
        assert (other != base).any()


def test_a_picture_is_the_same_alone_among_others_and_in_one_batch(model):
    several = model.generate("a fox", n=3, seed=5)
    alone = model.generate("a fox", seed=6)
    np.testing.assert_array_equal(np.asarray(several[1]), np.asarray(alone))
    batch = model.sample(["a fox"] * 3, [None] * 3, [5, 6, 7]).astype(int)
    assert np.abs(batch[1] - np.asarray(alone)).max() <= 1  # up to rounding


def test_the_sampled_law_is_classifier_free_guidance_spelled_out(model):
    """Against a plain loop: DDIM by hand, two calls of the network, guided and clipped."""
    cond, null = model.condition(["a fox"], ["flat"]), model.condition([""], [None])
    process, schedule = model.denoiser.process, inkwash.diffusion.rectified_flow()
    x = process.prior(process.at(1.0), diffusion.Noise([9], (48, 4, 4), device="cpu"))
    times = np.linspace(1, 0, 4)
    with torch.no_grad():
        for t, s in pairwise(times):
            time = torch.tensor([1000 * t], dtype=torch.float32)
            given, empty = model.unet(x, time, **cond), model.unet(x, time, **null)
            clean = (empty + 2.5 * (given - empty)).clamp(-1, 1)
            eps = (x - schedule.at(t).alpha * clean) / schedule.at(t).sigma
            x = schedule.at(s).alpha * clean + schedule.at(s).sigma * eps
    generated = model.sample(["a fox"], ["flat"], [9], sampler="ddim", guidance=2.5)
    assert np.abs(generated.astype(int) - pixels.decode(x.numpy(), 4)).max() <= 1


def test_saving_and_loading_keep_the_pictures(model, tmp_path):
    model.save(tmp_path / "copy")
    again = Pipeline.load(tmp_path / "copy")
    one, other = (np.asarray(m.generate("a fox", seed=3)) for m in (model, again))
    np.testing.assert_array_equal(one, other)
    assert again.hash == model.hash


def test_the_recipe_of_a_picture(model):
    recipe = model.generate("a fox", style="flat", seed=3, size=40).info["inkwash"]
    assert {k: recipe[k] for k in ("prompt", "style", "seed", "sampler", "steps", "size")} == {
        "prompt": "a fox",
        "style": "flat",
        "seed": 3,
        "sampler": "dpmpp_2m",
        "steps": 3,
        "size": 40,
    }
    assert recipe["hash"] == model.hash and len(model.hash) == 64
    assert model.generate("x", seed=0, size=40).size == (40, 40)
    assert model.generate("x").info["inkwash"]["seed"] != model.generate("x").info["inkwash"]["seed"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_a_picture(model, sampler):
    assert np.asarray(model.generate("a fox", seed=1, sampler=sampler, steps=4)).std() > 5


@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_is_the_times_that_the_sampler_steps_at(model, grid):
    options = {"seed": 1, "sampler": "heun", "steps": 4}
    drawn = model.generate("a fox", style="flat", grid=grid, **options)
    problem = model.problem_of(["a fox"], ["flat"], [1])
    state = problem.sample(SAMPLERS["heun"], diffusion.GRIDS[grid](model.denoiser.process, 4))
    np.testing.assert_array_equal(np.asarray(drawn), model.decode(state)[0])
    assert drawn.info[KEY]["grid"] == grid
    even = np.asarray(model.generate("a fox", style="flat", **options))
    assert np.array_equal(np.asarray(drawn), even) == (grid == "uniform")
    assert get_args(request.Grid) == tuple(GRIDS)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_takes_every_grid(model, sampler):
    pictures = [np.asarray(model.generate("a fox", seed=1, sampler=sampler, steps=4, grid=grid)) for grid in GRIDS]
    assert all(picture.std() > 5 for picture in pictures) and len({p.tobytes() for p in pictures}) == len(GRIDS)


@pytest.mark.parametrize("grid", GRIDS)
def test_from_a_picture_a_grid_begins_at_the_strength(grid):
    process = diffusion.Gaussian(diffusion.rectified_flow())
    whole, part = (time_grid(process, grid, 10, start).times for start in (1.0, 0.55))
    assert part[0] == 0.55 and part[-1] == 0
    if grid != "uniform":  # of which the steps are as many, and even
        assert part[1:] == tuple(t for t in whole if t < 0.55)
    for start in (0.999, 0.99, 1e-9):  # some grids begin below
        assert len(time_grid(process, grid, 10, start).times) <= len(whole)


def test_bfloat16_makes_nearly_the_same_picture(model, tiny_folder):
    low = inkwash.load(tiny_folder, precision="bfloat16").generate("a fox", seed=1)
    full = np.asarray(model.generate("a fox", seed=1)).astype(int)
    difference = np.abs(np.asarray(low).astype(int) - full)
    assert difference.max() > 0 and difference.mean() < 4
    with pytest.raises(UserError, match="unknown precision 'float8'"):
        inkwash.load(tiny_folder, precision="float8")


def test_progress_counts_all_steps(model):
    calls = []
    model.generate("a fox", n=2, seed=1, progress=lambda *p: calls.append(p))
    assert calls == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"style": "flta"}, "unknown style 'flta': did you mean flat"),
        ({"sampler": "dpm"}, "unknown sampler 'dpm'"),
        ({"grid": "karas"}, "unknown grid 'karas': did you mean karras"),
        ({"sampler": "tuned", "grid": "karras"}, "grid means nothing with the sampler tuned"),
        ({"steps": 0}, "steps = 0"),
        ({"steps": 10**6}, "steps = 1000000"),
        ({"guidance": -1}, "guidance = -1"),
        ({"guidance": float("nan")}, "guidance = nan"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 2**64 - 1, "n": 2}, r"from 0 to 2\^64 - 2"),
        ({"size": 10**6}, "size = 1000000"),
        ({"n": 0}, "n = 0"),
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "\u200b\u2060\u200e\x07\ufe0f\u3164"}, "the prompt is empty"),
        ({"prompt": "a\0fox"}, r"sign U\+0000"),
        ({"negative": "\0"}, r"sign U\+0000"),
    ],
)
def test_what_cannot_be_asked_for(model, options, words):
    with pytest.raises(UserError, match=words):
        model.generate(**{"prompt": "a fox", **options})


@pytest.mark.parametrize("prompt", ["👩‍👩‍👧", "❤️", "🫩", "画", "é"])
def test_what_can_be_seen_is_a_prompt(model, prompt):
    assert model.generate(prompt, seed=1).size == (16, 16)


def test_a_latent_model_draws_through_its_autoencoder(tmp_path):
    """Saved and loaded it draws the same; the autoencoder's weights change what it draws, and its hash."""
    model = tiny(latent=True, parametrization="flow")
    model.save(tmp_path / "m")
    loaded = inkwash.load(tmp_path / "m")
    picture = np.asarray(loaded.generate("a fox", style="flat", seed=3))
    assert np.abs(picture.astype(int) - np.asarray(model.generate("a fox", style="flat", seed=3))).max() <= 2
    assert picture.shape == (16, 16, 3) and picture.std() > 1

    with torch.no_grad():
        model.vae.decoder.conv_out.bias += 0.5
    model.save(tmp_path / "other")
    other = inkwash.load(tmp_path / "other")
    assert other.hash != loaded.hash
    assert (np.asarray(other.generate("a fox", style="flat", seed=3)) != picture).any()
    (tmp_path / "other" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        inkwash.load(tmp_path / "other")


def test_a_transparent_picture_laid_on_white_is_the_picture():
    model = tiny(latent=True, parametrization="flow")
    white = Image.new("RGBA", (16, 16), "white")
    plain = np.asarray(model.generate("a fox", seed=3)).astype(int)
    clear = model.generate("a fox", seed=3, transparent=True)
    laid = np.asarray(Image.alpha_composite(white, clear).convert("RGB")).astype(int)
    alpha = np.asarray(clear)[..., 3].astype(int)
    possible = (255 - plain).max(-1) <= alpha  # no colour is darker than its opacity allows
    assert possible.any() and np.abs(laid - plain)[possible].max() <= 2
    with pytest.raises(UserError, match="knows no opacity"):
        tiny().generate("a fox", transparent=True)


def test_sizes_above_the_models_own_are_drawn_by_the_upsampler(tmp_path):
    model = tiny(latent=True, upsampler=True, parametrization="flow")
    model.save(tmp_path / "m")
    loaded = inkwash.load(tmp_path / "m")
    small = model.sample(["a fox"], [None], [3])
    large = model.upsampler.sample(small, [3])
    assert large.shape == (1, 64, 64, 4)
    generated = np.asarray(loaded.generate("a fox", seed=3, size=64)).astype(int)
    assert np.abs(generated - large[0, ..., :3]).max() <= 8  # weights of float16, and rounding between the stages
    both = model.upsampler.sample(np.concatenate([small, small]), [3, 4])
    assert np.abs(both[0].astype(int) - large[0]).max() <= 1 and (both[1] != large[0]).any()  # each by its own seed


def test_only_times_above_the_models_own_bound_are_guided():
    """Three steps, at t = 1, 2/3 and 1/3: with the bound at 0.5 the last is taken without guidance."""
    model = tiny(guidance_interval=(0.5, 1.0))
    scales = []
    network = model.unet.forward
    model.unet.forward = lambda x, time, **condition: (
        scales.append((len(x), float(time[0]))) or network(x, time, **condition)
    )
    model.generate("a fox", seed=1, guidance=5.0)
    assert [n for n, _ in scales] == [2, 2, 1]
    with pytest.raises(UserError, match="guidance_interval = 2"):
        Config(guidance_interval=(2.0, 3.0))


def test_the_network_is_shown_the_mean_of_its_own_label(tmp_path):
    """Saved and loaded it draws the same; the mean predictor's weights change what it draws, and its hash."""
    model = tiny(mean=True)
    model.save(tmp_path / "m")
    loaded = inkwash.load(tmp_path / "m")
    picture = np.asarray(loaded.generate("a fox", style="flat", seed=3))
    assert np.abs(picture.astype(int) - np.asarray(model.generate("a fox", style="flat", seed=3))).max() <= 2
    condition = model.condition(["a fox", "a house"], ["flat", None])
    x, time = torch.randn(2, 48, 4, 4), torch.tensor([300.0, 700.0])
    with torch.no_grad():
        generated = model.mean_predictor(condition["label"])
        torch.testing.assert_close(condition["concat"], generated)
        others = {key: value for key, value in condition.items() if key != "concat"}
        expected = model.unet(torch.cat([x, generated], dim=1), time, **others)
        torch.testing.assert_close(model.unet(x, time, **condition), expected)

    with torch.no_grad():
        model.mean_predictor.conv.bias += 1
    model.save(tmp_path / "other")
    other = inkwash.load(tmp_path / "other")
    assert other.hash != loaded.hash
    assert (np.asarray(other.generate("a fox", style="flat", seed=3)) != picture).any()
    (tmp_path / "other" / "mean_predictor" / "model.safetensors").write_bytes(b"short")
    (tmp_path / "m" / "mean_predictor" / "config.json").write_text("{}")
    for name, words in (
        ("other", "not a whole safetensors file"),
        ("m", "not the configuration of a MeanPredictor"),
    ):
        with pytest.raises(UserError, match=words):
            inkwash.load(tmp_path / name)


def test_a_model_is_measured_at_its_own_sizes_only(tmp_path):
    with pytest.raises(UserError, match=r"measured at 16$"):
        tiny().evaluate(tmp_path, tmp_path, size=100)
    model = tiny(latent=True, upsampler=True)
    with pytest.raises(UserError, match="size = 100: this model can be measured at 16 and 64"):
        model.evaluate(tmp_path, tmp_path, size=100)


@pytest.fixture(params=[False, True], ids=["pixels", "latents"])
def either(request):
    return tiny(latent=request.param, parametrization="flow" if request.param else "x0", steps=4)


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(file)
    return file


def array(picture):
    return np.asarray(picture).astype(int)


def test_no_strength_is_the_picture_itself_and_full_strength_only_its_noise(either, photo):
    before = array(Image.open(photo))
    assert (array(either.generate("a fox", image=photo, strength=0.0, seed=1)) == before).all()
    some = array(either.generate("a fox", image=photo, strength=0.5, seed=1))
    assert (some != before).any() and (
        some != array(either.generate("a fox", image=photo, strength=0.5, seed=2))
    ).any()
    other = photo.with_name("other.png")
    Image.new("RGB", (16, 16), "red").save(other)
    full = [array(either.generate("a fox", image=file, strength=1.0, seed=1)) for file in (photo, other)]
    assert (full[0] == full[1]).all()  # at t = 1 nothing is left of either


def test_steps_really_walked_follow_the_strength(either, photo):
    calls = []
    either.generate("a fox", image=photo, strength=0.5, seed=1, progress=lambda done, steps: calls.append(steps))
    assert calls == [2, 2]


def test_what_the_mask_keeps_is_kept_to_the_pixel(either, photo, tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[4:9, 3:12] = 255
    mask[9, 3:12] = 128
    Image.fromarray(mask).save(tmp_path / "mask.png")
    before = array(Image.open(photo))
    generated = either.generate("a fox", image=photo, mask=tmp_path / "mask.png", seed=1)
    after = array(generated)
    assert (after[mask == 0] == before[mask == 0]).all() and (after[mask == 255] != before[mask == 255]).any()
    assert generated.info[KEY]["sampler"] == "ancestral" and generated.info[KEY]["strength"] == 1.0
    framed = array(either.generate("a fox", image=photo, outpaint=0.25, seed=1))
    small = array(Image.open(photo).resize((8, 8), Image.Resampling.LANCZOS))
    assert (framed[4:12, 4:12] == small).all()


def stripes(size=(160, 120), mode="RGBA"):
    """A picture of many details, a part of it transparent."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    values[:, : size[0] // 3, 3] = 0
    values[:, size[0] // 2 :, 3] = 255
    return Image.fromarray(values).convert(mode)


def hole(size, ratio=(0.3, 0.2, 0.7, 0.6)):
    mask = Image.new("L", size, 0)
    mask.paste(255, tuple(round(r * side) for r, side in zip(ratio, size * 2, strict=True)))
    return mask


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize("size", [16, 40, 64, 128])
def test_at_every_size_what_the_mask_keeps_is_the_pictures_own(size, runtime, transparent, shared_upsampling):
    model, photo = inkwash.load(shared_upsampling, runtime=runtime), stripes()
    kept = Image.new("RGBA", (size, size), (255, 255, 255, 0))
    height = round(size * 3 / 4)
    kept.paste(photo.resize((size, height), Image.Resampling.LANCZOS), (0, (size - height) // 2))
    expected = kept if transparent else Image.alpha_composite(Image.new("RGBA", kept.size, "white"), kept)
    options = {"image": photo, "seed": 1, "size": size, "transparent": transparent}
    for mask in (hole(photo.size), hole((80, 60)), hole((500, 500))):
        drawn = model.generate("a fox", mask=mask, **options).convert("RGBA")
        box = (0, (size - height) // 2, size, (size - height) // 2 + height)
        stays = Image.new("L", kept.size, 0)
        target = box if mask.width != mask.height else (0, 0, size, size)
        stays.paste(mask.resize((target[2] - target[0], target[3] - target[1]), Image.Resampling.BOX), target)
        stays = np.asarray(stays) == 0
        assert 0.5 < stays.mean() < 1
        np.testing.assert_array_equal(array(drawn)[stays], array(expected)[stays])
        assert (array(drawn)[~stays] != array(expected)[~stays]).mean() > 0.3
    same = model.generate("a fox", strength=0, **options).convert("RGBA")
    np.testing.assert_array_equal(array(same), array(expected))


@pytest.fixture(scope="module")
def shared_upsampling(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "upsampling"
    tiny(latent=True, upsampler=True, parametrization="flow").save(folder)
    export(folder)
    return folder


def test_outpainting_keeps_the_picture_and_goes_on_in_its_own_background(shared_upsampling):
    """Opaque where the source is, transparent where it is; beside its own pixels at the final size."""
    model = inkwash.load(shared_upsampling)
    blue = Image.new("RGB", (90, 60), (0, 0, 250))
    options = {"outpaint": 0.25, "strength": 0.01, "seed": 1, "size": 64, "transparent": True}
    whole = array(model.generate("a fox", image=blue, **options))
    assert (whole[21:42, 16:48] == [0, 0, 250, 255]).all()
    assert (whole[..., 3] == 255).all()
    clear = array(model.generate("a fox", image=blue.resize((64, 64)).convert("RGBA"), **options))
    assert (clear[16:48, 16:48] == [0, 0, 250, 255]).all()
    photo = stripes((60, 60))
    kept = array(model.generate("a fox", image=photo, **options))[16:48, 16:48]
    np.testing.assert_array_equal(kept, array(photo.resize((32, 32), Image.Resampling.LANCZOS)))


def test_the_new_part_begins_as_the_old_one_ends():
    """Across the edge of the mask the picture steps no more than half of what it would step without a soft edge."""
    photo, mask = Image.new("RGB", (64, 64), (200, 40, 90)), hole((64, 64), (0.25, 0.25, 0.75, 0.75))
    init = InitImage(photo, 1.0, mask)
    drawn = init.composite(np.full((1, 64, 64, 4), (0, 200, 0, 255), np.uint8))[0, ..., :3].astype(int)
    across = np.abs(np.diff(drawn[32], axis=0)).max(-1)
    assert across.max() <= 100 and (drawn[32, 32] == (0, 200, 0)).all()
    clear = init.composite(np.full((1, 64, 64, 4), (255, 255, 255, 0), np.uint8))[0].astype(int)
    assert np.abs(clear - (200, 40, 90, 255)).max() <= 3
    black = InitImage(
        Image.new("RGB", (64, 64)), 1.0, mask
    )  # no colour is below it, however unlikely what was decoded
    darker = black.composite(np.full((1, 64, 64, 4), (100, 100, 100, 40), np.uint8))[0]
    assert darker[..., :3].max() == 0  # nothing was drawn: what was behind it shows


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 0.5}, "need an image"),
        ({"image": "photo", "strength": 1.5}, r"strength = 1\.5"),
        ({"image": "photo", "outpaint": 0.6}, r"outpaint = 0\.6"),
        ({"image": "photo", "outpaint": 0.2, "mask": "photo"}, "not both"),
        ({"image": "nowhere.png"}, r"nowhere\.png: no such file"),
        ({"image": Image.new("L", (800, 40))}, "800 x 40 pixels would be no more than a line"),
        ({"image": "photo", "mask": Image.new("L", (16, 9), 255)}, "mask has 16 x 9 pixels, the image 16 x 16"),
        ({"image": "photo", "sampler": "tuned"}, "choose another with an image"),
    ],
)
def test_what_does_not_go_together_is_said(options, words, photo):
    options = {key: photo if value == "photo" else value for key, value in options.items()}
    with pytest.raises(UserError, match=words):
        tiny(latent=True, parametrization="flow").generate("a fox", seed=1, **options)
    black = Image.new("L", (16, 16), 0)
    with pytest.raises(UserError, match="black everywhere"):
        tiny().generate("a fox", image=photo, mask=black)


def test_between_two_prompts_the_ends_are_the_prompts_own(either):
    frames = [array(p) for p in either.interpolate("a fox", "a house", 3, style="flat", seed=5)]
    for end, prompt in ((frames[0], "a fox"), (frames[-1], "a house")):
        assert np.abs(end - array(either.generate(prompt, style="flat", seed=5))).max() <= 1
    assert (frames[1] != frames[0]).any() and (frames[1] != frames[2]).any()


ICONS = {"distance_field": True, "reference": True, "parametrization": "flow", "style_aliases": {"pen": "flat"}}


def disc(radius: float, ink="black", paper=(0, 0, 0, 0)) -> Image.Image:
    picture = Image.new("RGBA", (256, 256), paper)
    ImageDraw.Draw(picture).ellipse([128 - radius, 128 - radius, 128 + radius, 128 + radius], fill=ink)
    return picture


def test_a_picture_of_a_distance_field_is_the_same_shape_at_every_size():
    model = tiny(mean=True, **ICONS)
    small, large = (np.asarray(model.generate("a fox", seed=3, size=size)) for size in (64, 512))
    assert small.shape == (64, 64, 4) and (large[large[..., 3] > 0, :3] == 0).all()
    opacity = large[..., 3].reshape(64, 8, 64, 8).mean((1, 3))
    assert abs(opacity - small[..., 3]).mean() < 8
    assert model.generate("a fox", seed=3).size == (256, 256)


def test_distance_fields_are_encoded_as_they_are_decoded():
    model = tiny(mean=True, **ICONS)
    picture = np.asarray(disc(70))[None]
    decoded = model.decode(model.encode(picture))
    assert ((decoded[0, ..., 3] > 127) == (picture[0, ..., 3] > 127)).mean() > 0.98


def test_a_picture_to_draw_alike_is_shown_to_the_network():
    model = tiny(mean=True, **ICONS)
    plain = model.generate("a fox", style="pen", seed=3)
    assert plain.tobytes() == model.generate("a fox", style="flat", seed=3).tobytes()  # another name of the style
    alike = model.generate("a fox", style="pen", seed=3, like=disc(70))
    assert alike.tobytes() != plain.tobytes() and alike.info["inkwash"]["like"].keys() == {"sha256"}
    on_paper = model.encode(np.asarray(disc(70, paper="white"))[None])
    assert abs(numpy(on_paper - model.encode(np.asarray(disc(70))[None]))).mean() < 0.02
    assert model.generate("", style="pen", seed=3, like=disc(70)).size == (256, 256)  # words are not needed
    concat = model.condition(["a fox"], [None], model.encode(np.asarray(disc(70))[None]))["concat"]
    assert (numpy(concat[:, 16:]) == numpy(model.encode(np.asarray(disc(70))[None]))).all()
    assert (numpy(model.condition(["a fox"], [None])["concat"][:, 16:]) == 0).all()


def test_other_models_have_no_picture_to_draw_alike():
    with pytest.raises(UserError, match=r"like: the model .*draws from words alone"):
        tiny().generate("a fox", like=disc(70))


def test_few_steps_are_learned_for_names_of_icons(monkeypatch):
    monkeypatch.setattr(icons_data, "load", icons)
    problem, _ = tiny(mean=True, **ICONS | {"styles": ["line", "solid"], "style_aliases": {}}).problem(
        SimpleNamespace(seed=0, samples=4), None
    )
    assert list(problem.seeds) == [0] and problem.shape == (16, 4, 4)


def test_an_svg_is_drawn_alike_as_its_picture_is(tmp_path):
    pytest.importorskip("resvg_py")
    file = tmp_path / "disc"  # as the studio has it: by its content, without an ending
    file.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 256"><circle cx="128.5" cy="128.5" r="70.5"/></svg>'
    )
    model = tiny(mean=True, **ICONS)
    alike = model.generate("", style="pen", seed=3, like=file)
    opacity = np.asarray(alike)[..., 3].astype(int)
    assert abs(opacity - np.asarray(model.generate("", style="pen", seed=3, like=disc(70)))[..., 3]).mean() < 2
    assert alike.info["inkwash"]["like"]["name"] == "disc"
