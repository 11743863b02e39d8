"""Every option of the core has a range; what is out of it is refused with the function, the option and the range."""

import inspect
import math
import re
from decimal import Decimal
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import (
    GRIDS,
    SAMPLERS,
    SCHEDULES,
    Categorical,
    DiffusionError,
    Gaussian,
    Noise,
    sample,
    uniform,
)
from inkwash.diffusion.options import POSITIVE, Range
from inkwash.training.loss_aware import LossAware
from tests.diffusion.oracle import denoise

PROCESS, TOKENS = Gaussian(diffusion.cosine()), Categorical.masked(diffusion.rectified_flow(), 3)
NUMERIC = {"int", "float", "int | None", "float | None", "tuple[float, float]"}
UNCHECKED = {
    ("ddim_transition", "eta"): "a formula, called at every step by samplers that have checked it",
    ("uniform_times", "count"): "the size of a batch, which `loss` gives",
    ("child_seed", "seed"): "a seed, refused by the one law of seeds",
}


def numeric(f):
    return [name for name, option in inspect.signature(f).parameters.items() if option.annotation in NUMERIC]


FUNCTIONS = {name: f for name, f in vars(diffusion).items() if inspect.isfunction(f) and numeric(f)}
OPTIONS = [
    (name, option) for name, f in FUNCTIONS.items() for option in numeric(f) if (name, option) not in UNCHECKED
]
GIVEN = {  # what a call needs beside the option in question
    **{"x": np.ones((1, 2), np.float32), "grid": uniform(PROCESS, 2, start=0.9), "noise": Noise([0], (2,))},
    **{"process": PROCESS, "denoise": denoise, "weak": denoise, "uncond": {}, "log_prob": lambda x, t, c: x.sum()},
    **{"steps": 3, "scale": 2.0, "size": 4, "overlap": 1, "lr": 0.1, "lambda_": 1.0, "tokens": 256, "shape": (2,)},
    **{"table": np.eye(4), "sigmas": [0.1, 1.0], "errors": [0.2, 0.1]},
}


def call(name, **options):
    """The function with the option and whatever else it must be given; samplers are only made, not run."""
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    needed = {p.name: GIVEN[p.name] for p in parameters if p.default is p.empty and p.name not in options}
    if name == "unmask":
        needed |= {"x": np.full((1, 2), 3), "grid": uniform(TOKENS, 2)}
    return FUNCTIONS[name](**needed, **options)


def outside(allowed, default):
    """Values that the range does not hold: near it and far, and of other kinds."""
    alien = [math.nan, np.float32("nan"), True, False, "1", "", b"1", 1j, [], {}, (1.0,), Decimal(1), np.ones(2)]
    if allowed.pair:
        pair = st.tuples(
            st.floats(allowed.low, min(allowed.high, 1e6)), st.floats(allowed.low, min(allowed.high, 1e6))
        )
        one = outside(allowed._replace(pair=False), 0).filter(lambda value: not isinstance(value, np.ndarray))
        descending = pair.filter(lambda ends: ends[0] > ends[1])
        return st.one_of(
            st.floats(), descending, st.tuples(one, st.just(1.0)), st.tuples(st.just(0.0), one), triple()
        )
    values = [st.sampled_from(alien), *([] if default is None else [st.none()]), triple(2)]
    if allowed.low > -math.inf:
        values += [st.floats(max_value=allowed.low, exclude_max=not allowed.above), st.just(-math.inf)]
        values += [st.integers(max_value=math.ceil(allowed.low) - 1), st.just(-(10**400))]
    if allowed.high < math.inf:
        values += [st.floats(min_value=allowed.high, exclude_min=True), st.integers(math.floor(allowed.high) + 1)]
        values += [st.just(math.inf), st.just(10**400)]
    if allowed.whole:
        values += [st.floats(), st.integers(int(allowed.low), int(allowed.low) + 9).map(float)]
    return st.one_of(values)


def triple(size=3):
    return st.lists(st.floats(0, 1), min_size=size, max_size=size).map(sorted).map(tuple)


def inside(allowed):
    low, high = max(allowed.low, -1e12), min(allowed.high, 1e12)
    if allowed.pair:
        return st.lists(st.floats(low, high), min_size=2, max_size=2).map(sorted).flatmap(
            lambda ends: st.sampled_from([tuple(ends), ends])
        )  # fmt: skip
    if allowed.whole:
        whole = st.integers(int(low), int(min(high, low + 20)))
        return st.one_of(whole, whole.map(np.int64))
    values = st.floats(low, high, exclude_min=allowed.above)
    return st.one_of(values, values.map(np.float64), st.integers(math.ceil(low) + allowed.above, int(high)))


def ranges(name, option):
    return FUNCTIONS[name].ranges[option]


def refused(name, option):
    """What the message must be for any value."""
    words = re.escape(str(ranges(name, option)))
    return re.compile(rf"^{name}: {option} = .*; {words} is needed$", re.DOTALL)


def test_every_numeric_option_has_a_range():
    missing = [pair for pair in OPTIONS if pair[1] not in getattr(FUNCTIONS[pair[0]], "ranges", {})]
    assert not missing
    assert {*SAMPLERS, *GRIDS} - {"betas"} <= {f.__name__ for f in vars(diffusion).values() if inspect.isfunction(f)}
    assert all(hasattr(f, "ranges") for f in [*SAMPLERS.values(), *GRIDS.values(), *SCHEDULES.values()])
    for name, f in FUNCTIONS.items():  # a range of what is no option would never be looked at
        assert getattr(f, "ranges", {}).keys() <= inspect.signature(f).parameters.keys(), name
    for pair in UNCHECKED:
        assert pair[1] in numeric(FUNCTIONS[pair[0]]), pair


def test_every_default_is_in_its_range():
    for name, option in OPTIONS:
        default = inspect.signature(FUNCTIONS[name]).parameters[option].default
        if default is not inspect.Parameter.empty and default is not None:
            assert ranges(name, option).holds(default), (name, option)


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=map(" ".join, OPTIONS))
def test_values_outside_are_refused_by_name(name, option):
    default = inspect.signature(FUNCTIONS[name]).parameters[option].default

    @settings(max_examples=15)
    @given(outside(ranges(name, option), default))
    def refuses(value):
        with pytest.raises(DiffusionError, match=refused(name, option)):
            call(name, **{option: value})

    refuses()


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=map(" ".join, OPTIONS))
def test_values_inside_are_never_refused_for_their_range(name, option):
    """Another DiffusionError may say that options do not go together; nothing else may be raised."""

    @settings(max_examples=15)
    @given(inside(ranges(name, option)))
    def accepts(value):
        with np.errstate(all="ignore"):
            try:
                call(name, **{option: value})
            except DiffusionError as error:
                assert not refused(name, option).match(str(error)), error

    accepts()


@settings(max_examples=40)
@given(st.sampled_from([pair for pair in OPTIONS if pair[0] in SAMPLERS]), st.data())
def test_samplers_run_with_any_option_within_its_range(pair, data):
    name, option = pair
    value = data.draw(inside(ranges(name, option)))
    process = TOKENS if name == "unmask" else PROCESS
    logits = lambda x, t, c: diffusion.Prediction(np.zeros((*x.shape, 4), np.float32))  # noqa: E731
    x = np.ones((2, 3), np.float32) if name == "ddim_inversion" else None
    walk = partial(SAMPLERS[name], **{option: value})
    with np.errstate(all="ignore"):
        try:
            grid = uniform(process, 3, start=0.9)
            out = sample(logits if name == "unmask" else denoise, (3,), walk, grid, [0, 1], x=x)
        except DiffusionError as error:  # a step of Langevin dynamics may be too long for floats
            assert name == "annealed_langevin" or "s_noise" in option, error
            assert "not finite" in str(error)
        else:
            assert out.shape == (2, 3)


@given(st.floats(allow_nan=True), st.floats(allow_nan=True), st.booleans(), st.booleans())
def test_a_range_holds_what_it_says(low, value, above, whole):
    assume(not math.isnan(low))
    allowed = Range(low, above=above, whole=whole)
    assert allowed.holds(value) == (not whole and (value > low if above else value >= low))


NAMED = [
    ("repaint", {"n_resample": 0}, "repaint: n_resample = 0; a whole number from 1 is needed"),
    ("repaint", {"jump_length": -1}, "repaint: jump_length = -1; a whole number from 1 is needed"),
    ("ddim", {"eta": 10}, "ddim: eta = 10; a number from 0 to 1 is needed"),
    ("predictor_corrector", {"signal_to_noise": 10}, "signal_to_noise = 10; a number above 0 to 1 is needed"),
    ("karras", {"rho": 0}, "karras: rho = 0; a number from 0.1 to 1000 is needed"),
    ("unipc", {"order": 1.5}, "unipc: order = 1.5; a whole number from 1 to 3 is needed"),
    ("dpmpp_2m", {"eta": -1}, "dpmpp_2m: eta = -1; a number from 0 to 1 is needed"),
    ("karras", {"sigma_min": 2.0, "sigma_max": 1.0}, "karras: sigma_max = 1 must be above sigma_min = 2"),
    ("exponential", {"sigma_min": 2.0, "sigma_max": 1.0}, "exponential: sigma_max = 1 must be above sigma_min = 2"),
    ("variance_exploding", {"sigma_min": 50.0, "sigma_max": 0.01}, "sigma_max = 0.01 must be above sigma_min = 50"),
    (
        "classifier_free",
        {"interval": (0.9, 0.1)},
        r"interval = \(0.9, 0.1\); a pair of ascending numbers from 0 to 1",
    ),
    ("heun", {"s_t": 3.0}, "heun: s_t = 3.0; a pair of ascending numbers from 0 is needed"),
    ("karras", {"rho": None}, "karras: rho = None; a number from 0.1"),
    ("leading", {"steps": 10, "steps_offset": 500}, "leading: steps_offset = 500: at most 99 is possible"),
    ("leading", {"steps": 2000}, "steps = 2000: at most the table's 1000 are possible"),
    ("tiled", {"overlap": 4}, "tiled: overlap = 4 must be smaller than size = 4"),
]


@pytest.mark.parametrize(("name", "options", "words"), NAMED, ids=[f"{n} {o}" for n, o, _ in NAMED])
def test_named_cases(name, options, words):
    with pytest.raises(DiffusionError, match=words):
        call(name, **options)


def test_options_within_partial_are_refused_when_sampling_begins():
    def never(x, t, condition):
        raise AssertionError("asked")

    with pytest.raises(DiffusionError, match="ddim: eta = 10"):
        sample(never, (2,), partial(SAMPLERS["ddim"], eta=10), uniform(PROCESS, 3), [0])


@given(st.sampled_from([0, -1, 1.5, True, "3", math.nan]))
def test_options_of_classes(value):
    with pytest.raises(DiffusionError, match=r"LossAware: bins = .*; a whole number from 1 is needed"):
        LossAware(bins=value)
    with pytest.raises(DiffusionError, match=r"LossAware: history = .*; a whole number from 1 is needed"):
        LossAware(history=value)
    with pytest.raises(DiffusionError, match=r"Denoiser: variance_steps = .*; a whole number from 1 is needed"):
        diffusion.Denoiser(denoise, PROCESS, variance_steps=value)


@given(outside(POSITIVE, 1.0))
def test_the_period_of_a_torus(value):
    with pytest.raises(DiffusionError, match=r"(?s)torus: period = .*; a number above 0 to 1e\+12 is needed"):
        diffusion.Torus(diffusion.edm_schedule(), value)
