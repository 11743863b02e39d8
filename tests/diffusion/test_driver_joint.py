"""One network for all fields: a coordinate and a token that depend on each other, and the loss of such a state."""

import math
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    Categorical,
    Denoiser,
    DiffusionError,
    Gaussian,
    Prediction,
    ZeroCoM,
    ancestral,
    centred,
    cosine,
    cross_entropy,
    d3pm_bound,
    ddim,
    min_snr,
    predictor_corrector,
    rectified_flow,
    sample,
    square,
    symbols_cross_entropy,
    uniform,
    uniform_times,
)
from inkwash.training.loss_aware import LossAware

PLACE = Gaussian(cosine())
TOKENS = {"masked": Categorical.masked(rectified_flow(), 2), "uniform": Categorical.uniform(rectified_flow(), 2)}
CENTRES, STD = np.array([-2.0, 2.0]), 0.3
SHAPE = {"place": (), "kind": ()}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# x ~ N(-2, 0.3^2) or N(2, 0.3^2), as a token says


def log_place(x, t):
    """log p(x_t | kind), for both kinds, up to a constant."""
    variance = (t.alpha * STD) ** 2 + t.sigma**2
    return -((x.reshape(len(x), -1, 1) - t.alpha * CENTRES) ** 2).sum(1) / (2 * variance)


def log_kind(process, x, t):
    """log q(kind_t | kind), for both kinds."""
    limit = np.array(process.limit)[x]
    return np.log(np.maximum(t.alpha * (x[:, None] == [0, 1]) + (1 - t.alpha) * limit[:, None], 1e-300))


def answer(process, x, t, seen):
    """The predictions of both fields, given log p(what is seen | kind), which have equal shares."""
    p = np.exp(seen - seen.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True)
    gain = t.alpha * STD**2 / ((t.alpha * STD) ** 2 + t.sigma**2)
    each = CENTRES + gain * (x.reshape(len(x), -1, 1) - t.alpha * CENTRES)
    place = (p[:, None] * each).sum(2).reshape(x.shape)
    logits = np.log(np.maximum(p, 1e-300))
    logits = logits if process.mask is None else np.concatenate([logits, logits[:, :1]], 1)
    return Prediction(place.astype(x.dtype)), Prediction(logits.astype(np.float32))


def joint(process):
    def denoise(x, t, condition=None):
        seen = log_place(x["place"], t["place"]) + log_kind(process, x["kind"], t["kind"])
        return dict(zip(SHAPE, answer(process, x["place"], t["place"], seen), strict=True))

    return denoise


def marginals(process):
    """Each field by itself, as one denoiser of both."""

    def denoise(x, t, condition=None):
        place = answer(process, x["place"], t["place"], log_place(x["place"], t["place"]))[0]
        kind = answer(process, x["place"], t["place"], log_kind(process, x["kind"], t["kind"]))[1]
        return {"place": place, "kind": kind}

    return denoise


def information(state):
    """Mutual information of the coordinate's sign and the token, in nats, as their counts have it."""
    counts = np.histogram2d(np.asarray(state["place"]) > 0, np.asarray(state["kind"]), 2)[0]
    p = counts / counts.sum()
    free = p.sum(1, keepdims=True) * p.sum(0)
    return float((p * np.log(np.where(p > 0, p, 1) / np.where(free > 0, free, 1))).sum())


@pytest.mark.parametrize("name", TOKENS)
def test_a_joint_denoiser_draws_fields_that_depend_on_each_other_and_marginal_ones_do_not(name):
    """The sign says the token but for 1 in 10^11, so the information is log 2; without dependence 2 n times it is
    chi-squared of one degree. Fields are drawn independently within a step: an error of the order of the step."""
    process, n = TOKENS[name], 4000
    grids = {"place": uniform(PLACE, 100), "kind": uniform(process, 100)}
    state = sample(joint(process), SHAPE, ancestral, grids, range(n))
    same = (state["place"] > 0) == (state["kind"] == 1)
    assert information(state) > math.log(2) - 0.05
    assert same.mean() > 0.99
    apart = abs(state["place"]) - 2
    assert state["kind"].mean() == pytest.approx(0.5, abs=5 * (0.25 / n) ** 0.5)
    assert apart.mean() == pytest.approx(0, abs=5 * STD / n**0.5 + 0.01)
    assert apart.std() == pytest.approx(STD, rel=0.1)
    alone = sample(marginals(process), SHAPE, ancestral, grids, range(n))
    assert information(alone) < 12.5 / n  # 25 / 2 n: five standard deviations
    assert abs(alone["place"]).mean() == pytest.approx(2, abs=5 * STD / n**0.5 + 0.01)


@pytest.mark.parametrize("name", TOKENS)
def test_paces_leave_the_joint_law(name):
    """Corrections see the other field too, and a field on a coarser grid waits for the finer one. The coordinate is a
    vector here: the corrector's step goes by the lengths of score and noise, which of one number say nothing."""
    process, n, size = TOKENS[name], 2000, 16
    for walk, steps in (
        (partial(predictor_corrector, corrections=3), (50, 50)),
        (ancestral, (150, 50)),
        (ancestral, (50, 150)),
    ):
        grids = {"place": uniform(PLACE, steps[0]), "kind": uniform(process, steps[1])}
        walks, shape = {"place": walk, "kind": ancestral}, {"place": (size,), "kind": ()}
        state = sample(joint(process), shape, walks, grids, range(n))
        assert information({**state, "place": state["place"].mean(1)}) > math.log(2) - 0.1
        assert state["kind"].mean() == pytest.approx(0.5, abs=5 * (0.25 / n) ** 0.5)
        assert abs(state["place"]).mean() == pytest.approx(2, abs=0.05)
        assert abs(state["place"]).std() == pytest.approx(STD, rel=0.15)


def test_more_steps_bring_the_joint_law_nearer():
    process, n = TOKENS["uniform"], 2000
    wrong = []
    for steps in (4, 100):
        grids = {"place": uniform(PLACE, steps), "kind": uniform(process, steps)}
        state = sample(joint(process), SHAPE, ancestral, grids, range(n))
        wrong.append(((state["place"] > 0) != (state["kind"] == 1)).mean())
    assert wrong[1] < wrong[0] / 3


PAIRS = np.array([[0.4, 0.1], [0.05, 0.45]])


@pytest.mark.filterwarnings("ignore:invalid value")  # states that cannot be
@pytest.mark.parametrize("name", TOKENS)
def test_two_fields_of_tokens_have_the_exact_law_of_their_chain(name):
    """All states of both fields can be listed, so the law of a finite grid is known: chi-squared of three degrees."""
    process, n, steps = TOKENS[name], 20_000, 5
    fields, symbols = ("a", "b"), process.symbols

    def denoise(x, t, condition=None):
        chance = {f: np.exp(log_kind(process, x[f], t[f])) for f in fields}
        p = PAIRS * chance["a"][:, :, None] * chance["b"][:, None]
        answers = {"a": p.sum(2), "b": p.sum(1)}
        wide = {f: np.pad(p, ((0, 0), (0, symbols - 2))) for f, p in answers.items()}
        return {f: Prediction(np.log(p + 1e-300)) for f, p in wide.items()}

    grid = uniform(process, steps)
    states = np.array([*product(range(symbols), repeat=2)])
    law = np.array([process.limit[a] * process.limit[b] for a, b in states])
    for t, s in pairwise(grid):
        x = {"a": states[:, 0], "b": states[:, 1]}
        answers = denoise(x, {"a": t, "b": t})
        a, b = (np.nan_to_num(process.transition(x[f], t, s, answers[f]).probabilities) for f in fields)
        law = law @ (a[:, states[:, 0]] * b[:, states[:, 1]])
    assert law.sum() == pytest.approx(1)
    state = sample(denoise, {"a": (), "b": ()}, ancestral, grid, range(n))
    counts = np.bincount(state["a"] * symbols + state["b"], minlength=symbols**2)
    reached = law > 1e-9
    assert counts[~reached].sum() == 0
    assert ((counts - n * law)[reached] ** 2 / (n * law[reached])).sum() < 40  # 1 in 10^8


class Small(torch.nn.Module):
    """One network for both fields: a coordinate, a token of three, and their times."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(6, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 4)
        )
        self.calls = 0

    def forward(self, x, t):
        self.calls += 1
        kind = torch.nn.functional.one_hot(x["kind"], 3)
        times = [t[field][:, None] / 1000 for field in ("place", "kind")]
        out = self.layers(torch.cat([x["place"][:, None], kind, *times], 1))
        return {"place": out[:, 0], "kind": out[:, 1:]}


def pairs(n, g):
    kind = torch.randint(2, (n,), generator=g)
    return {"place": 4.0 * kind - 2 + STD * torch.randn(n, generator=g), "kind": kind}


@pytest.mark.parametrize("times", ["shared", "each"])
def test_a_trained_joint_network_draws_what_belongs_together(times):
    network, process = Small(), TOKENS["masked"]
    denoiser = Denoiser(network, {"place": PLACE, "kind": process}, {"place": "v"})
    shuffled = lambda n, g: uniform_times(n, g)[torch.randperm(n, generator=g)]  # noqa: E731
    law = uniform_times if times == "shared" else {"place": shuffled, "kind": shuffled}
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(400):
        g = generator(step)
        optimizer.zero_grad()
        denoiser.loss(pairs(256, g), objective={"kind": cross_entropy}, times=law, generator=g).backward()
        optimizer.step()
    assert network.calls == 400  # one call for both fields
    grids = {"place": uniform(PLACE, 40, start=0.99), "kind": uniform(process, 40, start=0.99)}
    state = sample(denoiser, SHAPE, ancestral, grids, range(500), device="cpu")
    assert information(state) > 0.5
    assert float(abs(state["place"]).mean()) == pytest.approx(2, abs=0.2)


# the loss of a joint state

X0 = {"place": torch.randn(8, 3, generator=generator(1)), "kind": torch.randint(2, (8, 5), generator=generator(2))}
TABLE = torch.randn(3, 3, generator=generator(3))
PROCESSES = {"place": PLACE, "kind": TOKENS["masked"]}
NETWORKS = {"place": lambda x, t: torch.sin(x + t[:, None]), "kind": lambda x, t: TABLE[x] + t[:, None, None] / 1000}
TIMES = {
    "place": lambda n, g: torch.linspace(0.1, 0.8, n, dtype=torch.float64),
    "kind": lambda n, g: torch.linspace(0.9, 0.3, n, dtype=torch.float64),
}


def both(x, t):
    return {name: network(x[name], t[name]) for name, network in NETWORKS.items()}


@pytest.mark.parametrize("times", [TIMES, TIMES["kind"]])
@pytest.mark.parametrize("form", [None, {"place": "v"}, {"place": "edm", "kind": "x0"}])
def test_a_joint_loss_is_the_sum_of_the_single_ones_on_the_same_draws(times, form):
    objective = {"kind": cross_entropy}
    weight = {"place": min_snr(5.0)}
    together = Denoiser(both, PROCESSES, form)
    loss = together.loss(X0, times=times, objective=objective, weight=weight, generator=generator())
    g, parts = generator(), []
    for name in ("place", "kind"):
        alone = Denoiser(NETWORKS[name], PROCESSES[name], (form or {}).get(name))
        options = {"objective": objective[name]} if name in objective else {"weight": weight[name]}
        own = times[name] if isinstance(times, dict) else times
        parts.append(alone.loss(X0[name], times=own, generator=g, **options))
    torch.testing.assert_close(loss, sum(parts), rtol=1e-6, atol=1e-6)


def test_times_learned_from_the_loss_weigh_the_loss_of_the_whole_state_once():
    """A LossAware shared by all fields divides their sum by the density that the times were drawn with."""
    law = LossAware(bins=2, history=1)
    law.reweight(torch.tensor([0.2, 0.7], dtype=torch.float64), torch.tensor([1.0, 3.0]))
    density = 2 * law.probabilities()
    drawn = law(8, generator())
    plain = Denoiser(both, PROCESSES)
    g = generator()
    law(8, g)
    x, t, eps = plain.draw(X0, drawn, g)
    place = ((plain_output(x, t) - eps["place"]) ** 2).mean(1)
    kind = token_bound(plain, x, t)
    expected = ((place + kind) / density[(drawn >= 0.5).long()]).mean()
    loss = plain.loss(X0, times=law, generator=generator())
    torch.testing.assert_close(loss.double(), expected.double(), rtol=1e-4, atol=0)


def plain_output(x, t):
    return NETWORKS["place"](x["place"], t["place"].t.float().reshape(-1) * 1000)


def token_bound(denoiser, x, t):
    """Masked: steps (alpha_s - alpha_t) / (1 - alpha_t) times the cross-entropy of masked positions (MDLM)."""
    log_p = denoiser(x, t)["kind"].x0[..., :2].log_softmax(-1).gather(-1, X0["kind"][..., None])[..., 0]
    s = (t["kind"].t - 1e-3).clamp(min=0)
    weight = 1000 * (t["kind"].t - s) / t["kind"].t
    return -(weight * log_p * (x["kind"] == 2)).mean(1)


def test_the_bound_of_masked_tokens_beside_numbers_is_the_formula():
    denoiser, drawn = Denoiser(both, PROCESSES), {name: law(8, None) for name, law in TIMES.items()}
    x, t, eps = denoiser.draw(X0, drawn, generator())
    expected = ((plain_output(x, t) - eps["place"]) ** 2).mean() + token_bound(denoiser, x, t).mean()
    got = denoiser.loss(X0, times=TIMES, objective={"kind": d3pm_bound()}, generator=generator())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TOKENS)
def test_the_bound_of_tokens_is_what_the_chain_has(name):
    """steps KL(q(x_s | x_t, x_0), p(x_s | x_t)), both from Bayes' rule on the matrices of the chain."""
    process, steps = TOKENS[name], 10
    k, t, s = process.symbols, 0.6, 0.5
    q = lambda a: a * np.eye(k) + (1 - a) * np.array(process.limit)  # noqa: E731  row: from, column: to
    back, stay, seen = q(1 - s), q((1 - t) / (1 - s)), q(1 - t)
    x0 = torch.tensor([[0, 1, 1, 0]])
    logits = torch.randn(1, 4, k, generator=generator(4))
    denoiser = Denoiser(lambda x, t: logits, process)
    g = generator(5)
    x = denoiser.draw(x0, torch.tensor([t], dtype=torch.float64), g)[0]
    total = 0.0
    for place, (clean, now) in enumerate(zip(x0[0].tolist(), x[0].tolist(), strict=True)):
        p = np.exp(logits[0, place].numpy().astype(float))
        if process.mask is not None:
            p = p * (np.arange(k) != k - 1) if now == k - 1 else np.eye(k)[now]
        p = p / p.sum()
        posterior = np.array([back[c] * stay[:, now] / max(seen[c, now], 1e-300) for c in range(k)])
        truth, guess = posterior[clean], (p[:, None] * posterior * (seen[:, now] > 0)[:, None]).sum(0)
        total += (truth[truth > 0] * np.log(truth[truth > 0] / guess[truth > 0])).sum()
    got = denoiser.loss(
        x0,
        objective=d3pm_bound(steps),
        times=lambda n, g: torch.full((n,), t, dtype=torch.float64),
        generator=generator(5),
    )
    assert float(got) == pytest.approx(steps * total / 4, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("weight", [None, min_snr(2.0)])
def test_symbols_are_learned_beside_their_vectors(weight):
    """-log p(symbol | x_t) of a state of vectors, weighed by sample, over the positions that there are."""
    table = torch.randn(6, 4, generator=generator(6))
    symbols = torch.randint(6, (8, 5), generator=generator(7))
    mask = torch.arange(5) < torch.tensor([5, 4, 3, 5, 2, 1, 5, 5])[:, None]
    denoiser = Denoiser(lambda x, t, mask: (0 * x / mask.any(), {"logits": x @ table.T}), PLACE, "x0")
    options = {} if weight is None else {"weight": weight}
    got = denoiser.loss(
        table[symbols],
        objective=symbols_cross_entropy(symbols),
        times=TIMES["place"],
        generator=generator(),
        mask=mask,
        **options,
    )
    x, t, _ = denoiser.draw(table[symbols], TIMES["place"](8, None), generator(), mask)
    nats = -(x @ table.T).log_softmax(-1).gather(-1, symbols[..., None])[..., 0]
    each = (nats * mask).sum(1) / mask.sum(1)
    each = each if weight is None else each * t.snr.reshape(-1).clamp(max=2.0)
    torch.testing.assert_close(got, each.mean())


def test_a_weight_belongs_to_its_sample_whatever_the_shape_of_the_errors():
    x0, weight = torch.randn(4, 3, 2), lambda t, form: t.t
    denoiser = Denoiser(lambda x, t: 0 * x, PLACE, "x0")
    times = torch.tensor([0.1, 0.2, 0.3, 0.9], dtype=torch.float64)
    expected = (times.float() * (x0**2).mean((1, 2))).mean()
    for objective in (
        square,
        lambda term: square(term).mean(2),
        lambda term: square(term).mean((1, 2)),
        lambda term: square(term).mean((1, 2), keepdim=True),
    ):
        loss = denoiser.loss(x0, objective=objective, weight=weight, times=lambda n, g: times)
        torch.testing.assert_close(loss, expected)


# self-conditioning


def test_the_previous_answer_is_given_as_often_as_asked_detached_and_right():
    given, calls = [], []
    scale = torch.tensor(0.5, requires_grad=True)

    def network(x, t, previous):
        calls.append((x, t))
        given.append(previous)
        return {"place": scale * x["place"], "kind": scale * TABLE[x["kind"]]}

    denoiser, count, share = Denoiser(network, PROCESSES), 200, 0.3
    g = generator(8)
    for _ in range(count):
        denoiser.loss(X0, times=TIMES, self_conditioning=share, generator=g).backward()
    told = [i for i, previous in enumerate(given) if previous is not None]
    assert len(given) == count + len(told)  # a call more where it is given
    assert len(told) / count == pytest.approx(share, abs=5 * (share * (1 - share) / count) ** 0.5)
    for i in told[:5]:
        previous, (x, _) = given[i], calls[i]
        assert not any(part.requires_grad for part in previous.values())
        assert all(torch.equal(calls[i - 1][0][name], x[name]) for name in x)
        levels = {name: denoiser.process[name].at(law(8, None)) for name, law in TIMES.items()}
        alpha, sigma = (part.float()[:, None] for part in (levels["place"].alpha, levels["place"].sigma))
        torch.testing.assert_close(previous["place"], (x["place"] - sigma * 0.5 * x["place"]) / alpha)
        torch.testing.assert_close(previous["kind"], 0.5 * TABLE[x["kind"]])


@pytest.mark.parametrize(("share", "calls"), [(0.0, [()]), (1.0, [("previous",), ("previous",)])])
def test_a_network_that_is_not_to_be_told_is_not_asked_to_take_it(share, calls):
    seen = []

    def network(x, t, **condition):
        seen.append(tuple(condition))
        return both(x, t)

    Denoiser(network, PROCESSES).loss(X0, times=TIMES, self_conditioning=share)
    assert seen == calls


# padding


class Fixed(Denoiser):
    """Its noise is given: that of the elements that there are."""

    def draw(self, x0, times, generator=None, mask=None, eps=None):
        return super().draw(x0, times, generator, mask, EPS[len(next(iter(x0.values()))[0])])


EPS = {}


@pytest.mark.parametrize("junk", [0.0, 50.0])
def test_the_loss_of_a_sample_is_the_same_in_any_padding(junk):
    """Point sets, numbers and tokens of three sizes; alone without a mask, and padded together to two lengths."""
    processes = {"points": ZeroCoM(cosine()), "place": PLACE, "kind": TOKENS["uniform"]}
    g, sizes = generator(9), [3, 5, 4]
    samples = [
        {
            "points": centred(torch.randn(1, n, 2, generator=g)),
            "place": torch.randn(1, n, generator=g),
            "kind": torch.randint(2, (1, n), generator=g),
        }
        for n in sizes
    ]
    noises = [
        {
            "points": torch.randn(1, n, 2, generator=g),
            "place": torch.randn(1, n, generator=g),
            "kind": torch.rand(1, n, generator=g),
        }
        for n in sizes
    ]

    def network(x, t, mask):
        real = mask["place"] * 1.0
        total = (x["place"] * real).sum(1) + (x["points"].square().sum(2) * real).sum(1) + (x["kind"] * real).sum(1)
        return {
            "points": torch.sin(x["points"] + total[:, None, None]) + 0.3,
            "place": torch.sin(x["place"] + total[:, None]),
            "kind": TABLE[:2, :2][x["kind"]] * total[:, None, None],
        }

    def padded(values, length, fill):
        out = values.new_full((1, length, *values.shape[2:]), fill)
        out[:, : values.shape[1]] = values
        return out

    def loss(members, length, times, fill):
        x0, eps = (
            {name: torch.cat([padded(rows[i][name], length, f) for i in members]) for name in processes}
            for rows, f in ((samples, fill), (noises, fill))
        )
        EPS[length] = eps
        real = torch.arange(length) < torch.tensor([sizes[i] for i in members])[:, None]
        mask = dict.fromkeys(processes, real)
        law = lambda n, g: times  # noqa: E731
        alone = None if length == sizes[members[0]] and len(members) == 1 else real
        return Fixed(network, processes).loss(x0, {"mask": mask}, times=law, mask=alone)

    times = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    alone = sum(loss([i], sizes[i], times[i : i + 1], junk) for i in range(3)) / 3
    for length in (5, 9):
        torch.testing.assert_close(loss([0, 1, 2], length, times, junk), alone, rtol=1e-4, atol=1e-5)


# what does not fit


@pytest.mark.parametrize(
    "loss",
    [
        lambda d: d.loss(X0, times={"plaec": TIMES["place"]}),
        lambda d: d.loss(X0, objective={"plaec": square}),
        lambda d: d.loss(X0, weight={"plaec": min_snr()}),
        lambda d: d.loss(X0, mask={"plaec": None}),
        lambda d: d.loss({"place": X0["place"]}),
        lambda d: d.loss(X0["place"]),
        lambda d: d.loss({**X0, "more": X0["place"]}),
        lambda d: d.loss({"place": X0["place"], "kind": X0["place"]}),
        lambda d: d({"place": X0["place"], "kind": X0["kind"]}, {"place": 0.5}),
        lambda d: d(X0["place"], 0.5),
        lambda d: Denoiser(lambda x, t: {"place": x["place"]}, PROCESSES)(X0, 0.5),
        lambda d: Denoiser(lambda x, t: x["place"], PROCESSES)(X0, 0.5),
        lambda d: Denoiser(both, PROCESSES, {"plaec": "v"}),
        lambda d: Denoiser(both, PROCESSES, {"kind": "v"}),
        lambda d: Denoiser(both, {"place": cosine(), "kind": PROCESSES["kind"]}),
    ],
)
def test_what_does_not_fit_the_fields_is_refused_in_one_line(loss):
    with pytest.raises(DiffusionError) as error:
        loss(Denoiser(both, PROCESSES))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_network_is_given_the_mask_in_training_as_in_sampling():
    seen = []

    def network(x, t, mask):
        seen.append(mask)
        return x

    mask = {"points": torch.tensor([[True, False]]), "kind": torch.tensor([[True, True, False]])}
    processes = {"points": PLACE, "kind": PLACE}
    denoiser, shape = Denoiser(network, processes), {"points": (2, 3), "kind": (3,)}
    denoiser.loss({name: torch.zeros(1, *size) for name, size in shape.items()}, mask=mask)
    sample(denoiser, shape, ddim, uniform(PLACE, 1, start=0.9), [0], mask=mask, device="cpu")
    for given in seen:
        assert given.keys() == mask.keys() and all(torch.equal(given[n], mask[n]) for n in mask)
    assert len(seen) == 2
