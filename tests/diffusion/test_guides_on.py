"""Guides and hooks on states of named fields: for one field by `on`, or field by field; the rest is refused."""

from functools import partial

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    Categorical,
    DiffusionError,
    Gaussian,
    Prediction,
    adaptive_projected,
    allowed_symbols,
    ancestral,
    autoguidance,
    classifier,
    classifier_free,
    cosine,
    ddim,
    dps,
    dynamic_threshold,
    gradient_control,
    known_region,
    on,
    rectified_flow,
    rounding,
    sample,
    static_threshold,
    tiled,
    token_gradient,
    uniform,
)

PLACE, KIND = Gaussian(cosine()), Categorical.masked(rectified_flow(), 3)
PROCESSES = {"place": PLACE, "kind": KIND}
SHAPE = {"place": (2,), "kind": (4,)}
GRIDS = {"place": uniform(PLACE, 6, start=0.95), "kind": uniform(KIND, 6, start=0.95)}
N = 5


def one_hot(x, xp):
    return (x[..., None] == xp.arange(4)) * 1.0


def network(x, t, condition=None):
    """Fields that look at each other and at a condition, with by-products."""
    xp = torch if isinstance(x["place"], torch.Tensor) else np
    c = condition["c"] if condition else xp.zeros((len(x["place"]), 1))
    opened = one_hot(x["kind"], xp).sum(1)
    place = (0.6 * x["place"] + 0.1 * opened[:, :2] + c).astype(np.float32) if xp is np else (
        0.6 * x["place"] + 0.1 * opened[:, :2] + c
    )  # fmt: skip
    logits = one_hot(x["kind"], xp) + (x["place"].sum(1) + c[:, 0])[:, None, None] * xp.asarray([0.5, -0.5, 1.0, 0.0])
    return {"place": Prediction(place, extra={"seen": opened}), "kind": Prediction(logits, extra={"c": c})}


def state(module=np):
    rng = np.random.default_rng(0)
    x = {"place": rng.normal(size=(N, 2)).astype(np.float32), "kind": rng.integers(0, 4, (N, 4))}
    x = x if module is np else {name: torch.tensor(part) for name, part in x.items()}
    return x, {"place": PLACE.at(0.6), "kind": KIND.at(0.4)}


CONDITION = {"c": np.linspace(0.5, 1.5, N)[:, None]}
FREE = {"c": np.zeros((1, 1))}


def close(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


# classifier-free guidance


@pytest.mark.parametrize("field", SHAPE)
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_classifier_free_guidance_of_one_field_is_its_formula_and_leaves_the_others(field, scale):
    x, t = state()
    cond, free = network(x, t, CONDITION), network(x, t, FREE)
    guided = on(field, partial(classifier_free, scale=scale, uncond=FREE))(network)(x, t, CONDITION)
    for name in SHAPE:
        expected = free[name].x0 + (scale if name == field else 1) * (cond[name].x0 - free[name].x0)
        close(guided[name].x0, expected)
        assert guided[name].extra.keys() == cond[name].extra.keys()
        assert all(len(part) == N for part in guided[name].extra.values())


def test_classifier_free_guidance_works_field_by_field():
    x, t = state()
    cond, free = network(x, t, CONDITION), network(x, t, FREE)
    guided = classifier_free(network, 3.0, FREE)(x, t, CONDITION)
    for name in SHAPE:
        close(guided[name].x0, free[name].x0 + 3 * (cond[name].x0 - free[name].x0))


def test_guidance_tells_both_halves_the_last_answer():
    """Self-conditioning under guidance: what was answered last, guided, stands in both halves of the batch."""
    told = []

    def watched(x, t, condition):
        told.append(condition["previous"])
        return network(x, t, condition)

    guided = classifier_free(watched, 3.0, FREE)
    sample(guided, SHAPE, ancestral, GRIDS, range(N), CONDITION, self_conditioning=True)
    assert told[0] is None
    for previous in told[1:]:
        for part in previous.values():
            assert len(part) == 2 * N
            np.testing.assert_array_equal(part[:N], part[N:])


def test_one_level_may_serve_all_fields():
    """As it may for a denoiser."""
    x, t = state()
    level = t["place"]
    for guide in (
        on("place", partial(classifier_free, scale=3.0, uncond=FREE)),
        partial(static_threshold, limit=0.4),
        partial(classifier_free, scale=3.0, uncond=FREE),
    ):
        one, each = (guide(network)(x, at, CONDITION) for at in (level, dict.fromkeys(SHAPE, level)))
        for name in SHAPE:
            np.testing.assert_array_equal(one[name].x0, each[name].x0)
    moved = classifier(network, lambda z, t, c: z["place"].sum(1))(state(torch)[0], level, None)
    expected = network(state(torch)[0], level)["place"].x0 + level.sigma**2 / level.alpha
    close(moved["place"].x0, expected)


def test_guides_of_two_fields_may_differ():
    x, t = state()
    cond, free = network(x, t, CONDITION), network(x, t, FREE)
    guided = on("place", partial(classifier_free, scale=2.0, uncond=FREE))(network)
    guided = on("kind", partial(classifier_free, scale=5.0, uncond=FREE))(guided)(x, t, CONDITION)
    for name, scale in (("place", 2), ("kind", 5)):
        close(guided[name].x0, free[name].x0 + scale * (cond[name].x0 - free[name].x0))


def test_guidance_goes_with_the_masks_of_some_fields():
    """The driver's mask is a dict; a field without one has None in it."""
    mask = {"kind": np.arange(4) < np.array([4, 3, 2, 1, 4])[:, None]}
    guided = classifier_free(network, 2.0, FREE)
    x = sample(guided, SHAPE, ancestral, GRIDS, range(N), CONDITION, mask=mask)
    assert (x["kind"][~mask["kind"]] == 0).all()


def test_an_interval_asks_the_level_of_its_own_field():
    x, t = state()
    calls = []

    def counted(x, t, condition):
        calls.append(len(x["place"]))
        return network(x, t, condition)

    guide = partial(classifier_free, scale=2.0, uncond=FREE, interval=(0.5, 1.0))
    on("place", guide)(counted)(x, t, CONDITION)  # at 0.6
    on("kind", guide)(counted)(x, t, CONDITION)  # at 0.4
    assert calls == [2 * N, N]


# thresholds, symbols


def test_thresholds_clip_the_fields_of_numbers_alone():
    x, t = state()
    plain = network(x, t, CONDITION)
    for guided in (static_threshold(network, limit=0.4), on("place", partial(static_threshold, limit=0.4))(network)):
        answer = guided(x, t, CONDITION)
        close(answer["place"].x0, np.clip(plain["place"].x0, -0.4, 0.4))
        close(answer["kind"].x0, plain["kind"].x0)
    assert abs(dynamic_threshold(network, limit=0.4)(x, t, CONDITION)["place"].x0).max() <= 0.4 + 1e-6


@pytest.mark.parametrize("process", [KIND, Categorical.uniform(rectified_flow(), 4)])
@pytest.mark.parametrize("by_field", [False, True])
def test_forbidden_symbols_are_never_drawn_and_the_others_keep_their_proportions(process, by_field):
    """Tokens of 4 places, each with its own list; the denoiser's shares of what is left are those that are drawn."""
    allowed = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]], bool)
    shares, n = np.array([0.5, 0.2, 0.2, 0.1]), 20_000

    def denoise(x, t, condition=None):
        return Prediction(np.broadcast_to(np.log(shares).astype(np.float32), (*x.shape, 4)))

    if by_field:
        both = lambda x, t, c=None: {name: denoise(part, t) for name, part in x.items()}  # noqa: E731
        guided = on("kind", partial(allowed_symbols, allowed=allowed))(both)
        x = sample(guided, {"kind": (4,), "free": (4,)}, ancestral, uniform(process, 1), range(n))
        assert len(np.unique(x["free"])) == (4 if process.mask is None else 3)
        x = x["kind"]
    else:
        x = sample(allowed_symbols(denoise, allowed=allowed), (4,), ancestral, uniform(process, 1), range(n))
    for place in range(4):
        p = shares * allowed[place]
        p = p / p.sum()
        counts = np.bincount(x[:, place], minlength=4)
        assert (counts[p == 0] == 0).all()
        assert (abs(counts / n - p) <= 5 * (p * (1 - p) / n) ** 0.5).all()


def test_forbidden_symbols_stay_forbidden_under_guidance():
    """-inf in both predictions makes no NaN, before or after guidance without a classifier and by a weak model."""
    allowed = np.array([True, True, False, False])
    narrow = on("kind", partial(allowed_symbols, allowed=allowed))
    inner = narrow(network)
    for guided in (
        classifier_free(inner, 3.0, FREE),
        narrow(classifier_free(network, 3.0, FREE)),
        autoguidance(inner, inner, 2.0),
    ):
        x = sample(guided, SHAPE, ancestral, GRIDS, range(50), {"c": np.ones((50, 1))})
        assert x["kind"].max() <= 1


# hooks


def test_a_known_region_of_some_fields_is_exact_and_the_rest_is_drawn():
    known = {"place": np.array([[0.25, 0.0]], np.float32), "kind": np.array([[2, 0, 1, 0]])}
    where = {"place": np.array([[True, False]]), "kind": np.array([[True, False, True, False]])}
    for names in ({"place"}, {"kind"}, {"place", "kind"}):
        part = [{name: d[name] for name in names} for d in (PROCESSES, known, where)]
        x = sample(network, SHAPE, ancestral, GRIDS, range(N), CONDITION, hooks=[known_region(*part)])
        for name in SHAPE:
            kept = np.broadcast_to(where[name], x[name].shape)
            same = x[name][kept] == np.broadcast_to(known[name], x[name].shape)[kept]
            assert same.all() == (name in names)
            assert len(np.unique(x[name][~kept])) > 1


def test_a_hook_on_one_field_is_the_hook_of_that_field_alone():
    hook = known_region(KIND, np.array([[2, 0, 1, 0]]), np.array([[True, False, True, False]]))
    by_on = sample(network, SHAPE, ancestral, GRIDS, range(N), CONDITION, hooks=[on("kind", hook)])
    dicts = {"kind": KIND}, {"kind": np.array([[2, 0, 1, 0]])}, {"kind": np.array([[True, False, True, False]])}
    by_dict = sample(network, SHAPE, ancestral, GRIDS, range(N), CONDITION, hooks=[known_region(*dicts)])
    for name in SHAPE:
        np.testing.assert_array_equal(by_on[name], by_dict[name])
    assert (by_on["kind"][:, 0] == 2).all()


def test_hooks_at_their_own_paces_see_their_own_steps():
    seen = {"place": [], "kind": []}
    grids = {"place": uniform(PLACE, 3, start=0.95), "kind": uniform(KIND, 7)}
    hooks = [on(name, lambda step, noise, name=name: seen[name].append(step.s.t)) for name in seen]
    sample(network, SHAPE, ancestral, grids, [0], hooks=hooks)
    for name, grid in grids.items():
        assert seen[name] == pytest.approx(grid.times[1:])


def test_by_products_pass_through_guides_hooks_and_the_driver():
    got = []

    def look(steps, noises):
        for name, key in (("place", "seen"), ("kind", "c")):
            if name in steps:
                extra = steps[name].prediction.extra
                got.append((name, np.asarray(extra[key]).shape))

    allowed = np.array([True, True, True, False])
    guided = on("place", partial(static_threshold, limit=2.0))(network)
    guided = on("kind", partial(allowed_symbols, allowed=allowed))(guided)
    guided = classifier_free(guided, 2.0, FREE)
    guided = on("place", partial(dynamic_threshold, limit=2.0))(autoguidance(guided, network, 1.5))
    sample(guided, SHAPE, {"place": ddim, "kind": ancestral}, GRIDS, range(N), CONDITION, hooks=[look])
    assert set(got) == {("place", (N, 4)), ("kind", (N, 1))} and len(got) == 12


def test_by_products_pass_through_guides_of_a_single_state():
    def single(x, t, condition=None):
        c = condition["c"] if condition else 0.5
        return Prediction(0.5 * x + c, extra={"double": 2 * x})

    x, t = torch.randn(N, 2), PLACE.at(0.5)
    condition, free = {"c": torch.ones(N, 1)}, {"c": torch.zeros(1, 1)}
    table = torch.randn(4, 2)
    log_prob = lambda z, t, c: -(z**2).sum(1)  # noqa: E731
    for guided in (
        adaptive_projected(single, 2.0, free),
        autoguidance(single, single, 2.0),
        classifier_free(single, 2.0, free, rescale=0.5),
        classifier(single, log_prob),
        dps(single, lambda x0: x0, torch.zeros(2), lambda t: 1.0),
        static_threshold(single),
        dynamic_threshold(single),
        rounding(single, table=table),
    ):
        torch.testing.assert_close(guided(x, t, condition).extra["double"], 2 * x)
    symbols = torch.tensor([[0, 1], [3, 2]])
    said = lambda x, t, c=None: Prediction(torch.zeros(2, 2, 4), extra={"double": 2 * x})  # noqa: E731
    for guided in (
        token_gradient(said, table, lambda z, t, c: z.sum((1, 2)), 1.0),
        allowed_symbols(said, allowed=[True, True, False, True]),
    ):
        assert torch.equal(guided(symbols, t, None).extra["double"], 2 * symbols)


# gradients


def test_a_classifier_moves_each_field_of_numbers_by_its_gradient():
    """log p = -(a sum place^2 + the number of ones): by hand; tokens have no gradient and stay."""
    x, t = state(torch)
    plain = network(x, t)
    log_prob = lambda z, t, c: -0.7 * (z["place"] ** 2).sum(1) - (z["kind"] == 1).sum(1)  # noqa: E731
    guided = classifier(network, log_prob, 2.0)(x, t, None)
    level = t["place"]
    close(guided["place"].x0, plain["place"].x0 - 2 * level.sigma**2 / level.alpha * 1.4 * x["place"])
    close(guided["kind"].x0, plain["kind"].x0)
    alone = on("place", partial(classifier, log_prob=lambda z, t, c: -0.7 * (z**2).sum(1), scale=2.0))(network)
    close(alone(x, t, None)["place"].x0, guided["place"].x0)


def test_a_measurement_of_a_dict_state_moves_it_by_the_gradient_through_the_denoiser():
    x, t = state(torch)
    y, level = torch.ones(N, 2), t["place"]
    plain = network(x, t)
    step = level.sigma**2 / level.alpha * 0.6 * (y - plain["place"].x0) / 0.5  # d place / d x = 0.6
    guided = dps(network, lambda x0: x0["place"], y, lambda t: 0.5)(x, t, None)
    close(guided["place"].x0, plain["place"].x0 + step)
    close(guided["kind"].x0, plain["kind"].x0)
    alone = on("place", partial(dps, operator=lambda x0: x0, y=y, variance=lambda t: 0.5))(network)(x, t, None)
    close(alone["place"].x0, guided["place"].x0)


def test_guidance_by_gradients_keeps_no_graph_of_any_field():
    """Neither in what is predicted of the other fields, nor in what the network is told of its last answer."""
    graphs = []

    def watched(x, t, condition):
        previous = condition["previous"]
        graphs.extend([part.requires_grad for part in previous.values()] if previous else [])
        return network(x, t)

    guided = on("place", partial(dps, operator=lambda x0: x0, y=torch.ones(2), variance=lambda t: 0.5))(watched)

    def look(steps, noises):
        graphs.extend(step.prediction.x0.requires_grad or step.x.requires_grad for step in steps.values())
        graphs.extend(part.requires_grad for step in steps.values() for part in step.prediction.extra.values())

    x = sample(guided, SHAPE, ancestral, GRIDS, range(N), hooks=[look], device="cpu", self_conditioning=True)
    assert graphs and not any(graphs) and not x["place"].requires_grad


# what has no meaning


X, T = state()
TX, _ = state(torch)
ONE = lambda z, t, c: z.sum(1)  # noqa: E731
TABLE = torch.randn(4, 2)


def kinds(x, t, condition=None):
    return Prediction(one_hot(x, torch if isinstance(x, torch.Tensor) else np))


def places(x, t, condition=None):
    return Prediction(0.5 * x)


def drawn(hook, single=False):
    if single:
        return sample(places, (2,), ancestral, GRIDS["place"], [0, 1], hooks=[hook], device="cpu")
    return sample(network, SHAPE, ancestral, GRIDS, [0, 1], hooks=[hook], device="cpu")


REFUSED = {
    "a threshold of tokens": lambda: static_threshold(kinds)(X["kind"], T["kind"], None),
    "a threshold on tokens": lambda: on("kind", static_threshold)(network)(X, T, None),
    "a quantile of tokens": lambda: dynamic_threshold(kinds)(X["kind"], T["kind"], None),
    "rounding of tokens": lambda: rounding(kinds, table=TABLE)(TX["kind"], T["kind"], None),
    "symbols of numbers": lambda: allowed_symbols(places, allowed=np.ones(4))(X["place"], T["place"], None),
    "symbols on numbers": lambda: on("place", partial(allowed_symbols, allowed=np.ones(4)))(network)(X, T, None),
    "no such field": lambda: on("palce", static_threshold)(network)(X, T, None),
    "a field of a single state": lambda: on("place", static_threshold)(places)(X["place"], T["place"], None),
    "a hook of a single state": lambda: drawn(on("place", lambda step, noise: None), single=True),
    "a hook of no such field": lambda: drawn(on("palce", lambda step, noise: None)),
    "a region of no such field": lambda: drawn(known_region({"palce": PLACE}, {"palce": 0.0}, {"palce": True})),
    "gradients of NumPy": lambda: classifier(network, ONE)(X, T, None),
    "a measurement of NumPy": lambda: dps(network, ONE, torch.ones(2), lambda t: 1.0)(X, T, None),
    "gradients of tokens": lambda: classifier(kinds, ONE)(TX["kind"], T["kind"], None),
    "gradients on tokens": lambda: on("kind", partial(classifier, log_prob=ONE))(network)(TX, T, None),
    "a measurement on tokens": lambda: on(
        "kind", partial(dps, operator=lambda x: x, y=torch.ones(4), variance=lambda t: 1.0)
    )(network)(TX, T, None),
    "projection of a dict": lambda: adaptive_projected(network, 2.0, FREE)(X, T, CONDITION),
    "projection on tokens": lambda: on("kind", partial(adaptive_projected, scale=2.0, uncond=FREE))(network)(
        X, T, CONDITION
    ),
    "vectors of a dict": lambda: token_gradient(network, TABLE, ONE, 1.0)(TX, T, None),
    "vectors of numbers": lambda: token_gradient(places, TABLE, ONE, 1.0)(TX["place"], T["place"], None),
    "vectors on numbers": lambda: on("place", partial(token_gradient, table=TABLE, log_prob=ONE, scale=1.0))(network)(
        TX, T, None
    ),
    "climbing of a dict": lambda: drawn(gradient_control(ONE, 0.1, 1.0)),
    "climbing on tokens": lambda: drawn(on("kind", gradient_control(ONE, 0.1, 1.0))),
    "windows of a dict": lambda: tiled(network, 4, 1)(X, T, None),
    "windows of tokens": lambda: tiled(kinds, 2, 1)(X["kind"], T["kind"], None),
    "windows on tokens": lambda: on("kind", partial(tiled, size=2, overlap=1))(network)(X, T, None),
    "uncond that does not fit": lambda: classifier_free(network, 2.0, {"c": np.ones((2, 1))})(X, T, CONDITION),
    "uncond without a key": lambda: on("kind", partial(classifier_free, scale=2.0, uncond={}))(network)(
        X, T, CONDITION
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_meaning_is_refused_in_one_line(what):
    with pytest.raises(DiffusionError) as error:
        REFUSED[what]()
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_a_climb_on_one_field_leaves_the_others():
    climb = gradient_control(lambda z, t, c: -((z - 5) ** 2).sum(1), lr=0.2, lambda_=0.0)
    moved = sample(network, SHAPE, ancestral, GRIDS, range(N), hooks=[on("place", climb)], device="cpu")
    plain = sample(network, SHAPE, ancestral, GRIDS, range(N), device="cpu")
    assert float((moved["place"] - plain["place"]).mean()) > 0.2
