"""First mistakes: each is one line that says what to do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash import diffusion
from inkwash.diffusion import (
    GRIDS,
    PARAMETRIZATIONS,
    SAMPLERS,
    SCHEDULES,
    Categorical,
    Denoiser,
    DiffusionError,
    Formulas,
    Gaussian,
    Grid,
    ModelCall,
    Noise,
    Prediction,
    StepResult,
    Torus,
    ZeroCoM,
    ancestral,
    autoguidance,
    child_seed,
    classifier,
    classifier_free,
    cosine,
    ddim,
    dps,
    dynamic_threshold,
    edm_schedule,
    on,
    rectified_flow,
    sample,
    schedule,
    static_threshold,
    tiled,
    uniform,
)
from tests.diffusion.oracle import denoise

PROCESS, OTHER = Gaussian(cosine()), Gaussian(rectified_flow())
GRID = uniform(PROCESS, 4, start=0.9)
ONE, TWO = {"": (3,)}, {"a": (3,), "b": (2, 2)}
SHAPES, DEVICES = st.sampled_from([(3,), TWO]), st.sampled_from([None, "cpu"])


def joint(x, t, condition=None):
    """The exact denoiser of one field or of many."""
    return {n: denoise(x[n], t[n]) for n in x} if isinstance(x, dict) else denoise(x, t)


def wrong(words, denoiser=joint, shape=(3,), sampler=ddim, grid=GRID, seeds=(1, 2), **options):
    """`sample` is refused with these words, in one line that is not too long to read."""
    with pytest.raises(DiffusionError, match=words) as caught:
        sample(denoiser, shape, sampler, grid, seeds, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def of(shape):
    """How a field of that state is called in errors."""
    return r" of field '\w'" if isinstance(shape, dict) else ""


def each(shape, f):
    """A denoiser whose answer in each field is f of the exact one."""
    one = lambda x, t: f(denoise(x, t), x)  # noqa: E731
    return lambda x, t, c: {n: one(x[n], t[n]) for n in x} if isinstance(shape, dict) else one(x, t)


def test_a_torch_network_without_a_device():
    wrong(
        "the network is of torch, the state of NumPy: give `sample` a device", Denoiser(torch.nn.Identity(), PROCESS)
    )
    wrong("give `sample` a device", Denoiser(torch.nn.Identity(), {"a": PROCESS, "b": PROCESS}), TWO)


@given(SHAPES)
def test_arrays_of_the_other_kind(shape):
    """A function of torch on a state of NumPy, and the other way round; as a denoiser, a network and a hook."""
    to_torch = lambda p, x: Prediction(torch.from_numpy(p.x0))  # noqa: E731
    wrong(f"step 1{of(shape)}, .*predicts a Tensor, the state is a ndarray.*a device", each(shape, to_torch), shape)
    to_numpy = lambda p, x: Prediction(p.x0.numpy())  # noqa: E731
    words = f"step 1{of(shape)}, .*predicts a ndarray, the state is a Tensor"
    wrong(words, each(shape, to_numpy), shape, device="cpu")
    wrong(
        "the network's answer is a Tensor .* is needed, a ndarray", Denoiser(lambda x, t: torch.zeros(2, 3), PROCESS)
    )
    wrong("a state is a Tensor: give `sample` its device", hooks=[lambda step, noise: torch.from_numpy(step.x)])
    assert torch.is_tensor(sample(denoise, (3,), diffusion.euler, uniform(PROCESS, 2), [0, 1], x=torch.zeros(2, 3)))


@given(st.sampled_from(sorted(SAMPLERS)), SHAPES)
def test_a_name_or_a_grid_for_a_sampler(name, shape):
    wrong(
        f"sampler = '{name}'{of(shape)}: a function is needed; by name they are in SAMPLERS",
        shape=shape,
        sampler=name,
    )
    wrong(f"sampler = Grid.*{of(shape)}: a function is needed", shape=shape, sampler=GRID)
    wrong(f"grid = <function ddim.*{of(shape)}: a Grid is needed, uniform", shape=shape, grid=ddim)
    wrong(f"grid = Gaussian.*{of(shape)}: a Grid is needed, uniform", shape=shape, grid=PROCESS)
    wrong(f"grid = 20{of(shape)}: a Grid is needed, uniform", shape=shape, grid=20)


@given(st.sampled_from(sorted(SCHEDULES.keys() - {"betas", "scaled_linear"})), st.sampled_from(sorted(GRIDS)))
def test_a_schedule_for_a_process_and_a_schedule_not_called(name, grid):
    for what in (SCHEDULES[name](), SCHEDULES[name]):
        with pytest.raises(
            DiffusionError, match=rf"{name}.*: a process is needed; of a schedule, Gaussian\(schedule\)"
        ):
            Denoiser(lambda x, t: x, what)
        with pytest.raises(DiffusionError, match="a process is needed"):
            Denoiser(lambda x, t: x, {"a": PROCESS, "b": what})
        with pytest.raises(
            DiffusionError, match=rf"{name}.* is no process; of a schedule, take Gaussian\(schedule\)"
        ):
            GRIDS[grid](what, 3)
        with pytest.raises(DiffusionError, match=r"is no process; of a schedule, take Gaussian\(schedule\)"):
            Grid(what, (1.0, 0.0))
    for process in (Gaussian, Torus, ZeroCoM, lambda made: Categorical.masked(made, 3)):
        with pytest.raises(DiffusionError, match=rf"{name}.*: a schedule is needed, cosine\(\) for one"):
            process(SCHEDULES[name])
    with pytest.raises(DiffusionError, match="a schedule is needed"):
        Gaussian(PROCESS)


@given(SHAPES, DEVICES, st.sampled_from(sorted(SAMPLERS.keys() - {"unmask", "ddim_inversion"})))
def test_a_denoiser_that_returns_no_prediction(shape, device, name):
    options = {"shape": shape, "device": device, "sampler": SAMPLERS[name]}
    kind = "ndarray" if device is None else "Tensor"
    words = rf"step 1{of(shape)}, at t = 0.9: the denoiser gave a {kind}; return a Prediction\(x0\)"
    wrong(words, each(shape, lambda p, x: p.x0), **options)
    wrong(f"step 1{of(shape)}, at t = 0.9: the denoiser gave no prediction of it", lambda x, t, c: None, **options)
    wrong(f"step 1{of(shape)}, .*predicts a float", each(shape, lambda p, x: Prediction(0.5)), **options)
    other = {"c": denoise(np.zeros((2, 3)), GRID[0])}
    wrong("the denoiser gave no prediction of it", lambda x, t, c: other, **options)


def test_one_prediction_for_many_fields():
    wrong("the denoiser gave no prediction of it", lambda x, t, c: denoise(x["a"], t["a"]), TWO)
    wrong("the denoiser gave no prediction of it", lambda x, t, c: x["a"], TWO)


@given(SHAPES, DEVICES, st.integers(1, 4))
def test_predictions_of_another_shape(shape, device, size):
    bad = each(shape, lambda p, x: Prediction(p.x0[..., :1] if x.shape[-1] > size else p.x0[..., None]))
    words = rf"step 1{of(shape)}, at t = 0.9: the denoiser's prediction has the shape .*; \(2, .*\) is needed"
    wrong(words, bad, shape, device=device)


@given(SHAPES, DEVICES, st.sampled_from(sorted(PARAMETRIZATIONS)))
def test_networks_that_answer_with_another_shape(shape, device, form):
    """Also one that would broadcast against the state, and in training."""
    process = dict.fromkeys(shape, PROCESS) if isinstance(shape, dict) else PROCESS
    name = r"the network's answer( of field '\w')? is a .* of shape .*; for a state of .* one of .* is needed"
    for cut in (lambda x: x[..., :1], lambda x: x[..., None], lambda x: x[:1], lambda x: None, lambda x: 0.0):
        network = lambda x, t, cut=cut: {n: cut(v) for n, v in x.items()} if isinstance(x, dict) else cut(x)  # noqa: E731
        denoiser = Denoiser(network, process, form)
        wrong(name, denoiser, shape, device=device)
        x0 = {n: torch.zeros(2, *s) for n, s in shape.items()} if isinstance(shape, dict) else torch.zeros(2, 3)
        with pytest.raises(DiffusionError, match=name):
            denoiser.loss(x0)


def test_a_network_that_does_not_answer_for_a_field():
    wrong(
        "the network's answer of field 'b' is a NoneType",
        Denoiser(lambda x, t: {"a": x["a"]}, dict.fromkeys(TWO, PROCESS)),
        TWO,
    )
    wrong(
        "the network's answer of field 'a' is a NoneType",
        Denoiser(lambda x, t: x["a"], dict.fromkeys(TWO, PROCESS)),
        TWO,
    )


@given(
    st.one_of(
        st.integers(),
        st.floats(),
        st.none(),
        st.text(min_size=1, max_size=9),
        st.lists(st.floats(0, 9), min_size=1, max_size=9),
    )
)
def test_shapes(shape):
    if isinstance(shape, list):
        shape = tuple(shape)
    wrong(r"shape = .*: a tuple of whole numbers is needed, \(2,\) for two numbers", shape=shape)
    wrong(r"shape = .* of field 'a': a tuple of whole numbers is needed", shape={"a": shape})


@pytest.mark.parametrize("shape", [2, (0,), (-1, 2), (True,), (2.0,), np.int64(3)])
def test_shapes_that_are_nearly_one(shape):
    wrong("shape = .*: a tuple of whole numbers is needed", shape=shape)


def test_a_state_without_fields():
    wrong("shape = {}: a state has one field at least", shape={})


@given(st.one_of(st.integers(), st.none(), st.floats(), st.just([]), st.just(()), st.just({}), st.just(np.arange(0))))
def test_seeds_that_are_no_list(seeds):
    words = r"seeds = .*: one whole number for each sample is needed, as \[3\] or range\(3\)"
    wrong(words, seeds=seeds)
    with pytest.raises(DiffusionError, match=words):
        Noise(seeds, (2,))


@given(
    st.one_of(
        st.integers(max_value=-1), st.integers(2**64), st.floats(), st.booleans(), st.text(), st.none(), st.just(1j)
    )
)
def test_one_law_of_seeds(seed):
    words = r"seed .*: a whole number from 0 to 2\^64 - 1 is needed"
    for f in (
        lambda: Noise([0, seed], (2,)),
        lambda: child_seed(seed, 1),
        lambda: sample(denoise, (2,), ddim, GRID, [seed]),
    ):
        with pytest.raises(DiffusionError, match=words):
            f()


@given(st.integers(0, 2**64 - 1), st.sampled_from([int, np.uint64]))
def test_every_whole_number_is_a_seed(seed, kind):
    noise, child = Noise([kind(seed)], (2,)), child_seed(kind(seed), "particle", 3)
    assert noise == Noise([seed], (2,)) and child == child_seed(seed, "particle", 3) != child_seed(
        seed, "particle", 4
    )
    assert 0 <= child < 2**64 and np.isfinite(Noise([child], (2,)).normal()).all()


@given(st.sampled_from([np.int64, np.uint8, np.int32, np.complex64, np.complex128, np.bool_]), SHAPES)
def test_data_that_are_not_real_numbers(kind, shape):
    words = f"real numbers \\(float32\\) are needed, not (torch.)?{np.dtype(kind).name}"
    process = dict.fromkeys(TWO, PROCESS) if isinstance(shape, dict) else PROCESS
    x = {n: np.ones((2, *s), kind) for n, s in shape.items()} if isinstance(shape, dict) else np.ones((2, 3), kind)
    of_torch = {n: torch.from_numpy(v) for n, v in x.items()} if isinstance(x, dict) else torch.from_numpy(x)
    denoiser = Denoiser(lambda x, t: x, process)
    wrong(words, shape=shape, x=x)
    wrong(words, shape=shape, x=of_torch, device="cpu")
    with pytest.raises(DiffusionError, match=words):
        denoiser.loss(of_torch)
    with pytest.raises(DiffusionError, match=words):
        denoiser.draw(of_torch, torch.tensor([0.5, 0.5]))
    with pytest.raises(DiffusionError, match="torch tensors are needed in training"):
        denoiser.loss({n: v * 1.0 for n, v in x.items()} if isinstance(x, dict) else x * 1.0)


@given(st.sampled_from([np.float32, np.float64, np.bool_, np.complex64]))
def test_tokens_that_are_not_whole_numbers(kind):
    process = Categorical.masked(rectified_flow(), 3)
    with pytest.raises(DiffusionError, match=r"tokens are whole numbers \(int64\), not torch\."):
        Denoiser(lambda x, t: x, process).loss(torch.from_numpy(np.ones((2, 3), kind)))
    with pytest.raises(DiffusionError, match="token 9 is outside the vocabulary, 0 to 3"):
        Denoiser(lambda x, t: x, process).loss(torch.full((2, 3), 9))


GUIDES = {
    "none": lambda d: d,
    "classifier_free": lambda d: classifier_free(d, 2.0, {}),
    "thresholds": lambda d: static_threshold(dynamic_threshold(d)),
    "autoguidance": lambda d: autoguidance(d, denoise, 2.0),
    "classifier": lambda d: classifier(classifier_free(d, 2.0, {}), lambda x, t, c: x),
    "dps": lambda d: dps(d, lambda x: x, 0, lambda t: 1.0),
    "tiled": lambda d: tiled(d, 4, 1),
}


@given(
    st.sampled_from(sorted(SCHEDULES.keys() - {"betas", "cosine"})), st.sampled_from(sorted(GUIDES)), st.booleans()
)
def test_a_denoiser_of_another_schedule_than_the_grid(name, guide, many):
    other = Gaussian(SCHEDULES[name]())
    words = (
        r"the denoiser{} was trained on Gaussian\(.*, and the grid is of Gaussian\(schedule=cosine.*make the grid of"
    )
    if many:
        denoiser = GUIDES[guide](Denoiser(lambda x, t: x, {"a": PROCESS, "b": other}))
        wrong(words.format(" of field 'b'"), denoiser, TWO)
    else:
        wrong(words.format(""), GUIDES[guide](Denoiser(lambda x, t: x, other)))


def test_another_schedule_within_a_field_and_in_the_weak_model():
    many = Denoiser(lambda x, t: x, {"a": OTHER, "b": PROCESS})
    wrong("the denoiser of field 'a' was trained on", on("b", static_threshold)(many), TWO)
    with pytest.raises(DiffusionError, match="autoguidance: both denoisers must be of one process"):
        autoguidance(Denoiser(lambda x, t: x, PROCESS), Denoiser(lambda x, t: x, OTHER), 2.0)


def test_another_option_is_another_schedule_and_another_kind_another_process():
    wrong("was trained on Gaussian", Denoiser(lambda x, t: x, Gaussian(cosine(0.01))))
    denoiser = Denoiser(lambda x, t: x, Gaussian(edm_schedule()))
    wrong("was trained on Gaussian.*the grid is of Torus", denoiser, grid=uniform(Torus(edm_schedule()), 3))
    tokens = Categorical.uniform(cosine(), 3)
    wrong(
        "was trained on Gaussian.*the grid is of Categorical",
        Denoiser(lambda x, t: x, PROCESS),
        grid=uniform(tokens, 3),
    )


def test_fields_that_the_denoiser_does_not_have():
    wrong(
        r"there is no field '\w', only ",
        Denoiser(lambda x, t: x, {"a": PROCESS}),
        {"c": (3,)},
    )
    wrong(r"the denoiser is of the fields \[''\]", Denoiser(lambda x, t: x, PROCESS), TWO)
    wrong("there is no field", Denoiser(lambda x, t: x, {"a": PROCESS}), (3,))
    wrong("the state of field 'b' has no sampler or no grid", shape=TWO, grid={"a": GRID})
    wrong("the state of field 'b' has no sampler or no grid", shape=TWO, sampler={"a": ddim})


@schedule()
def falling():
    """Noise that does not grow."""
    return Formulas(lambda t: 1 - 0 * t, lambda t: 1 - t)


def test_noise_that_does_not_grow():
    with pytest.raises(DiffusionError, match="falling: sigma / alpha does not grow with t"):
        falling()


@given(st.text().filter(lambda name: name not in PARAMETRIZATIONS), st.booleans())
def test_a_parametrization_that_does_not_exist(name, many):
    with pytest.raises(DiffusionError, match=r"parametrization .*: one of eps, x0, v, score, flow, edm is needed"):
        Denoiser(lambda x, t: x, {"a": PROCESS} if many else PROCESS, {"a": name} if many else name)


def test_other_parametrizations():
    for form in (3, diffusion.edm, PROCESS):
        with pytest.raises(DiffusionError, match=r"parametrization .*: one of eps"):
            Denoiser(lambda x, t: x, PROCESS, form)
    with pytest.raises(DiffusionError, match="parametrization 'eps': of tokens a network predicts the logits"):
        Denoiser(lambda x, t: x, Categorical.masked(cosine(), 3), "eps")


def yields(*what):
    """A sampler that yields these, made of the state, after its first prediction."""

    def walk(x, grid, noise):
        prediction = yield ModelCall(x, grid[0])
        for f in what:
            x = yield f(x, grid[0], grid[1], prediction)
        return x

    return walk


@given(SHAPES, DEVICES, st.booleans())
def test_samplers_that_yield_something_else(shape, device, hooked):
    """Also before a hook would see it."""
    hooks = [lambda step, noise: None] if hooked else []
    for f, kind in (
        (lambda x, t, s, p: x, "ndarray" if device is None else "Tensor"),
        (lambda x, t, s, p: (x, t), "tuple"),
        (lambda x, t, s, p: p, "Prediction"),
        (lambda x, t, s, p: None, "NoneType"),
    ):
        words = f"the sampler{of(shape)} yields {kind}: a ModelCall or a StepResult is needed"
        wrong(words, shape=shape, sampler=yields(f), device=device, hooks=hooks)
    wrong(f"the sampler{of(shape)} is no coroutine", shape=shape, sampler=lambda x, grid, noise: x, device=device)


@given(SHAPES, DEVICES, st.sampled_from(["step", "call", "end"]))
def test_samplers_whose_state_has_another_shape(shape, device, where):
    def narrow(x, grid, noise):
        t, s = grid[0], grid[1]
        prediction = yield ModelCall(x[..., :1] if where == "call" else x, t)
        x = yield StepResult(x[..., :1] if where == "step" else x, t, s, prediction)
        return x[..., :1] if where == "end" else x

    words = (
        rf"what the sampler (yields|returns){of(shape)} has the shape \(2, .*\): 2 seeds and the shape of a sample"
    )
    wrong(words, shape=shape, sampler=narrow, device=device)


@given(SHAPES, DEVICES, st.integers(1, 3), st.sampled_from(["narrow", "wide", "batch", "number", "list"]))
def test_hooks_whose_state_has_another_shape(shape, device, step, how):
    bad = {
        "narrow": lambda x: x[..., :1],
        "wide": lambda x: x[..., None],
        "batch": lambda x: x[:1],
        "number": lambda x: 0.0,
        "list": lambda x: [0.0, 1.0],
    }[how]
    done = []

    def hook(steps, noises):
        done.append(1)
        if len(done) == step:
            return {"b": bad(steps["b"].x)} if isinstance(shape, dict) else bad(steps.x)

    field = " of field 'b'" if isinstance(shape, dict) else ""
    words = rf"step {step}: what the sampler or a hook has made{field} has the shape .*: 2 seeds and .* make \(2, "
    wrong(words, shape=shape, device=device, hooks=[hook])


@given(st.text("abxyz 1.", max_size=9).filter(lambda name: name not in TWO), DEVICES)
def test_hooks_that_name_a_field_that_is_not_there(name, device):
    wrong(
        "hook .*: there is no field '.*' in this step",
        shape=TWO,
        device=device,
        hooks=[lambda s, n: {name: s["a"].x}],
    )
    if name:
        wrong("hook .*: there is no field", device=device, hooks=[lambda step, noise: {name: step.x}])
    wrong("hook .*: there is no field '' in this step", shape=TWO, device=device, hooks=[lambda s, n: s["a"].x])


@given(DEVICES, st.sampled_from(["int64", "bool", "complex64"]))
def test_hooks_whose_state_is_of_another_kind(device, kind):
    def hook(step, noise):
        return np.asarray(step.x).astype(kind) if device is None else step.x.to(getattr(torch, kind))

    wrong(
        f"step 1: what the sampler or a hook has made is of .*{kind}; .*float32 is needed",
        device=device,
        hooks=[hook],
    )


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_hook_may_still_set_a_field(device):
    hook = lambda s, n: {"b": 0 * s["b"].x}  # noqa: E731
    out = sample(joint, TWO, ancestral, GRID, [1], hooks=[hook], device=device)
    assert (out["b"] == 0).all() and (out["a"] != 0).all()


@settings(max_examples=60)
@given(st.sampled_from(sorted(SAMPLERS.keys() - {"unmask"})), DEVICES, SHAPES, st.floats(0.2, 0.6))
def test_a_value_that_is_not_finite_names_the_step(name, device, shape, since):
    """NaN from the network from some time on: with every sampler, in the step in which it comes."""
    broken = each(shape, lambda p, x: p)

    def poisoned(x, t, condition):
        answer, time = broken(x, t, condition), min(v.t for v in t.values()) if isinstance(t, dict) else t.t
        nan = lambda p: p._replace(x0=p.x0 * np.nan) if time < since else p  # noqa: E731
        return {n: nan(p) for n, p in answer.items()} if isinstance(answer, dict) else nan(answer)

    x = None
    if name == "ddim_inversion":  # up the grid: the data are broken at once
        x = {n: np.ones((2, *s)) for n, s in TWO.items()} if isinstance(shape, dict) else np.ones((2, 3))
    words = (
        rf"step \d+{of(shape)}, from t = .* to .*: a value is not finite in a state of shape \(2, .*look at what the"
    )
    wrong(words, poisoned, shape, SAMPLERS[name], uniform(PROCESS, 9, start=0.9, end=0.05), device=device, x=x)


@given(st.integers(1, 8))
def test_the_step_that_is_named(step):
    grid = uniform(PROCESS, 8)
    nan = lambda x, t, c: Prediction(x * (np.nan if t.t <= grid[step - 1].t else 0.5))  # noqa: E731
    t, s = grid[step - 1].t, grid[step].t
    wrong(rf"^step {step}, from t = {t:.4g} to {s:.4g}: a value is not finite", nan, grid=grid)
    logits = lambda x, t, c: Prediction(np.full((*x.shape, 4), np.nan if t.t <= grid[step - 1].t else 0.0))  # noqa: E731
    tokens = uniform(Categorical.uniform(cosine(), 4), 8)
    wrong(
        rf"^step {step}, at t = {t:.4g}: the logits, .* are not numbers \(NaN\)",
        logits,
        sampler=ancestral,
        grid=tokens,
    )


BEYOND = st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=1 + 1e-9), st.just(np.nan), st.integers(2, 1000))


@given(BEYOND, st.sampled_from(sorted(SCHEDULES.keys() - {"betas"})), st.booleans())
def test_times_are_from_0_to_1(t, name, tokens):
    """Not the index of a table, which would be read as much more than noise alone; alone, and among others."""
    process = Categorical.masked(SCHEDULES[name](), 3) if tokens else Gaussian(SCHEDULES[name]())
    x = torch.ones(2, 3, dtype=torch.int64 if tokens else torch.float32)
    denoiser = Denoiser(lambda x, t: x, process)
    mixed = [0.5, float(t)]
    for ask in (
        lambda: process.at(t),
        lambda: process.at(np.float64(t)),
        lambda: process.at(np.array(mixed)),
        lambda: denoiser(x, t),
        lambda: denoiser(x, torch.tensor(mixed, dtype=torch.float64)),
        lambda: denoiser.draw(x, torch.tensor(mixed, dtype=torch.float64)),
        lambda: denoiser.loss(x, times=lambda count, generator: torch.tensor(mixed, dtype=torch.float64)),
    ):
        with pytest.raises(DiffusionError, match=r"t = .*: from 0 \(data\) to 1 \(noise\) is needed"):
            ask()


@given(st.sampled_from([(0,), (2,), (4,), (3, 2), (1, 2)]), st.integers(3, 4))
def test_times_of_another_batch(shape, count):
    denoiser = Denoiser(lambda x, t: x, OTHER)
    for t in (torch.full(shape, 0.5), np.full(shape, 0.5), [0.5] * count, "0.5"):
        if np.shape(t) not in ((1,), (count,)) or isinstance(t, list):
            with pytest.raises(DiffusionError, match="one for all, or one for each, is needed"):
                denoiser(torch.ones(count, 2), t)
            with pytest.raises(DiffusionError, match="one for all, or one for each, is needed"):
                denoiser.draw(torch.ones(count, 2), t)


@pytest.mark.parametrize("eps", [torch.ones(3), torch.ones(1, 3), torch.ones(2, 1), torch.ones(2, 3, 1)])
def test_noise_of_ones_own_that_would_be_spread_over_the_batch(eps):
    with pytest.raises(DiffusionError, match=r"eps has the shape .*, the data \(2, 3\): give it the same"):
        Denoiser(lambda x, t: x, OTHER).draw(torch.zeros(2, 3), torch.tensor([0.5, 0.5]), eps=eps)


def test_data_without_a_sample():
    with pytest.raises(DiffusionError, match="in training, of one sample at least"):
        Denoiser(lambda x, t: x, OTHER).loss(torch.zeros(0, 3))


def test_hooks_that_are_no_list():
    """One hook alone; and an iterator, of which all steps but the first would see nothing."""
    hook = lambda step, noise: 0 * step.x  # noqa: E731
    for hooks in (hook, iter([hook]), (h for h in [hook]), diffusion.known_region(PROCESS, 0, 1)):
        wrong("hooks are a .*: a list of hooks is needed", hooks=hooks)


@given(SHAPES)
def test_a_graph_of_numpy(shape):
    wrong("gradients=True needs gradients: bring a torch network", shape=shape, gradients=True)


@given(st.sampled_from([np.nan, -np.inf, 0.5, 2, -1]), DEVICES, st.booleans())
def test_masks_of_other_numbers(value, device, many):
    """Those that are added to the logits of attention (0 and -inf) would be read the wrong way round."""
    mask = np.array([[0, value, 0], [0, 0, 0]])
    given_, shape = (mask, (3,)) if not many else ({"a": mask}, TWO)
    wrong("mask( of field 'a')?: true and false, or 1 and 0, are needed", shape=shape, mask=given_, device=device)
    denoiser = Denoiser(lambda x, t, mask: x, OTHER)
    for kind in (np.asarray, torch.tensor):
        with pytest.raises(DiffusionError, match="mask: true and false, or 1 and 0, are needed"):
            denoiser.loss(torch.zeros(2, 3), mask=kind(mask))


@given(st.sampled_from([(), (3,), (2, 4), (1, 3), (2, 3, 1)]))
def test_masks_of_another_shape_in_training(shape):
    words = r"mask has the shape .*, the state \(2, 3\): the mask must have the state's first axes"
    with pytest.raises(DiffusionError, match=words):
        Denoiser(lambda x, t, mask: x, OTHER).loss(torch.zeros(2, 3), mask=torch.ones(shape))


@pytest.mark.parametrize("uncond", [{"c": 0}, {"d": 0}, {"c": 0, "d": 0}, None, 0, np.zeros((2, 3)), torch.zeros(3)])
@pytest.mark.parametrize("guide", [classifier_free, diffusion.adaptive_projected])
def test_an_uncond_that_no_condition_goes_with(guide, uncond):
    """A run that forgot its condition would not be guided at all."""
    words = r"guidance: uncond must be a dict of the condition's keys, \[\]"
    wrong(words, guide(lambda x, t, c: denoise(x, t), 2.0, uncond))


@pytest.mark.parametrize("mask", [None, {"a": np.ones(3)}])
def test_a_known_region_without_a_mask_or_a_process(mask):
    known = {"a": np.zeros(3), "b": np.zeros((2, 2))}
    hook = diffusion.known_region(PROCESS, known, mask)
    wrong(r"known_region: x0 of field '\w' needs a process, .*, and a mask, not a NoneType", shape=TWO, hooks=[hook])
    hook = diffusion.known_region(cosine(), np.zeros(3), np.ones(3))
    wrong(r"known_region: x0 needs a process, not a Schedule, and a mask, not a ndarray", hooks=[hook])


@given(st.integers(2, 4), st.integers(1, 3))
def test_a_measurement_that_would_be_spread_over_the_batch(batch, wide):
    """(batch,) beside A x_0 of (batch, n): each sample would be told of the measurements of all."""
    guide = dps(lambda x, t, c: denoise(x, t), lambda x: x[:, :wide], torch.zeros(5), lambda t: 1.0)
    wrong(r"dps: y has the shape \(5,\), A x_0", lambda x, t, c: guide(x, t, c), device="cpu") if wide == 1 else None
    column = dps(lambda x, t, c: denoise(x, t), lambda x: x[:, :1], torch.zeros(batch), lambda t: 1.0)
    words = rf"dps: y has the shape \({batch},\), A x_0 \({batch}, 1\): give y that shape, or one that broadcasts"
    wrong(words, column, seeds=range(batch), device="cpu")


@pytest.mark.parametrize("name", ["classifier", "dps"])
def test_a_score_without_a_gradient(name):
    """What was detached, or came through NumPy, would guide nothing."""
    still = lambda x, t, c: Prediction(torch.from_numpy(x.detach().numpy() * 0.5))  # noqa: E731
    guide = {
        "classifier": lambda: classifier(denoise, lambda x, t, c: x.detach().sum(1)),
        "dps": lambda: dps(still, lambda x: x, torch.ones(3), lambda t: 1.0),
    }[name]()
    wrong(f"{name}: its score has no gradient; keep it in torch and detach nothing", guide, device="cpu")


def test_windows_of_a_state_without_space():
    wrong(r"tiled: a state \(batch, channels, spatial\.\.\.\) is needed, not \(2, 3\)", tiled(denoise, 2, 1))


@pytest.mark.parametrize("process", [Categorical.masked(cosine(), 3), {"a": PROCESS}])
def test_variances_are_learned_of_a_single_state_of_numbers(process):
    with pytest.raises(DiffusionError, match="variances are learned of a single state of numbers"):
        Denoiser(lambda x, t: x, process, variance_steps=10)


@given(st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), st.text(), st.none()))
def test_symbols_are_a_whole_number(symbols):
    for f in (Categorical.masked, Categorical.uniform):
        with pytest.raises(DiffusionError, match=r"(?s)symbols = .*; a whole number from 1 is needed"):
            f(cosine(), symbols)


@pytest.mark.parametrize("process", [PROCESS, OTHER])
def test_a_time_that_the_network_cannot_be_told(process):
    """log(sigma) at noise alone, and at clean data, where a field of a joint state may stand."""
    denoiser = Denoiser(lambda x, t: x, process, "edm", diffusion.quarter_log_sigma)
    for t, number in ((1.0, "inf"), (0.0, "-inf")):
        with pytest.raises(DiffusionError, match=f"c_noise is {number} at t = {t:g}: begin below t = 1, and end all"):
            denoiser(np.ones((2, 3), np.float32), t)
    assert np.isfinite(denoiser(np.ones((2, 3), np.float32), 0.5).x0).all()


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_logits_from_which_nothing_can_be_drawn(value):
    """Also those of a guide that forbids every symbol of a position."""
    tokens = uniform(Categorical.uniform(cosine(), 4), 3)
    logits = np.zeros((2, 3, 4))
    logits[1, 2] = value
    words = r"step 1, at t = 1: the logits, of shape \(2, 3, 4\), are not numbers \(NaN\), or all -inf"
    wrong(words, lambda x, t, c: Prediction(logits), sampler=ancestral, grid=tokens)
    guide = diffusion.allowed_symbols(lambda x, t, c: Prediction(np.zeros((2, 3, 4))), np.isfinite(logits))
    wrong(words, guide, sampler=ancestral, grid=tokens)


@pytest.mark.parametrize("condition", [np.ones(2), torch.ones(2, 3), [1, 2], "a fox", 3])
def test_a_condition_that_is_no_dict(condition):
    denoiser = Denoiser(lambda x, t, c=None: x, PROCESS)
    words = f"condition is a {type(condition).__name__}: a dict of the network's arguments is needed"
    wrong(words, denoiser, condition=condition)
    with pytest.raises(DiffusionError, match=words):
        denoiser(torch.ones(2, 3), 0.5, condition)
    with pytest.raises(DiffusionError, match=words):
        denoiser.loss(torch.ones(2, 3), condition)


@given(st.sampled_from(sorted(SCHEDULES.keys() - {"betas", "scaled_linear"})))
def test_langevin_dynamics_from_noise_alone(name):
    process = Gaussian(SCHEDULES[name]())
    if process.at(1.0).alpha == 0:
        words = "annealed_langevin: at t = 1 alpha is 0; begin the grid below it"
        wrong(words, sampler=diffusion.annealed_langevin, grid=uniform(process, 3))


@given(st.sampled_from([4, 99, -1]), DEVICES, st.booleans())
def test_symbols_that_do_not_exist(symbol, device, known):
    """Put in by a hook, or as a part that is known: an embedding would look them up elsewhere, or crash."""
    process = Categorical.masked(cosine(), 3)
    hook = lambda step, noise: 0 * step.x + symbol  # noqa: E731
    hooks = [diffusion.known_region(process, [symbol, 0, 0], [True, False, False]) if known else hook]
    logits = lambda x, t, c: Prediction((np if device is None else torch).zeros((*x.shape, 4)))  # noqa: E731
    words = rf"token {symbol} is outside the vocabulary, 0 to 3"
    wrong(words, logits, sampler=ancestral, grid=uniform(process, 3), hooks=hooks, device=device)
