"""States are float32, or float64 where it is asked, whatever the network computes in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.diffusion import (
    SAMPLERS,
    Categorical,
    Denoiser,
    DiffusionError,
    Gaussian,
    Noise,
    Prediction,
    ancestral,
    cosine,
    ddim,
    edm_schedule,
    euler,
    rectified_flow,
    sample,
    uniform,
)
from tests.diffusion.oracle import denoise

PROCESS, TOKENS = Gaussian(cosine()), Categorical.masked(rectified_flow(), 3)
NUMBERS = sorted(SAMPLERS.keys() - {"unmask"})
TORCH = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
NUMPY = [np.float16, np.float32, np.float64]


class Network(torch.nn.Module):
    """Weights of any precision, and what it has seen; it takes times as they come, as an embedding does."""

    def __init__(self, size, answers=0):
        super().__init__()
        self.layer = torch.nn.Linear(size, answers or size)
        self.seen = set()

    def forward(self, x, time):
        self.seen.add((x.dtype, time.dtype))
        return self.layer(x + (time / 1000).to(x.dtype)[:, None])


def logits(x, time):
    return torch.nn.functional.one_hot(x, 4) * 1.0 if isinstance(x, torch.Tensor) else np.eye(4)[x]


def drawn(denoiser, name, dtype, **options):
    x = None
    if name == "ddim_inversion":
        x = np.ones((2, 3), np.float16)
    return sample(denoiser, (3,), SAMPLERS[name], uniform(PROCESS, 4, start=0.9), [1, 2], x=x, dtype=dtype, **options)


@settings(max_examples=100)
@given(st.sampled_from(NUMBERS), st.sampled_from(TORCH), st.sampled_from(["float32", "float64"]))
def test_torch_networks_of_any_precision_with_any_sampler(name, weights, dtype):
    network, states = Network(3).to(weights), []
    watch = lambda step, noise: states.append(step.x.dtype)  # noqa: E731
    out = drawn(Denoiser(network, PROCESS, "v"), name, dtype, device="cpu", hooks=[watch])
    assert {out.dtype, *states} == {getattr(torch, dtype)} and out.isfinite().all()
    assert network.seen == {(weights, torch.float64 if weights == torch.float64 else torch.float32)}


@settings(max_examples=100)
@given(st.sampled_from(NUMBERS), st.sampled_from(NUMPY), st.sampled_from(["float32", "float64"]))
def test_numpy_networks_of_any_precision_with_any_sampler(name, precision, dtype):
    network, states = (lambda x, time: (0.5 * x).astype(precision)), []
    watch = lambda step, noise: states.append(step.x.dtype)  # noqa: E731
    out = drawn(Denoiser(network, PROCESS, "v"), name, dtype, hooks=[watch])
    assert {out.dtype, *states} == {np.dtype(dtype)} and np.isfinite(out).all()


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("name", NUMBERS)
def test_predictions_in_another_precision(name, device):
    """x_0 and its variance in float64 for float32 states, and the other way round."""
    for dtype, other in (("float32", "float64"), ("float64", "float32")):

        def alien(x, t, condition, other=other):
            xp = np if device is None else torch
            x0 = xp.asarray(denoise(x, t).x0, dtype=getattr(xp, other))
            return Prediction(x0, xp.full(tuple(x.shape), 0.5, dtype=getattr(xp, other)))

        states = []
        watch = lambda step, noise, states=states: states.append(str(step.x.dtype))  # noqa: E731
        out = drawn(alien, name, dtype, device=device, hooks=[watch])
        assert {state.rpartition(".")[2] for state in (*states, str(out.dtype))} == {dtype}


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("name", ["ancestral", "repaint", "unmask"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tokens_stay_whole_numbers(name, device, dtype):
    denoiser = Denoiser(logits, TOKENS)
    out = sample(denoiser, (5,), SAMPLERS[name], uniform(TOKENS, 4), [1, 2], device=device, dtype=dtype)
    assert "int64" in str(out.dtype)


@given(
    st.sampled_from(
        ["float16", "bfloat16", "int64", "complex64", np.float16, torch.float16, torch.bfloat16, torch.int32]
    )
)
def test_other_states_are_refused(dtype):
    with pytest.raises(DiffusionError, match=r"dtype = .*: states are float32 or float64"):
        drawn(denoise, "ddim", dtype)
    with pytest.raises(DiffusionError, match=r"dtype = .*: noise is 'float32' or 'float64'"):
        Noise([1], (2,), dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64"), torch.float64])
def test_every_way_to_say_float64(dtype):
    assert drawn(denoise, "ddim", dtype).dtype == np.float64


def test_float64_is_the_same_picture_and_more_exact():
    """A Gaussian in 64 steps, on torch and on NumPy, beside its float32."""
    options = {"shape": (9,), "sampler": ancestral, "grid": uniform(PROCESS, 64), "seeds": [5]}
    single, double = (sample(denoise, **options, dtype=d) for d in ("float32", "float64"))
    np.testing.assert_allclose(single, double, atol=1e-5)
    assert (single != double).any()
    np.testing.assert_allclose(sample(denoise, **options, dtype="float64", device="cpu"), double, atol=1e-12)


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("wide", [np.float16, np.float64])
def test_a_given_x_of_float64_stays_it_and_a_hook_and_a_given_x_of_another_precision(device, wide):
    def hook(step, noise):
        return np.asarray(step.x).astype(wide) if device is None else step.x.to(getattr(torch, np.dtype(wide).name))

    seen = []
    watch = lambda step, noise: seen.append(str(step.x.dtype))  # noqa: E731
    x, grid = np.ones((1, 3), wide), uniform(PROCESS, 3, start=0.5)
    out = sample(denoise, (3,), ancestral, grid, [0], hooks=[watch, hook], x=x, device=device)
    kinds = {s.rpartition(".")[2] for s in [*seen, str(out.dtype)]}
    assert kinds == {"float64" if wide is np.float64 else "float32"}
    narrow = sample(denoise, (3,), ancestral, grid, [0], hooks=[hook], x=x, device=device, dtype="float32")
    assert "float32" in str(narrow.dtype)


def test_half_precision_networks_reach_what_the_exact_one_does():
    """The exact denoiser rounded to float16 at every call: the end is off by a few roundings, not more."""
    grid = uniform(Gaussian(edm_schedule()), 20)
    rounded = lambda x, t, c: Prediction(denoise(x, t).x0.astype(np.float16))  # noqa: E731
    exact, half = (sample(f, (50,), euler, grid, [0]) for f in (denoise, rounded))
    np.testing.assert_allclose(half, exact, atol=20 * 2**-11 * 4)
    assert half.dtype == np.float32


def test_the_time_of_a_half_precision_network_is_not_rounded():
    """In float16 the times 999.1 and 999.3 would be one; the network is told them in float32."""
    times = []

    class Clock(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float16))

        def forward(self, x, time):
            times.append(float(time[0]))
            return x * self.weight

    denoiser = Denoiser(Clock(), PROCESS, "v")
    sample(denoiser, (1,), ddim, type(uniform(PROCESS, 1))(PROCESS, (0.9993, 0.9991, 0.5)), [0], device="cpu")
    np.testing.assert_allclose(times, [999.3, 999.1], atol=1e-3)
