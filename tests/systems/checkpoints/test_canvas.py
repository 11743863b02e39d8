"""Pictures to begin from, beside diffusers' pipelines on the same weights, the same noise and the mean latents."""

from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.networks.unet import UNet
from inkwash.systems.checkpoints.canvas import Canvas, load_canvas, shortened
from inkwash.systems.checkpoints.noise_table import NoiseTable, make_grid
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from tests.networks.test_stable_diffusion import TINY, folders, theirs  # noqa: F401
from tests.systems.checkpoints.test_stable_diffusion import GUIDANCE, NEGATIVE, PROMPT, STABLE, STEPS, both  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
WIDTH, HEIGHT = 96, 64
TEXTS = {
    "negative_prompt": NEGATIVE,
    "guidance_scale": GUIDANCE,
    "num_inference_steps": STEPS,
    "output_type": "latent",
}
KARRAS = {"use_karras_sigmas": True, "steps_offset": 1}  # without effect on a Karras grid, but for a warning


@pytest.fixture
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def mask():
    """White in whole places of a latent."""
    white = np.zeros((HEIGHT, WIDTH), np.uint8)
    white[16:48, 24:80] = 255
    return Image.fromarray(white)


@pytest.fixture
def mean_latents(monkeypatch):
    """diffusers' pipelines draw from what an autoencoder's encoder says; ours takes its mean."""
    module = import_module("diffusers.models.autoencoders.vae")
    monkeypatch.setattr(module.DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def pipeline(kind, one, **components):
    """diffusers' pipeline of this kind with the networks of another, and Euler's steps on a Karras grid."""
    diffusers = import_module("diffusers")
    scheduler = diffusers.EulerDiscreteScheduler(**STABLE, **KARRAS)
    parts = one.components | {"scheduler": scheduler} | components
    made = getattr(diffusers, kind)(**parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def like_theirs(ours, **components):
    return StableDiffusion(ours.components | components, NoiseTable.of(STABLE))


def drawn(ours, canvas, **options):
    return ours.sample_states(
        [PROMPT], [0], negative=NEGATIVE, sampler="euler", steps=STEPS, guidance=GUIDANCE, size=(WIDTH, HEIGHT),
        canvas=canvas, **options,
    )  # fmt: skip


def first_noise():
    return torch.randn(1, 4, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(1))


def close(found, expected):
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error < 1e-4, error


def wider(channels, ours):
    """A U-Net of so many channels, diffusers' and ours."""
    torch.manual_seed(3)
    one = theirs("unet", TINY["sd1"]["unet"] | {"in_channels": channels})
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    other = UNet(**TINY["sd1"]["unet"] | {"in_channels": channels})
    other.load_state_dict(one.state_dict())
    return one.eval(), like_theirs(ours, unet=other.eval())


@pytest.mark.parametrize("strength", [0.3, 0.65, 1.0])
def test_a_picture_from_a_picture_is_that_of_diffusers(both, picture, mean_latents, strength):  # noqa: F811
    other, ours = both("sd1")
    img2img = pipeline("StableDiffusionImg2ImgPipeline", other)
    generator = torch.Generator().manual_seed(1)
    expected = img2img(PROMPT, image=picture, strength=strength, generator=generator, **TEXTS).images
    canvas = load_canvas(picture, strength, None, (WIDTH, HEIGHT))
    close(drawn(like_theirs(ours), canvas, noise=first_noise()), expected)


def test_what_a_mask_keeps_is_blended_as_by_diffusers(both, picture, mask, mean_latents):  # noqa: F811
    other, ours = both("sd1")
    inpaint = pipeline("StableDiffusionInpaintPipeline", other)
    generator, how = torch.Generator().manual_seed(1), {"height": HEIGHT, "width": WIDTH, "strength": 0.7}
    expected = inpaint(PROMPT, image=picture, mask_image=mask, generator=generator, **how, **TEXTS).images
    canvas = load_canvas(picture, 0.7, mask, (WIDTH, HEIGHT))
    close(drawn(like_theirs(ours), canvas, noise=first_noise()), expected)


def test_a_network_that_paints_sees_the_mask_and_what_it_leaves(both, picture, mask, mean_latents):  # noqa: F811
    other, ours = both("sd1")
    unet, ours = wider(9, ours)
    inpaint = pipeline("StableDiffusionInpaintPipeline", other, unet=unet)
    generator, how = torch.Generator().manual_seed(1), {"height": HEIGHT, "width": WIDTH, "strength": 0.7}
    expected = inpaint(PROMPT, image=picture, mask_image=mask, generator=generator, **how, **TEXTS).images
    canvas = load_canvas(picture, 0.7, mask, (WIDTH, HEIGHT))
    close(drawn(ours, canvas, noise=first_noise()), expected)
    painted = drawn(ours, None)  # without a picture all is to be painted
    everywhere = Canvas(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 1.0, np.ones((HEIGHT, WIDTH)))
    assert torch.equal(painted, drawn(ours, everywhere, x=diffusion_start(ours)))


def diffusion_start(ours):
    """The state that seed 0 begins with."""
    noise = diffusion.Noise([0], (4, HEIGHT // 8, WIDTH // 8), device="cpu")
    return ours.process.prior(make_grid(ours.process, "karras", STEPS, 1000)[0], noise)


def test_a_network_that_edits_sees_the_picture_and_is_guided_by_it(both, picture):  # noqa: F811
    other, ours = both("sd1")
    unet, ours = wider(8, ours)
    edit = pipeline("StableDiffusionInstructPix2PixPipeline", other, unet=unet)
    noise = first_noise()
    expected = edit(PROMPT, image=picture, latents=noise, image_guidance_scale=1.7, **TEXTS).images
    start = make_grid(ours.process, "karras", STEPS, 1000)[0]
    scale = start.alpha * float(edit.scheduler.init_noise_sigma)
    canvas = load_canvas(picture, None, None, (WIDTH, HEIGHT))
    close(drawn(ours, canvas, x=scale * noise, image_guidance=1.7), expected)
    with pytest.raises(UserError, match="edits pictures: give one"):
        drawn(ours, None)


@pytest.mark.parametrize(
    ("steps", "strength", "taken"), [(25, 0.6, 15), (10, 0.65, 6), (10, 1.0, 10), (100, 0.29, 28)]
)
def test_strength_takes_as_many_steps_as_diffusers_does(steps, strength, taken):
    grid = diffusion.uniform(diffusion.Gaussian(diffusion.scaled_linear()), steps)
    short = shortened(grid, strength)
    assert short.times == grid.times[steps - taken :]
    with pytest.raises(UserError, match=r"of 10 steps none is taken; choose 0\.1 or more"):
        shortened(diffusion.uniform(grid.process, 10), 0.09)


def test_what_a_mask_keeps_stays_to_the_last_bit(picture):
    white = Image.new("L", (WIDTH, HEIGHT))
    white.paste(255, (37, 21, 61, 40))  # across places of a latent
    canvas = load_canvas(picture, 1.0, white, (WIDTH, HEIGHT))
    found = canvas.composite(np.full((1, HEIGHT, WIDTH, 3), 7, np.uint8))[0]
    black = np.asarray(white) == 0
    assert (found[black] == np.asarray(picture)[black]).all() and (found[30, 49] == 7).all()
    assert canvas.places[0, 0].sum() == 4 * 3 and canvas.places[0, 0, 2:5, 4:8].all()


def test_transparency_is_white_and_what_stands_over_is_cut_off_evenly():
    wide = Image.new("RGBA", (24, 8), (255, 0, 0, 255))
    wide.paste((0, 0, 255, 0), (8, 0, 16, 8))
    canvas = load_canvas(wide, None, None, (8, 8))
    assert (canvas.pixels == 255).all() and canvas.strength == 0.6 and canvas.places.all()


@pytest.mark.parametrize(
    ("strength", "mask", "message"),
    [
        (0.0, None, "strength = 0.0: choose a number above 0"),
        (1.5, None, "strength = 1.5"),
        (None, Image.new("L", (20, 20), 255), "mask: 20 x 20 and 96 x 64 pixels"),
        (None, Image.new("L", (WIDTH, HEIGHT)), "mask: it is all black"),
        (None, Image.new("L", (WIDTH, HEIGHT), 1), "mask: it is all black, or nearly"),
    ],
)
def test_what_cannot_be_begun_from(picture, strength, mask, message):
    with pytest.raises(UserError, match=message):
        load_canvas(picture, strength, mask, (WIDTH, HEIGHT))
