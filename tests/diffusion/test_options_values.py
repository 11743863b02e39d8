"""Values: what the core makes is equal, pickles and shows itself by its options; and some that it must compute."""

import copy
import inspect
import multiprocessing
import pickle
import pydoc
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import (
    GRIDS,
    SCHEDULES,
    Categorical,
    Denoiser,
    DiffusionError,
    Formulas,
    Gaussian,
    Grid,
    Noise,
    Prediction,
    Torus,
    ZeroCoM,
    ancestral,
    betas,
    classifier_free,
    cosine,
    ddim,
    dynamic_threshold,
    edm_schedule,
    exponential,
    heun,
    karras,
    leading,
    on,
    predictor_corrector,
    rectified_flow,
    sample,
    schedule,
    uniform,
    variance_exploding,
    zero_terminal_snr,
)
from inkwash.training.loss_aware import LossAware
from tests.diffusion.oracle import TABLE, denoise

PROCESS = Gaussian(cosine())
GRID = uniform(PROCESS, 4, start=0.9)


def network(x, time, **condition):
    """A network of a module's own level, which pickles by its name."""
    return 0.5 * x


def log_prob(x, t, condition=None):
    return -(x**2).sum()


def variance(t):
    return 1.0


@schedule()
def own(power: float = 1.0) -> Formulas:
    """A schedule of one's own, as the docstring of the module says."""
    return Formulas(lambda t: 1 - 0 * t, lambda t: 9 * t**power)


DENOISER = Denoiser(network, PROCESS, "v")
UNCOND = {"c": np.arange(3.0)}
MAKERS = {  # each: a value that another maker's is not, of a number that makes it another
    "linear_beta": lambda a: diffusion.linear_beta(0.1 * a),
    "sub_vp": lambda a: diffusion.sub_vp(0.1 * a),
    "cosine": lambda a: cosine(0.01 * a),
    "cosine, shifted": lambda a: cosine(shift=3.0 * a),
    "sigmoid": lambda a: diffusion.sigmoid(tau=a),
    "sqrt": lambda a: diffusion.sqrt(0.001 * a),
    "variance_exploding": lambda a: variance_exploding(sigma_min=0.01 * a),
    "edm_schedule": lambda a: edm_schedule(80.0 * a),
    "rectified_flow": lambda a: rectified_flow(a),
    "scaled_linear": lambda a: diffusion.scaled_linear(0.0001 * a),
    "betas": lambda a: betas(TABLE / a),
    "own": lambda a: own(a),
    "Gaussian": lambda a: Gaussian(cosine(0.01 * a)),
    "ZeroCoM": lambda a: ZeroCoM(cosine(0.01 * a)),
    "Torus": lambda a: Torus(edm_schedule(), a),
    "Categorical": lambda a: Categorical(cosine(), (1 / (2 * a), 1 - 1 / (2 * a))),
    "Grid": lambda a: Grid(PROCESS, (0.9 / a, 0.0)),
    **{name: partial(lambda f, a: f(PROCESS, round(2 * a)), f) for name, f in GRIDS.items()},
    "edm": lambda a: diffusion.edm(a),
    "Denoiser": lambda a: Denoiser(network, Gaussian(cosine(0.01 * a)), diffusion.edm(a)),
    "Denoiser of tables": lambda a: Denoiser(network, Gaussian(betas(TABLE / a)), "v", diffusion.quarter_log_sigma),
    "min_snr": lambda a: diffusion.min_snr(a),
    "p2": lambda a: diffusion.p2(a),
    "edm_weight": lambda a: diffusion.edm_weight(a),
    "vlb": lambda a: diffusion.vlb(PROCESS, round(2 * a)),
    "logit_normal": lambda a: diffusion.logit_normal(a),
    "log_normal": lambda a: diffusion.log_normal(PROCESS, std=a),
    "d3pm_bound": lambda a: diffusion.d3pm_bound(round(2 * a)),
    "symbols_cross_entropy": lambda a: diffusion.symbols_cross_entropy(torch.arange(round(2 * a))),
    "classifier_free": lambda a: classifier_free(DENOISER, a, UNCOND),
    "classifier_free of arrays": lambda a: classifier_free(DENOISER, 2.0, {"c": np.arange(3) * a}, (0.1, 0.9), 0.5),
    "autoguidance": lambda a: diffusion.autoguidance(DENOISER, Denoiser(network, PROCESS), a),
    "adaptive_projected": lambda a: diffusion.adaptive_projected(DENOISER, a, UNCOND),
    "classifier": lambda a: diffusion.classifier(DENOISER, log_prob, a),
    "dps": lambda a: diffusion.dps(DENOISER, network, torch.ones(3) * a, variance),
    "static_threshold": lambda a: diffusion.static_threshold(DENOISER, a),
    "dynamic_threshold": lambda a: dynamic_threshold(classifier_free(DENOISER, 2.0, UNCOND), 0.9, a),
    "rounding": lambda a: diffusion.rounding(DENOISER, np.eye(3) * a),
    "allowed_symbols": lambda a: diffusion.allowed_symbols(DENOISER, np.arange(9) < 2 * a),
    "token_gradient": lambda a: diffusion.token_gradient(DENOISER, torch.eye(3), log_prob, a),
    "tiled": lambda a: diffusion.tiled(DENOISER, round(8 * a), 1),
    "gradient_control": lambda a: diffusion.gradient_control(log_prob, a, 1.0),
    "known_region": lambda a: diffusion.known_region(PROCESS, np.ones(3) * a, np.arange(3) < 1),
    "on, a hook": lambda a: on("b", diffusion.gradient_control(log_prob, a, 1.0)),
    "on, a guide": lambda a: on("b", partial(diffusion.static_threshold, limit=a)),
    "on, applied": lambda a: on("b", partial(diffusion.static_threshold, limit=a))(Denoiser(network, {"b": PROCESS})),
    "Noise": lambda a: Noise([7], (3,), "f", stream=f"{a}"),
    "Noise, masked": lambda a: Noise([7, 8], (9,), mask=np.arange(18).reshape(2, 9) < 4 * a, dtype="float64"),
    "LossAware": lambda a: LossAware(round(4 * a)),
}
NAMES, NUMBERS = st.sampled_from(sorted(MAKERS)), st.sampled_from([1.0, 1.5, 2.0])
UNHASHABLE = {"Noise", "Noise, masked", "LossAware"}  # they change as they are used


def agrees(a, b):
    """Equal both ways round, and so are the hashes."""
    assert a == b and b == a and (a != b) is False
    assert type(a).__hash__ is None or hash(a) == hash(b)
    return True


@given(NAMES, NUMBERS, NUMBERS)
def test_equal_by_value_and_unequal_by_any_option(name, a, b):
    one, other = MAKERS[name](a), MAKERS[name](b)
    assert agrees(one, MAKERS[name](a))
    assert agrees(one, other) if a == b else one != other
    assert (type(one).__hash__ is None) == (name in UNHASHABLE)
    assert one != "other" and one is not None and one != 1.0


@given(NAMES, NAMES, NUMBERS)
def test_what_different_makers_make_is_different(one, other, a):
    if len({one, other} & {"Grid", *GRIDS}) < 2:  # a grid is its times, whoever has made them
        assert (MAKERS[one](a) == MAKERS[other](a)) == (one == other)


@given(NAMES, NUMBERS, st.sampled_from([0, 2, pickle.HIGHEST_PROTOCOL]))
def test_pickled_and_copied(name, a, protocol):
    value = MAKERS[name](a)
    for again in (pickle.loads(pickle.dumps(value, protocol)), copy.copy(value), copy.deepcopy(value)):
        assert agrees(value, again) and repr(again) == repr(value)
        assert again != MAKERS[name](a + 1)


@given(NAMES, NUMBERS)
def test_shown_by_name_and_options(name, a):
    value = MAKERS[name](a)
    text = repr(value)
    if "Denoiser" not in name:  # a network is shown as Python shows it
        assert "<lambda>" not in text and " at 0x" not in text and "<function" not in text
    maker = {"scaled_linear": "betas", "log_normal": "log_normal"}.get(name, name.partition(",")[0].partition(" ")[0])
    maker = "Grid" if name in GRIDS else "_on_field" if name == "on, applied" else maker
    assert text.startswith(f"{maker}(") and text.endswith(")")
    if name != "allowed_symbols":  # of a long array the middle is left out
        assert text != repr(MAKERS[name](a + 1))


@given(st.sampled_from(sorted(SCHEDULES.keys() - {"betas", "scaled_linear"})), NUMBERS)
def test_a_schedule_of_plain_options_is_its_own_repr(name, a):
    value = MAKERS[name](a)
    assert eval(repr(value), vars(diffusion)) == value
    process = Gaussian(value)
    assert eval(repr(process), vars(diffusion)) == process
    grid = uniform(process, 3)
    assert eval(repr(grid), vars(diffusion)) == grid


@pytest.mark.parametrize("name", MAKERS)
def test_tools_can_look_at_it(name):
    """inspect, help and what asks for attributes that are not there."""
    value = MAKERS[name](1.0)
    assert pydoc.render_doc(value) and dir(value)
    assert not hasattr(value, "__wrapped__") and not hasattr(value, "_repr_html_")
    if callable(value):
        inspect.signature(value)
    empty = type(value).__new__(type(value))  # as pickle and copy make it
    assert not hasattr(empty, "__deepcopy__") and not hasattr(empty, "nothing")


@pytest.mark.parametrize(
    "f", [*SCHEDULES.values(), *GRIDS.values(), *diffusion.SAMPLERS.values(), classifier_free, on]
)
def test_makers_keep_their_signature_and_words(f):
    assert f.__doc__ and f.__doc__[:20] in pydoc.render_doc(f)
    assert pickle.loads(pickle.dumps(f)) is f
    assert "args" not in inspect.signature(f).parameters


def test_what_was_written_otherwise_is_equal():
    for one, other in (
        (cosine(), cosine(offset=0.008)),
        (rectified_flow(3), rectified_flow(3.0)),
        (rectified_flow(np.float64(3)), rectified_flow(3.0)),
        (rectified_flow(np.sqrt(9.0)), rectified_flow(shift=3)),
        (betas(TABLE), betas(TABLE.tolist())),
        (betas(tuple(TABLE)), betas(TABLE.copy())),
        (diffusion.scaled_linear(), betas(np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)),
        (uniform(PROCESS, 2), Grid(PROCESS, [1, 0.5, 0])),
        (Categorical.masked(cosine(), 2), Categorical(cosine(), np.array([0, 0, 1]))),
    ):
        assert agrees(one, other)
    assert classifier_free(DENOISER, 2.0, {"c": np.ones(3)}) != classifier_free(DENOISER, 2.0, {"c": torch.ones(3)})
    assert classifier_free(DENOISER, 2.0, {"c": np.ones(3)}) != classifier_free(DENOISER, 2.0, {"d": np.ones(3)})


def test_noise_is_equal_until_one_has_drawn():
    one, other = Noise([7], (3,)), Noise([7], (3,))
    first = one.normal()
    assert one != other
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(first, other.normal())
    assert one == other == again == copy.deepcopy(one)
    np.testing.assert_array_equal(again.normal(), one.normal())
    np.testing.assert_array_equal(again.between(0.5, 2.0), one.between(0.5, 2.0))


def test_a_copy_of_noise_draws_for_itself():
    noise = Noise([7], (3,))
    for other in (copy.copy(noise), copy.deepcopy(noise)):
        other.normal()
        assert other != noise
    np.testing.assert_array_equal(noise.normal(), Noise([7], (3,)).normal())


def elsewhere(values):
    """In a spawned process: what came, and what it does there."""
    drawn = sample(values["classifier_free"], (3,), ancestral, values["uniform"], [7], {"c": np.ones((1, 3))})
    return values, {name: repr(value) for name, value in values.items()}, values["cosine"].at(0.3), drawn


@pytest.mark.slow
def test_a_spawned_process_has_the_same():
    values = {name: maker(1.5) for name, maker in MAKERS.items()}
    values |= {"uniform": GRID, "classifier_free": classifier_free(DENOISER, 2.0, {"c": np.zeros((1, 3))})}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        back, words, level, drawn = pool.apply(elsewhere, (values,))
    assert all(agrees(back[name], value) for name, value in values.items())
    assert all(repr(value) == words[name] for name, value in values.items() if "Denoiser" not in name)
    assert level == values["cosine"].at(0.3)
    np.testing.assert_array_equal(drawn, elsewhere(values)[3])


def test_a_guide_that_remembers_is_copied_fresh():
    guide = diffusion.adaptive_projected(lambda x, t, c: Prediction(x + c["c"]), 2.0, {"c": np.zeros((1, 3))})
    x, condition = np.ones((1, 3)), {"c": np.arange(3.0)[None]}
    first = guide(x, PROCESS.at(0.5), condition).x0
    assert not np.allclose(guide(x, PROCESS.at(0.5), condition).x0, first)
    np.testing.assert_array_equal(copy.deepcopy(guide)(x, PROCESS.at(0.5), condition).x0, first)


def thresholded(x0, quantile):
    return dynamic_threshold(lambda x, t, c: Prediction(x), quantile)(x0, PROCESS.at(0.5), None).x0


def test_dynamic_threshold_of_more_numbers_than_torch_takes():
    x0 = np.random.default_rng(0).standard_normal((1, 2**24 + 2), np.float32) * 3
    np.testing.assert_allclose(thresholded(torch.from_numpy(x0), 0.995), thresholded(x0, 0.995), rtol=1e-6)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(torch.from_numpy(x0[0]), 0.5)


@given(st.integers(1, 50), st.integers(1, 3), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_dynamic_threshold_is_the_same_on_torch_and_numpy(count, batch, quantile, seed):
    x0 = 3 * np.random.default_rng(seed).standard_normal((batch, count))
    out = thresholded(x0, quantile)
    np.testing.assert_allclose(thresholded(torch.from_numpy(x0), quantile), out, rtol=1e-12)
    reach = np.maximum(np.quantile(abs(x0), quantile, axis=1, keepdims=True), 1)
    np.testing.assert_allclose(out, np.clip(x0, -reach, reach) / reach, rtol=1e-12)


@given(st.floats(-5, 5), st.floats(-9, 9), st.floats(0, 1), st.booleans())
def test_rescaling_a_constant_prediction(value, scale, rescale, on_torch):
    """It has no spread to bring back: the guided value stays, finite."""
    xp = torch if on_torch else np
    guide = classifier_free(
        lambda x, t, c: Prediction(x * 0 + c["c"]), scale, {"c": xp.zeros((1, 3))}, rescale=rescale
    )
    x0 = guide(xp.zeros((2, 3)), PROCESS.at(0.5), {"c": xp.zeros((2, 3)) + value}).x0
    np.testing.assert_allclose(np.asarray(x0), value * scale, atol=1e-5)


@given(st.floats(0.1, 4), st.floats(1.5, 9), st.integers(0, 99))
def test_rescaling_all_the_way_keeps_the_spread(spread, scale, seed):
    c = np.random.default_rng(seed).standard_normal((2, 8)) * spread
    guide = classifier_free(lambda x, t, c: Prediction(x * 0 + c["c"]), scale, {"c": np.zeros((1, 8))}, rescale=1.0)
    x0 = guide(np.zeros((2, 8)), PROCESS.at(0.5), {"c": c}).x0
    np.testing.assert_allclose(x0.std(1), c.std(1))


@given(
    st.sampled_from(["cosine", "linear_beta", "edm_schedule", "rectified_flow"]),
    st.floats(0.05, 1),
    st.integers(0, 99),
)
def test_the_step_of_the_corrector_is_that_of_its_docstring(name, r, seed):
    """x + h score + sqrt(2 h) z with h = 2 a (r |z| / |score|)^2 and a = alpha_t^2 / alpha_s^2, not its inverse."""
    process = Gaussian(SCHEDULES[name]())
    grid, noise = uniform(process, 1, start=0.8, end=0.3), Noise([seed], (6,), stream="0.8")
    t, s = grid
    assert "h = 2 a (r |z| / |score|)^2" in predictor_corrector.__doc__
    assert "a = alpha_t^2 / alpha_s^2" in predictor_corrector.__doc__
    x = np.full((1, 6), 0.3, np.float32)
    found = sample(denoise, (6,), partial(predictor_corrector, signal_to_noise=r), grid, [seed], x=x, dtype="float64")
    noise = Noise([seed], (6,), stream="0.8", dtype="float64")
    x = process.transition(x, t, s, denoise(x.astype(float), t)).sample(noise)
    score, z = (s.alpha * denoise(x, s).x0 - x) / s.sigma**2, noise.normal()
    h = 2 * (t.alpha / s.alpha) ** 2 * (r * np.linalg.norm(z) / np.linalg.norm(score)) ** 2
    np.testing.assert_allclose(found, x + h * score + (2 * h) ** 0.5 * z, rtol=1e-6, atol=1e-6)


BOTH = pytest.mark.parametrize("grid", [karras, exponential])


@BOTH
@settings(max_examples=30)
@given(table=st.lists(st.floats(1e-5, 0.5), min_size=3, max_size=60), steps=st.integers(2, 12))
def test_grids_on_a_table_end_at_its_own_levels(grid, table, steps):
    made = grid(Gaussian(betas(table)), steps)
    sigmas = np.sqrt(1 / np.cumprod(1 - np.array(table)) - 1)
    assert made[0].edm_sigma == pytest.approx(sigmas[-1], rel=1e-6)
    assert made[-2].edm_sigma == pytest.approx(sigmas[0], rel=1e-6) and made[-1].t == 0
    assert made[0].t == pytest.approx(1) and made[-2].t == pytest.approx(1 / len(table))


@BOTH
def test_grids_on_a_table_that_ends_in_noise_alone(grid):
    made = grid(Gaussian(betas(zero_terminal_snr(TABLE))), 9)
    assert made[0].t == pytest.approx(0.999) and made[-2].t == pytest.approx(0.001)


@BOTH
@given(steps=st.integers(2, 20), name=st.sampled_from(["cosine", "rectified_flow", "edm_schedule", "linear_beta"]))
def test_grids_on_other_schedules_end_at_edms_levels(grid, steps, name):
    made = grid(Gaussian(SCHEDULES[name]()), steps)
    assert made[0].edm_sigma == pytest.approx(80, rel=1e-3) and made[-2].edm_sigma == pytest.approx(0.002, rel=1e-3)
    assert len(made) == steps + 1 and made[-1].sigma == 0


@BOTH
@settings(max_examples=25)
@given(
    ends=st.tuples(st.floats(0.02, 0.9), st.floats(1.1, 45)),
    steps=st.integers(2, 9),
    made=st.sampled_from([cosine(), betas(TABLE), edm_schedule(), variance_exploding(), rectified_flow(3.0)]),
)
def test_explicit_ends_win(grid, ends, steps, made):
    low, high = ends
    levels = grid(Gaussian(made), steps, sigma_max=high, sigma_min=low)
    assert (levels[0].edm_sigma, levels[-2].edm_sigma) == pytest.approx((high, low), rel=1e-3)
    one = grid(Gaussian(made), steps, sigma_max=high)
    assert one[0].edm_sigma == pytest.approx(high, rel=1e-3)
    assert one[-2].edm_sigma == pytest.approx(made.sigma_min, rel=1e-3)


def test_ends_of_a_schedule_that_names_its_own():
    made = karras(Gaussian(variance_exploding(0.02, 30.0)), 5)
    assert (made[0].edm_sigma, made[-2].edm_sigma) == pytest.approx((30, 0.02), rel=1e-3)
    assert edm_schedule(9.0).sigma_max == 9 and karras(Gaussian(edm_schedule(9.0)), 3)[0].edm_sigma == 9


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(0, 40))
def test_the_offset_of_leading(steps, table, offset):
    """Entries o, k + o, 2 k + o, ... of the table, the noisiest first, as the schedulers of checkpoints lay them."""
    k = table // steps if steps <= table else 0
    last = (steps - 1) * k + offset
    if not k or last >= table:
        with pytest.raises(DiffusionError, match=r"steps_offset = .*is possible|at most the table's"):
            leading(PROCESS, steps, table, offset)
        return
    made = leading(PROCESS, steps, table, steps_offset=offset)
    entries = [round(t * table) - 1 for t in made.times[:-1]]
    assert entries == [i * k + offset for i in reversed(range(steps))] and made.times[-1] == 0
    assert all(a > b for a, b in pairwise(made.times))


@settings(max_examples=25)
@given(
    sampler=st.sampled_from(["ddim", "ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "repaint", "lms"]),
    form=st.sampled_from(sorted(diffusion.PARAMETRIZATIONS)),
    seed=st.integers(0, 9),
)
def test_gradients_through_all_steps(sampler, form, seed):
    """Of a loss on the sample in the network's parameters and in x, beside central differences."""
    torch.manual_seed(seed)
    net, start = torch.nn.Linear(2, 2).double(), torch.randn(1, 2, dtype=torch.float64).requires_grad_()
    denoiser, grid = Denoiser(lambda x, t: net(x).tanh(), PROCESS, form), uniform(PROCESS, 4, start=0.7)

    def loss(x):
        options = {"x": x, "device": "cpu", "dtype": "float64", "gradients": True}
        return (sample(denoiser, (2,), diffusion.SAMPLERS[sampler], grid, [seed], **options) ** 2).sum()

    loss(start).backward()
    for values in (start, net.weight, net.bias):
        place, eps = (0,) * values.ndim, 1e-6
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                values[place] += sign * eps
                ends.append(float(loss(start)))
                values[place] -= sign * eps
        assert float(values.grad[place]) == pytest.approx((ends[0] - ends[1]) / (2 * eps), rel=1e-4, abs=1e-6)


@given(st.booleans(), st.sampled_from([ddim, ancestral, heun]))
def test_graphs_are_kept_only_when_asked(gradients, sampler):
    net, x = torch.nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    denoiser = Denoiser(lambda x, t: net(x), PROCESS, "v")
    for given_x in (None, x):
        out = sample(denoiser, (2,), sampler, GRID, [0], x=given_x, device="cpu", gradients=gradients)
        assert out.requires_grad == gradients
    if gradients:
        out.sum().backward()
        assert x.grad.abs().sum() > 0 and all(p.grad is not None for p in net.parameters())


def test_gradients_in_states_of_fields():
    net = torch.nn.Linear(2, 2)
    denoiser = Denoiser(lambda x, t: {n: net(v) for n, v in x.items()}, {"a": PROCESS, "b": PROCESS}, "v")
    x = {n: torch.ones(1, 2, requires_grad=True) for n in "ab"}
    out = sample(denoiser, {"a": (2,), "b": (2,)}, ddim, GRID, [0], x=x, device="cpu", gradients=True)
    (out["a"].sum() + out["b"].sum()).backward()
    assert all(v.grad.abs().sum() > 0 for v in [*x.values(), net.weight])
