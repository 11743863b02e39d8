"""Whole pictures by checkpoints, beside diffusers' pipelines on the same weights and the same first noise."""

from functools import cache, partial
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from inkwash import diffusion
from inkwash.codecs.clip import CLIPTokenizer
from inkwash.errors import UserError
from inkwash.networks.unet import UNet
from inkwash.systems.checkpoints.stable_diffusion import NoiseTable, StableDiffusion, entry_of, make_grid
from tests.networks.test_stable_diffusion import TINY, folders  # noqa: F401

PROMPT, NEGATIVE, STEPS, GUIDANCE = "the cats", "a red fox", 10, 5.0
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def last_entry(process):
    """DDIM as Stable Diffusion has it: to the first entry of the table, not to clean data."""
    grid = diffusion.leading(process, STEPS, 1000, 1)
    return diffusion.Grid(process, (*grid.times[:-1], 1 / 1000))


def whole_entries(process):
    """Equal steps between the ends of the table, rounded, then clean data: UniPC's."""
    entries = np.linspace(999, 0, STEPS + 1).round()[:-1]
    return diffusion.Grid(process, (*((entries + 1) / 1000), 0.0))


leading = partial(diffusion.leading, steps=STEPS, table=1000, steps_offset=1)
karras = partial(diffusion.karras, steps=STEPS)
CASES = {  # diffusers' scheduler and its settings; our sampler and grid; whether times are whole
    "DDIM": ("DDIM", {"steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}, "ddim", last_entry, False),
    "Euler": ("EulerDiscrete", {"steps_offset": 1, "timestep_spacing": "leading"}, "euler", leading, False),
    "Euler, Karras": ("EulerDiscrete", {"use_karras_sigmas": True}, "euler", karras, False),
    "DPM++ 2M Karras": ("DPMSolverMultistep", {"use_karras_sigmas": True}, "dpmpp_2m", karras, True),
    "UniPC": ("UniPCMultistep", {}, "unipc", whole_entries, True),
}


@pytest.fixture(scope="module")
def both(folders):  # noqa: F811
    """(diffusers' pipeline, ours) of a family, each loaded once."""
    diffusers = pytest.importorskip("diffusers")

    @cache
    def load(family):
        kind = diffusers.StableDiffusionXLPipeline if family == "sdxl" else diffusers.StableDiffusionPipeline
        theirs = kind.from_pretrained(folders[family])
        theirs.set_progress_bar_config(disable=True)
        return theirs, StableDiffusion.load(folders[family])

    return load


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("family", "predicts"), [("sd1", "epsilon"), ("sd2", "v_prediction"), ("sdxl", "epsilon")])
def test_a_picture_is_that_of_diffusers(both, family, predicts, case):
    scheduler, settings, sampler, grid, nearest = CASES[case]
    theirs, ours = both(family)
    facts = STABLE | {"prediction_type": predicts}
    theirs.scheduler = getattr(import_module("diffusers"), f"{scheduler}Scheduler")(**facts, **settings)
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    options = {"negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE, "num_inference_steps": STEPS}
    how = {"height": 64, "width": 96, "latents": noise, "output_type": "latent"}
    expected = theirs(PROMPT, **options, **how).images

    ours = StableDiffusion(ours.components, NoiseTable.of(facts), nearest)
    made = grid(ours.process)
    scale = made[0].alpha * float(theirs.scheduler.init_noise_sigma) if scheduler == "EulerDiscrete" else 1.0
    found = ours.sample_states(
        [PROMPT],
        [0],
        negative=NEGATIVE,
        sampler=sampler,
        grid=made,
        guidance=GUIDANCE,
        size=(96, 64),
        x=scale * noise,
    )
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < 1e-4, error
    picture = ours.decode(found)
    theirs_too = theirs.vae.decode(expected / theirs.vae.config.scaling_factor).sample.detach()
    pixels = ((theirs_too.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert picture.shape == (1, 64, 96, 3) and np.abs(picture - pixels).max() <= 1


def test_clip_skip_leaves_out_layers_and_no_more(both):
    """By hand: diffusers 0.42.1 cannot, with transformers 5."""
    ours = both("sd1")[1]
    encoder, tokens = ours.components["text_encoder"], ours.components["tokenizer"].tokenize([PROMPT])
    hidden = encoder.text_model(torch.from_numpy(tokens))
    expected = encoder.text_model.final_layer_norm(hidden[-2])
    assert torch.equal(ours.encode_prompt([PROMPT], clip_skip=1).context, expected)
    with pytest.raises(UserError, match="clip_skip 2"):
        ours.encode_prompt([PROMPT], clip_skip=2)


def test_rescale_takes_back_the_contrast_that_guidance_adds(both):
    """By hand, of one step: the noise that is predicted has the standard deviation that it has without guidance
    (2305.08891)."""
    ours = both("sd1")[1]
    grid, x = (
        diffusion.Grid(ours.process, (0.9, 0.0)),
        torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
    )
    plain, guided, rescaled = (
        (x - grid[0].alpha * found) / grid[0].sigma
        for found in (
            ours.sample_states([PROMPT], [7], sampler="euler", grid=grid, guidance=guidance, rescale=rescale, x=x)
            for guidance, rescale in ((1.0, 0.0), (20.0, 0.0), (20.0, 1.0))
        )
    )
    torch.testing.assert_close(rescaled, guided * plain.std() / guided.std(), rtol=1e-4, atol=1e-4)
    assert not torch.equal(rescaled, guided)


def test_sdxl_has_levels_of_its_own_to_align_steps_by(both):
    process = StableDiffusion(both("sd1")[1].components, NoiseTable.of(STABLE)).process
    first, second = (make_grid(process, "align_your_steps", 10, 1000, xl) for xl in (False, True))
    assert first[1].sigma / first[1].alpha == pytest.approx(6.475, abs=1e-3)
    assert second[1].sigma / second[1].alpha == pytest.approx(6.315, abs=1e-3)


def test_each_picture_is_its_seeds_alone(both):
    ours = both("sdxl")[1]
    both = ours.sample_states([PROMPT, "猫"], [7, 8], steps=4)
    alone = ours.sample_states(["猫"], [8], steps=4)
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))
    assert both.shape == (2, 4, 8, 8)


@pytest.mark.parametrize("nearest", [False, True])
def test_the_time_of_a_noise_level_is_its_entry(nearest):
    process = diffusion.Gaussian(diffusion.scaled_linear())
    entry = entry_of(process, 1000, nearest)
    for index in (0, 1, 499, 999):
        assert entry(process.at((index + 1) / 1000)) == pytest.approx(index, abs=1e-9)
    low, high = (np.log(process.at((i + 1) / 1000).edm_sigma) for i in (10, 11))
    between = process.at(process.schedule.sigma_to_t(np.exp(0.7 * high + 0.3 * low)))
    assert entry(between) == (11 if nearest else pytest.approx(10.7))
    assert entry(process.at(1e-4)) == 0  # below the table is its first entry


def test_a_table_that_ends_in_noise_alone_is_known_to_its_last_entry():
    noise = NoiseTable.of(STABLE | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"})
    assert noise.parametrization == "v" and noise.betas[-1] == 1
    process = diffusion.Gaussian(diffusion.betas(np.array(noise.betas)))
    entry = entry_of(process, 1000, False)
    assert entry(process.at(1.0)) == 999 and entry(process.at(0.999)) == pytest.approx(998)


@pytest.mark.parametrize("name", diffusion.GRIDS)
def test_every_grid_begins_in_the_table_and_ends_clean(name):
    grid = make_grid(diffusion.Gaussian(diffusion.scaled_linear()), name, 10, 1000)
    assert 0.9 < grid[0].t <= 1 and grid[-1].t == 0 and len(grid) == 11


def test_align_your_steps_has_levels_of_its_own_for_sdxl(both):
    """The paper's, 2404.14507: of Stable Diffusion 1, and of XL."""
    process = diffusion.Gaussian(diffusion.scaled_linear())
    second = [make_grid(process, "align_your_steps", 10, 1000, is_xl)[1].edm_sigma for is_xl in (False, True)]
    assert second == pytest.approx([6.475, 6.315], rel=1e-6)
    how = {"steps": 3, "grid": "align_your_steps"}
    model = both("sdxl")[1]
    expected = make_grid(model.process, "align_your_steps", 3, len(model.noise.betas), True)
    assert torch.equal(
        model.sample_states([PROMPT], [7], **how), model.sample_states([PROMPT], [7], **how | {"grid": expected})
    )


def test_the_tokenizer_of_files_that_hold_none():
    """Numbers as OpenAI's CLIP has them."""
    tokenizer = CLIPTokenizer.shipped()
    assert tokenizer.tokenize(["a photo of a cat"])[0, :8].tolist() == [
        49406,
        320,
        1125,
        539,
        320,
        2368,
        49407,
        49407,
    ]
    assert len(tokenizer.tokenizer.get_vocab()) == 49408
    filled = CLIPTokenizer.shipped("!")
    assert filled.tokenize(["cat!"])[0, :5].tolist() == [49406, 2368, 256, 49407, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule"),
        ({"prediction_type": "flow"}, "prediction_type"),
        ({"rescale_betas_zero_snr": True}, "noise alone, of which a network that predicts it says nothing"),
    ],
)
def test_a_table_that_cannot_be_drawn_from_is_named(change, message):
    with pytest.raises(UserError, match=message):
        NoiseTable.of(STABLE | change)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
            "FlowMatchEulerDiscreteScheduler is of no",
        ),
        ({"_class_name": "EDMEulerScheduler", "sigma_max": 80.0}, "EDMEulerScheduler is of no table"),
        (STABLE | {"beta_start": "a"}, "betas from 'a' to 0.012"),
    ],
)
def test_noise_of_another_kind_is_no_table(scheduler, message):
    with pytest.raises(UserError, match=message):
        NoiseTable.of(scheduler)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": (60, 64)}, "size = 60 x 64"), ({"sampler": "none"}, "sampler"), ({"grid": "none"}, "grid")],
)
def test_what_cannot_be_asked_for(both, options, message):
    with pytest.raises(UserError, match=message):
        both("sd1")[1].sample_states([PROMPT], [0], **options)


def test_a_network_of_other_channels_is_refused(both):
    ours = both("sd1")[1]
    other = SimpleNamespace(config=ours.components["unet"].config | {"in_channels": 7})
    with pytest.raises(UserError, match="7 channels"):
        StableDiffusion(ours.components | {"unet": other}, ours.noise)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
def test_a_network_that_is_told_its_guidance_is_that_of_diffusers(both):
    """Of one step, which draws no noise; the pipeline of latent consistency models calls the U-Net once a step."""
    diffusers = import_module("diffusers")
    theirs, ours = both("sd1")
    config = TINY["sd1"]["unet"] | {"time_cond_proj_dim": 6}
    torch.manual_seed(3)
    unet = diffusers.UNet2DConditionModel(**config).eval()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    own = UNet(**config)
    own.load_state_dict(unet.state_dict())
    parts = theirs.components | {"unet": unet, "scheduler": diffusers.LCMScheduler(**STABLE)}
    pipeline = diffusers.LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    how = {"height": 64, "width": 64, "latents": noise, "output_type": "latent"}
    expected = pipeline(PROMPT, num_inference_steps=1, guidance_scale=6.0, **how).images
    model = StableDiffusion(ours.components | {"unet": own.eval()}, NoiseTable.of(STABLE))
    found = model.sample_states(
        [PROMPT], [0], sampler="consistency", steps=1, grid="trailing", guidance=6.0, size=(64, 64), x=noise
    )
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    other = model.sample_states([PROMPT], [0], sampler="consistency", steps=1, grid="trailing", guidance=2.0, x=noise)
    assert (other - found).abs().max() > 1e-3 * expected.abs().max()
    assert model.sampling() == ("consistency", "trailing", 4, 8.5)
    with pytest.raises(UserError, match="negative: a latent consistency model"):
        model.generate(PROMPT, negative="a fox", steps=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
def test_the_refiner_draws_the_last_steps_as_by_diffusers(both, folders):  # noqa: F811
    """Of Euler's steps, which remember nothing: base and refiner are two pipelines there, one pass here."""
    diffusers = import_module("diffusers")
    base, ours = both("sdxl")
    scheduler = diffusers.EulerDiscreteScheduler(**STABLE, steps_offset=1, timestep_spacing="leading")
    theirs = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(
        folders["sdxl-refiner"], requires_aesthetics_score=True
    )
    theirs.set_progress_bar_config(disable=True)
    base.scheduler, theirs.scheduler = scheduler, scheduler
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    how = {
        "negative_prompt": NEGATIVE,
        "guidance_scale": GUIDANCE,
        "num_inference_steps": STEPS,
        "output_type": "latent",
    }
    begun = base(PROMPT, height=64, width=64, latents=noise, denoising_end=0.6, **how).images
    expected = theirs(PROMPT, image=begun, denoising_start=0.6, **how).images
    loaded = StableDiffusion.load(folders["sdxl-refiner"])
    ours, refiner = (StableDiffusion(model.components, NoiseTable.of(STABLE)) for model in (ours, loaded))
    grid = leading(ours.process)
    found = ours.sample_states(
        [PROMPT], [0], negative=NEGATIVE, sampler="euler", grid=grid, guidance=GUIDANCE, size=(64, 64),
        x=grid[0].alpha * float(scheduler.init_noise_sigma) * noise, refiner=refiner, refiner_start=0.6,
    )  # fmt: skip
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
