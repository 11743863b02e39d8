"""A refiner and a second pass: what is refused before anything is drawn, and what both stages are told."""

import pytest
import torch
from safetensors.torch import save_file

from inkwash.codecs.png import KEY
from inkwash.errors import UserError
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from inkwash.systems.checkpoints.stages import enlarged
from tests.networks.test_stable_diffusion import folders  # noqa: F401

FEW = {"steps": 4, "seed": 7, "size": 64}


@pytest.fixture(scope="module")
def model(folders):  # noqa: F811
    return StableDiffusion.load(folders["sdxl"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hires": 2.0, "hires_strength": 0.01}, "strength = 0.01: of 4 steps none is taken"),
        ({"hires": 2.0, "hires_steps": 0}, "hires_steps = 0"),
        ({"hires": 2.0, "hires_steps": 1001}, "hires_steps = 1001"),
        ({"hires": 1.01}, "64 x 64 pixels would be 64 x 64"),
        ({"rescale": 0.7, "guidance": 1.0}, "rescale: it takes back what guidance adds"),
        ({"rescale": 1.2}, "rescale = 1.2"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_first_step(model, options, message):
    done = []
    with pytest.raises(UserError, match=message):
        model.generate("the cats", **FEW | options, progress=lambda *step: done.append(step))
    assert not done


def test_a_second_pass_without_a_step_for_the_refiner_is_refused_before_the_first(folders, model):  # noqa: F811
    refiner, done = StableDiffusion.load(folders["sdxl-refiner"]), []
    options = {"refiner": refiner, "refiner_start": 0.7, "hires": 1.5, "hires_steps": 2, "grid": "trailing"}
    with pytest.raises(UserError, match="of 2 steps none is the refiner's"):
        model.generate("the cats", **FEW | {"steps": 8} | options, progress=lambda *step: done.append(step))
    assert not done


@pytest.mark.parametrize(("grid", "total"), [("karras", 4 + 2), ("ddim_uniform", 7 + 4)])
def test_progress_counts_the_steps_of_both_passes(model, grid, total):
    """Of 6 steps this grid makes 7, 999 being no multiple of 166."""
    done, steps = [], {"karras": 4, "ddim_uniform": 6}[grid]
    more = {"hires": 1.5, "hires_strength": 0.6, "grid": grid, "progress": lambda *step: done.append(step)}
    model.generate("the cats", **FEW | {"steps": steps}, **more)
    assert done == [(i + 1, total) for i in range(total)]


@pytest.mark.parametrize("how", ["latent", "lanczos"])
@torch.no_grad()
def test_what_is_enlarged_still_meets_at_its_sides(model, how):
    """By half its width: what goes in is shifted, and so is what comes out."""
    model.weights.fit(64, 64)
    vae, state = model.components["vae"], torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    one, other = (
        enlarged(start, lambda z: model.decode(z, "x"), vae, (128, 128), how, "x")
        for start in (state, state.roll(4, 3))
    )
    largest = float(one.abs().max())
    plain = [enlarged(start, model.decode, vae, (128, 128), how) for start in (state, state.roll(4, 3))]
    assert one.shape == (1, 4, 16, 16) and (one.roll(8, 3) - other).abs().max() < 2e-2 * largest
    assert (plain[0].roll(8, 3) - plain[1]).abs().max() > 1e-1 * largest


def test_a_refiner_has_the_words_and_the_skip_of_its_base(folders, model, tmp_path):  # noqa: F811
    torch.manual_seed(0)
    save_file({"clip_l": torch.randn(2, 12), "clip_g": torch.randn(2, 20)}, tmp_path / "inkstyle.safetensors")
    model.add_embedding(tmp_path / "inkstyle.safetensors")
    refiner = StableDiffusion.load(folders["sdxl-refiner"])
    how = {"steps": 4, "sampler": "euler", "weighting": "comfyui"}
    texts = (["embedding:inkstyle cats"], "", (64, 64), how, iter(range(9)), 5.0, 0.0)
    _, cond = model.refine(refiner, texts)
    assert refiner.embeddings == {}
    refiner.embeddings = model.embeddings
    _, expected = refiner.guided(*texts)
    assert torch.equal(cond["context"], expected["context"])
    with pytest.raises(UserError, match="clip_skip 2: this text encoder has 2 layers"):  # of SDXL it is one more
        model.refine(refiner, (*texts, 1))
    model.embeddings = {}


def test_a_refiner_named_by_its_path_is_loaded_once_as_its_base_is(folders, monkeypatch):  # noqa: F811
    base = StableDiffusion.load(folders["sdxl"], precision="bfloat16", nearest=True)
    refiner = StableDiffusion.load(folders["sdxl-refiner"], precision="bfloat16", nearest=True)
    expected = base.generate("the cats", n=2, refiner=refiner, refiner_start=0.4, **FEW)
    loaded, load = [], StableDiffusion.load
    monkeypatch.setattr(
        StableDiffusion, "load", lambda *args, **named: loaded.append(args[0]) or load(*args, **named)
    )
    found = base.generate("the cats", n=2, refiner=folders["sdxl-refiner"], refiner_start=0.4, **FEW)
    assert loaded == [folders["sdxl-refiner"]]
    assert [one.tobytes() for one in found] == [one.tobytes() for one in expected]
    assert found[0].info[KEY]["refiner_hash"] == refiner.hash and found[0].info[KEY]["nearest"] is True


def test_a_refiner_gets_the_memory_that_its_base_leaves(folders, monkeypatch):  # noqa: F811
    base, refiner = (StableDiffusion.load(folders[name]) for name in ("sdxl", "sdxl-refiner"))
    peak = base.weights.plan(64, 64).peak
    monkeypatch.setattr("inkwash.systems.checkpoints.memory.memory", lambda: round(2.2 * peak))
    base.generate("the cats", refiner=refiner, refiner_start=0.4, **FEW)
    assert base.weights.arranged == "none" and refiner.weights.arranged != "none"
    assert refiner.weights.plan(64, 64).offload == "none"  # alone


def test_without_guidance_a_long_prompt_is_one_call_a_step(model):
    """Of a latent consistency model or a few-step adapter: what is not seen is not computed."""
    batches = []
    hook = model.components["unet"].register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    model.sample_states(["the cats " * 60], [7], steps=3, guidance=1.0, size=(64, 64))
    hook.remove()
    assert batches == [1, 1, 1]


@pytest.mark.parametrize(("tool", "whole"), [("comfyui", True), ("a1111", False)])
def test_the_network_is_told_the_times_that_the_tool_tells_it(model, tool, whole):
    """ComfyUI: of the entry with the nearest logarithm of sigma; A1111: between two entries."""
    times = []
    hook = model.components["unet"].register_forward_pre_hook(lambda _, args: times.append(float(args[1][0])))
    model.sample_states(["the cats"], [7], steps=5, sampler="euler", seed_like=tool, size=(64, 64))
    hook.remove()
    grid = model.make_grid("karras", 5)
    expected = [round(model.entry(level)) if whole else model.entry(level) for level in grid.levels[:-1]]
    assert times == pytest.approx(expected, rel=1e-6) and all(time % 1 == 0 for time in times) == whole
