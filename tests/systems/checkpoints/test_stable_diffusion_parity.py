"""More of whole pictures beside diffusers' pipelines: what guidance adds, and pictures to begin from, of SDXL too."""

from importlib import import_module

import pytest
import torch

from inkwash.networks import stable_diffusion as single_files
from inkwash.networks.stable_diffusion import save_single_file
from inkwash.systems.checkpoints.canvas import load_canvas
from inkwash.systems.checkpoints.noise_table import NoiseTable, make_grid
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from tests.networks.test_stable_diffusion import TINY, folders, tensors_of  # noqa: F401
from tests.systems.checkpoints.test_canvas import close, first_noise, like_theirs, mask, mean_latents, picture  # noqa: F401
from tests.systems.checkpoints.test_stable_diffusion import GUIDANCE, NEGATIVE, PROMPT, STABLE, STEPS, both  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
SIZE = (96, 64)
TEXTS = {
    "negative_prompt": NEGATIVE,
    "guidance_scale": GUIDANCE,
    "num_inference_steps": STEPS,
    "output_type": "latent",
}


@pytest.mark.parametrize(("family", "predicts"), [("sd1", "epsilon"), ("sd2", "v_prediction"), ("sdxl", "epsilon")])
def test_rescale_is_that_of_diffusers(both, family, predicts):  # noqa: F811
    theirs, ours = both(family)
    facts = STABLE | {"prediction_type": predicts}
    scheduler = import_module("diffusers").EulerDiscreteScheduler
    theirs.scheduler = scheduler(**facts, use_karras_sigmas=True, steps_offset=1)
    how = {"height": 64, "width": 96, "latents": first_noise(), "guidance_rescale": 0.7, "guidance_scale": 100.0}
    expected = theirs(PROMPT, **TEXTS | how).images
    model = StableDiffusion(ours.components, NoiseTable.of(facts))
    grid = make_grid(model.process, "karras", STEPS, 1000)
    start = grid[0].alpha * float(theirs.scheduler.init_noise_sigma) * first_noise()
    options = {"negative": NEGATIVE, "sampler": "euler", "grid": grid, "guidance": 100.0, "size": SIZE, "x": start}
    close(model.sample_states([PROMPT], [0], rescale=0.7, **options), expected)
    plain = model.sample_states([PROMPT], [0], **options)
    assert (plain - expected).abs().max() > 2e-3 * expected.abs().max()


def xl_pipeline(kind, one):
    diffusers = import_module("diffusers")
    scheduler = diffusers.EulerDiscreteScheduler(**STABLE, use_karras_sigmas=True, steps_offset=1)
    made = getattr(diffusers, kind)(**one.components | {"scheduler": scheduler}, add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    return made


def drawn(ours, canvas, **options):
    return like_theirs(ours).sample_states(
        [PROMPT], [0], negative=NEGATIVE, sampler="euler", steps=STEPS, guidance=GUIDANCE, size=SIZE, canvas=canvas,
        **options,
    )  # fmt: skip


def test_a_picture_of_sdxl_from_a_picture_is_that_of_diffusers(both, picture, mean_latents):  # noqa: F811
    other, ours = both("sdxl")
    img2img = xl_pipeline("StableDiffusionXLImg2ImgPipeline", other)
    generator = torch.Generator().manual_seed(1)
    expected = img2img(PROMPT, image=picture, strength=0.65, generator=generator, **TEXTS).images
    close(drawn(ours, load_canvas(picture, 0.65, None, SIZE), noise=first_noise()), expected)


@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_what_a_mask_keeps_of_sdxl_is_blended_as_by_diffusers(both, picture, mask, mean_latents, strength):  # noqa: F811
    other, ours = both("sdxl")
    inpaint = xl_pipeline("StableDiffusionXLInpaintPipeline", other)
    how = {"height": 64, "width": 96, "strength": strength, "generator": torch.Generator().manual_seed(1)}
    expected = inpaint(PROMPT, image=picture, mask_image=mask, **how, **TEXTS).images
    close(drawn(ours, load_canvas(picture, strength, mask, SIZE), noise=first_noise()), expected)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sdxl-refiner"])
def test_a_single_file_draws_what_its_folder_draws(folders, family, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(single_files, "CONFIGS", TINY)
    save_single_file(tmp_path / "one.safetensors", family, tensors_of(folders[family], family))
    found, expected = (StableDiffusion.load(path) for path in (tmp_path / "one.safetensors", folders[family]))
    found.components |= {name: part for name, part in expected.components.items() if name.startswith("tokenizer")}
    found.noise = expected.noise
    states = [
        model.sample_states([PROMPT], [7], negative=NEGATIVE, steps=3, size=SIZE) for model in (found, expected)
    ]
    assert torch.equal(*states)
