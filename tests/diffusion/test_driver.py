from itertools import pairwise

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    Denoiser,
    DiffusionError,
    Prediction,
    ancestral,
    classifier_free,
    ddim,
    dpmpp_2m,
    dynamic_threshold,
    euler,
    known_region,
    sample,
    static_threshold,
    uniform,
)
from tests.diffusion.oracle import MEAN, PROCESSES, VARIANCE, denoise

PROCESS = PROCESSES["cosine"]


def test_a_dict_of_fields_is_sampled_in_step_with_one_joint_call():
    calls = []

    def joint(x, t, condition):
        calls.append({name: point.t for name, point in t.items()})
        return {name: denoise(x[name], t[name]) for name in x}

    grids = {"a": uniform(PROCESS, 5), "b": uniform(PROCESSES["rectified_flow"], 5, start=0.9)}
    samplers = {"a": ancestral, "b": dpmpp_2m}
    both = sample(joint, {"a": (3,), "b": (2, 2)}, samplers, grids, [4, 5])
    assert calls == [{"a": a.t, "b": b.t} for a, b in list(zip(*grids.values(), strict=True))[:-1]]
    for name, shape in (("a", (3,)), ("b", (2, 2))):  # each field as if it were alone under its name
        alone = sample(
            lambda x, t, c: {n: denoise(x[n], t[n]) for n in x}, {name: shape}, samplers[name], grids[name], [4, 5]
        )
        np.testing.assert_array_equal(both[name], alone[name])


def test_a_field_on_a_coarser_grid_stands_still():
    """Of 2 and of 4 steps: the shares walked are 0, 1/2 and 0, 1/4, 1/2, 3/4."""
    times = []

    def joint(x, t, condition):
        times.append((t["a"].t, t["b"].t))
        return {n: denoise(x[n], t[n]) for n in x}

    sample(joint, {"a": (1,), "b": (1,)}, ddim, {"a": uniform(PROCESS, 2), "b": uniform(PROCESS, 4)}, [0])
    assert times == [(1, 1), (0.5, 0.75), (0.5, 0.5), (0, 0.25)]


def test_a_value_that_is_not_finite_stops_with_the_step_named():
    def broken(x, t, condition):
        return Prediction(x * (np.nan if t.t < 0.5 else 1.0))

    with pytest.raises(ValueError, match=r"step 3, from t = 0.4\d* to 0.2\d*: a value is not finite"):
        sample(broken, (2,), ddim, uniform(PROCESS, 4, start=0.9), [0])
    with pytest.raises(ValueError, match="of field 'a'"):
        sample(lambda x, t, c: {"a": broken(x["a"], t["a"], c)}, {"a": (2,)}, ddim, uniform(PROCESS, 4), [0])


def test_states_and_predictions_of_another_shape_are_refused():
    grid = uniform(PROCESS, 3)
    with pytest.raises(DiffusionError, match=r"x has the shape \(1, 3\): 2 seeds and .* \(3,\), make \(2, 3\)"):
        sample(denoise, (3,), ddim, grid, [0, 1], x=np.zeros((1, 3)))
    narrow = lambda x, t, c=None: Prediction(x[:, :1])  # noqa: E731
    with pytest.raises(DiffusionError, match=r"step 1, at t = 1: the denoiser's prediction has the shape \(2, 1\)"):
        sample(narrow, (3,), ddim, grid, [0, 1])


@pytest.mark.parametrize("form", ["eps", "score"])
def test_a_network_that_predicts_noise_says_nothing_of_noise_alone(form):
    denoiser = Denoiser(lambda x, time: x, PROCESS, form)
    with pytest.raises(DiffusionError, match=r"at t = 1 there is noise alone.*begin the grid at a smaller t"):
        sample(denoiser, (1,), ddim, uniform(PROCESS, 3), [0])
    sample(denoiser, (1,), ddim, uniform(PROCESS, 3, start=0.9), [0])


def test_hooks_see_every_step_and_may_replace_the_state():
    grid, seen = uniform(PROCESS, 4), []

    def watch(step, noise):
        seen.append((step.t.t, step.s.t, step.transition is not None))
        return step.x * 0 + 2.0 if step.s.t == 0 else None

    progress = []
    out = sample(denoise, (2,), ancestral, grid, [0], hooks=[watch], progress=lambda *p: progress.append(p))
    assert seen == [(t.t, s.t, True) for t, s in pairwise(grid)]
    assert (out == 2).all() and progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_hook_may_replace_one_field_of_several():
    joint = lambda x, t, c: {n: denoise(x[n], t[n]) for n in x}  # noqa: E731
    hook = lambda step, noise: {"a": 0 * step["a"].x}  # noqa: E731
    out = sample(joint, {"a": (1,), "b": (1,)}, ddim, uniform(PROCESS, 3), [0], hooks=[hook])
    assert out["a"] == 0 and out["b"] != 0


def test_self_conditioning_passes_the_last_prediction():
    given = []

    def network(x, t, condition):
        given.append(condition["previous"])
        return Prediction(0 * x + t.t)

    sample(network, (1,), ddim, uniform(PROCESS, 3), [0], self_conditioning=True)
    assert given[0] is None and [float(p[0, 0]) for p in given[1:]] == pytest.approx([1, 2 / 3])


def test_no_graph_is_kept_unless_a_guide_asks():
    weight = torch.nn.Parameter(torch.tensor(0.5))
    seen = []

    def plain(x, t, condition):
        return Prediction(weight * x)

    def with_gradient(x, t, condition):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(plain(x, t, condition).x0.sum(), x)
        seen.append(slope)
        return Prediction(0.5 * x.detach() + 0 * slope)

    out = sample(plain, (2,), euler, uniform(PROCESS, 3), [0], device="cpu")
    assert not out.requires_grad
    assert not sample(with_gradient, (2,), euler, uniform(PROCESS, 3), [0], device="cpu").requires_grad
    assert (torch.stack(seen) == 0.5).all()


def test_guidance_is_linear_batched_and_can_be_limited():
    calls = []

    def network(x, t, condition):
        calls.append(len(x))
        return Prediction(0 * x + condition["c"])

    x, condition, null = np.zeros((2, 1)), {"c": np.array([[1.0], [2.0]])}, {"c": np.array([[0.5]])}
    guided = classifier_free(network, 3.0, null, interval=(0.2, 0.8))
    np.testing.assert_allclose(guided(x, PROCESS.at(0.5), condition).x0, [[2.0], [5.0]])
    np.testing.assert_allclose(guided(x, PROCESS.at(0.9), condition).x0, [[1.0], [2.0]])
    classifier_free(network, 1.0, null)(x, PROCESS.at(0.5), condition)
    assert calls == [4, 2, 2]


def test_guidance_passes_self_conditioning_and_keeps_the_spread():
    given = []

    def network(x, t, condition):
        given.append(condition["previous"])
        return Prediction(0 * x + condition["c"], 0 * x + condition["c"])

    guided = classifier_free(network, 3.0, {"c": np.zeros((1, 1))})
    condition = {"c": np.array([[1.0], [2.0]])}
    out = sample(guided, (1,), ddim, uniform(PROCESS, 2), [0, 1], condition, self_conditioning=True)
    np.testing.assert_allclose(out, [[3], [6]])
    assert given[0] is None and given[1].tolist() == [[3], [6], [3], [6]]
    prediction = guided(np.zeros((2, 1)), PROCESS.at(0.5), {**condition, "previous": None})
    np.testing.assert_allclose(prediction.variance, condition["c"])


def test_thresholds():
    clean = np.array([[-4.0, 0.5, 2.0, 1.0], [-0.1, 0.2, 0.9, 0.3]])
    raw = lambda x, t, c: Prediction(clean if isinstance(x, np.ndarray) else torch.from_numpy(clean))  # noqa: E731
    np.testing.assert_allclose(static_threshold(raw)(clean, None, None).x0, np.clip(clean, -1, 1))
    reach = np.maximum(np.quantile(np.abs(clean), 0.75, axis=1, keepdims=True), 1)
    expected = np.clip(clean, -reach, reach) / reach
    for x in (clean, torch.from_numpy(clean)):
        np.testing.assert_allclose(dynamic_threshold(raw, 0.75)(x, None, None).x0, expected)


def test_a_known_region_is_kept_and_the_rest_is_drawn():
    x0, mask = np.full((1, 4), -1.3), np.array([[True, True, False, False]])
    out = sample(
        denoise, (4,), ancestral, uniform(PROCESS, 100), range(2000), hooks=[known_region(PROCESS, x0, mask)]
    )
    assert (out[:, :2] == np.float32(-1.3)).all()
    assert out[:, 2:].mean() == pytest.approx(MEAN, abs=0.05)
    assert out[:, 2:].var() == pytest.approx(VARIANCE, rel=0.1)
    hook = known_region(PROCESS, x0, mask)  # of NumPy arrays, on a torch state
    on_torch = sample(denoise, (4,), ancestral, uniform(PROCESS, 5), [0], hooks=[hook], device="cpu")
    assert (on_torch[:, :2] == np.float32(-1.3)).all()
