"""States are float32, or float64 where it is asked, whatever the network computes in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash import diffusion
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
    with pytest.raises(DiffusionError, match=r"dtype = .*: states are float32 or float64, and so is their noise"):
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


@given(st.sampled_from(TORCH), st.sampled_from(["eps", "v", "flow"]), st.booleans())
def test_training_data_of_any_precision_leave_times_and_levels_in_float32_or_better(kind, form, masked):
    """Latents kept in bfloat16 would have times of steps of 4 in 1000, and float16 no alpha below 1e-7."""
    seen = []

    def network(x, time, **condition):
        seen.append((x.dtype, time))
        return 0.5 * x

    denoiser, wide = Denoiser(network, PROCESS, form), torch.float64 if kind == torch.float64 else torch.float32
    x0 = torch.linspace(-1, 1, 12).reshape(4, 3)
    times, mask = lambda count, generator: torch.arange(1, 5) / 5 - 1e-5, torch.ones(4, 3) if masked else None
    loss = denoiser.loss(x0.to(kind), times=times, mask=mask, generator=torch.Generator().manual_seed(0))
    x, t, eps = denoiser.draw(x0.to(kind), times(4, None), eps=x0.to(torch.float64))
    assert {loss.dtype, x.dtype, t.t.dtype, t.alpha.dtype, eps.dtype, seen[0][0], seen[0][1].dtype} == {wide}
    torch.testing.assert_close(seen[0][1], 1000 * times(4, None).to(wide), atol=1e-4, rtol=0)
    near = denoiser(x0.to(kind), torch.full((4,), 0.9991)).x0  # of a bare call too
    torch.testing.assert_close(near.to(wide), denoiser(x0.to(kind).to(wide), 0.9991).x0, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(seen[-2][1], torch.full((4,), 999.1, dtype=wide), atol=1e-3, rtol=0)


@given(st.sampled_from([torch.uint8, torch.int8, torch.int16, torch.int32]), st.sampled_from([3, 100, 256]))
def test_training_tokens_of_any_whole_numbers(kind, symbols):
    """256 bytes and a mask are one symbol more than a byte can count."""
    process = Categorical.masked(rectified_flow(), symbols)
    denoiser = Denoiser(lambda x, time: torch.linspace(0, 1, symbols + 1).expand(*x.shape, -1), process)
    x0 = torch.arange(12).reshape(4, 3) % symbols
    for objective in (None, diffusion.cross_entropy):
        losses = [
            denoiser.loss(x, objective=objective, generator=torch.Generator().manual_seed(0))
            for x in (x0, x0.to(kind))
        ]
        assert losses[0] == losses[1]
    assert denoiser.draw(x0.to(kind), torch.full((4,), 0.5))[0].dtype == torch.int64
    for x in (x0, x0.numpy()):
        small = x.to(kind) if x is x0 else x.astype(str(kind).rpartition(".")[2])
        law = process.marginal(small, process.at(0.5)).probabilities
        assert np.array_equal(law, process.marginal(x, process.at(0.5)).probabilities)
    start = x0.to(kind).numpy()
    made = sample(denoiser, (3,), ancestral, uniform(process, 2, start=0.5), range(4), x=start, device="cpu")
    assert made.dtype == torch.int64 and torch.equal(made, x0)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_the_precision_and_device_of_a_given_x_in_any_field(device):
    """Whichever field comes first: one of tokens, or one that is not given."""
    grids = {"k": uniform(TOKENS, 2), "n": uniform(PROCESS, 2), "m": uniform(PROCESS, 2)}

    def joint(x, t, condition):
        return {n: Prediction(logits(v, None) if n == "k" else 0.5 * v) for n, v in x.items()}

    tokens, numbers = np.full((1, 3), 3), np.ones((1, 3))
    if device is not None:
        tokens, numbers = torch.from_numpy(tokens), torch.from_numpy(numbers)
    for x in ({"k": tokens, "n": numbers}, {"n": numbers}):
        made = sample(joint, dict.fromkeys(grids, (3,)), ancestral, grids, [0], x=x)
        assert {n: str(v.dtype).rpartition(".")[2] for n, v in made.items()} == {
            "k": "int64", "n": "float64", "m": "float64",
        }  # fmt: skip
        assert all(torch.is_tensor(v) == (device is not None) for v in made.values())


@given(st.sampled_from(["float32", "float64", "numpy", "list"]), st.sampled_from([None, "cpu"]))
def test_an_uncond_of_another_kind_is_given_as_the_condition_is(kind, device):
    seen = []

    def network(x, time, c):
        seen.append(c)
        return x + c

    condition = {"c": np.ones((2, 3), np.float32)} if device is None else {"c": torch.ones(2, 3)}
    if kind in ("numpy", "list") or device is None:
        c = np.full((1, 3), 0.25)
        uncond = {"c": c.tolist() if kind == "list" else c if kind == "numpy" else c.astype(kind)}
    else:
        uncond = {"c": torch.full((1, 3), 0.25, dtype=getattr(torch, kind))}
    guide = diffusion.classifier_free(Denoiser(network, PROCESS, "x0"), 2.0, uncond)
    sample(guide, (3,), ddim, uniform(PROCESS, 1), [0, 1], condition, device=device)
    assert type(seen[0]) is type(condition["c"]) and seen[0].dtype == condition["c"].dtype
    assert (seen[0][2:] == 0.25).all() and (seen[0][:2] == 1).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_tables_of_vectors_of_another_kind(kind, device):
    table = np.eye(3)[::-1].copy()
    given = torch.from_numpy(table).to(kind) if isinstance(kind, torch.dtype) else table.astype(kind)
    for allowed in (None, [0, 1, 1], np.array([0, 1, 1]), torch.tensor([False, True, True])):
        guide = diffusion.rounding(lambda x, t, c: Prediction(0.5 * x), given, allowed)
        made = sample(guide, (2, 3), ddim, uniform(PROCESS, 2), [0, 1], device=device)
        assert "float32" in str(made.dtype) and (abs(made).sum(-1) == 1).all()
        assert allowed is None or (made[..., 2] == 0).all()


@given(st.sampled_from(["uint8", "int32", "int64"]), st.sampled_from([None, "cpu"]))
def test_a_hook_may_give_tokens_of_any_whole_numbers(kind, device):
    states = []

    def hook(step, noise):
        states.append(str(step.x.dtype).rpartition(".")[2])
        return step.x.astype(kind) if device is None else step.x.to(getattr(torch, kind))

    out = sample(Denoiser(logits, TOKENS), (3,), ancestral, uniform(TOKENS, 3), [1, 2], hooks=[hook], device=device)
    assert {*states, str(out.dtype).rpartition(".")[2]} == {"int64"}
    yes = lambda step, noise: step.x > 0  # noqa: E731
    with pytest.raises(DiffusionError, match=r"has made is of .*bool; .*int64 is needed"):
        sample(Denoiser(logits, TOKENS), (3,), ancestral, uniform(TOKENS, 3), [1], hooks=[yes], device=device)
