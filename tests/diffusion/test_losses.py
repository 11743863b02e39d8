import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.diffusion import (
    PARAMETRIZATIONS,
    Denoiser,
    Prediction,
    absolute,
    edm_weight,
    flow_weight,
    log_normal,
    logit_normal,
    min_snr,
    p2,
    square,
    uniform_times,
    unit,
    vlb,
)
from inkwash.diffusion.denoiser import variance_bound
from inkwash.training.loss_aware import LossAware
from tests.diffusion.oracle import MEAN, PROCESSES, VARIANCE

forms, schedules = st.sampled_from(sorted(PARAMETRIZATIONS)), st.sampled_from(sorted(PROCESSES))

# Of each weight the paper's formula, on the squared error of the quantity that the paper names.
PAPERS = {
    "min_snr": (min_snr(5.0), "x0", lambda t: min((t.alpha / t.sigma) ** 2, 5.0)),
    "p2": (p2(0.5, 2.0), "eps", lambda t: 1 / (2.0 + (t.alpha / t.sigma) ** 2) ** 0.5),
    "edm": (edm_weight(0.7), "x0", lambda t: (t.edm_sigma**2 + 0.7**2) / (t.edm_sigma * 0.7) ** 2),
    "flow": (flow_weight, "flow", lambda t: 1.0),
}


@given(
    st.sampled_from(sorted(PAPERS)),
    forms,
    schedules,
    st.floats(0.01, 0.99),
    *[st.floats(-2, 2)] * 2,
    st.floats(0.1, 1),
)
def test_a_weight_is_its_papers_whatever_the_network_predicts(name, form, schedule, t, x0, eps, error):
    weight, of, formula = PAPERS[name]
    process, form, of = PROCESSES[schedule], PARAMETRIZATIONS[form], PARAMETRIZATIONS[of]
    t = process.at(t)
    x, wrong = process.noise(x0, t, eps), x0 + error
    seen = (x - t.alpha * wrong) / t.sigma  # the noise, where `wrong` is taken for clean
    ours = weight(t, form) * (form.target(wrong, seen, t) - form.target(x0, eps, t)) ** 2
    assert ours == pytest.approx(formula(t) * (of.target(wrong, seen, t) - of.target(x0, eps, t)) ** 2, rel=1e-6)
    assert unit(t, form) == 1


@given(forms, schedules, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_the_absolute_error_is_the_root_of_the_square(form, schedule, t, seed):
    """In every element, whatever the network predicts."""
    rng = torch.Generator().manual_seed(seed)
    x0 = torch.randn(3, 4, generator=rng)
    denoiser = Denoiser(lambda x, time: 0.3 * x + 0.1, PROCESSES[schedule], form)
    shared = {"times": lambda count, generator: torch.full((count,), t, dtype=torch.float64)}
    terms = []
    for objective in (absolute, square):
        denoiser.loss(
            x0, objective=lambda term, f=objective: terms.append(f(term)) or terms[-1], **shared,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
    torch.testing.assert_close(terms[0] ** 2, terms[1])


@given(forms, schedules, st.integers(2, 1000), st.floats(0, 1), *[st.floats(-2, 2)] * 3)
def test_the_vlb_weight_is_the_divergence_of_a_step(form, schedule, steps, place, x0, x, error):
    process, form = PROCESSES[schedule], PARAMETRIZATIONS[form]
    t = 2 / steps + place * (1 - 2 / steps)
    t, s = process.at(t), process.at(t - 1 / steps)
    if t.alpha:
        of_clean = vlb(process, steps)(t, form) * form.factor(t)
        exact, model = (process.transition(x, t, s, Prediction(clean)) for clean in (x0, x0 + error))
        assert of_clean * error**2 == pytest.approx(steps * exact.kl(model), rel=1e-6, abs=1e-6)


def test_the_vlb_leaves_out_the_step_to_clean_data():
    t = PROCESSES["cosine"].at(torch.tensor([0.0005, 0.001, 0.0015]))
    weight = vlb(PROCESSES["cosine"], 1000)(t, PARAMETRIZATIONS["x0"])
    assert (weight[:2] == 0).all() and weight[2] > 0


def cdf(z):
    return torch.special.ndtr(torch.as_tensor(z))


@given(st.floats(-1, 1), st.floats(0.3, 1.5), st.integers(0, 2**32))
def test_times_have_their_law(mean, std, seed):
    """Stratified: of n times one lies in each n-th of the distribution."""
    generator = torch.Generator().manual_seed(seed)
    t = logit_normal(mean, std)(64, generator)
    places = [cdf((torch.logit(t) - mean) / std)]
    for schedule in ("edm", "cosine", "rectified_flow"):
        t = log_normal(PROCESSES[schedule], mean, std)(64, generator)
        ratio = PROCESSES[schedule].at(t).sigma / PROCESSES[schedule].at(t).alpha
        places.append(cdf((ratio.log() - mean) / std))
    for place in places:  # up to rounding at their borders
        np.testing.assert_allclose(place.sort().values, (torch.arange(64) + 0.5) / 64, atol=0.5 / 64 + 1e-5)


def test_log_normal_times_stay_within_the_schedule():
    t = log_normal(PROCESSES["variance_exploding"], 4.0, 3.0)(200)
    assert t.max() == 1 and t.min() > 0


def test_loss_aware_times_are_uniform_at_first_then_leave_the_mean_and_lower_the_variance():
    """A loss that is large near t = 0 and noisy: importance sampling has the mean of uniform sampling, and the
    variance that its density gives: (integral of the root of E L^2)^2 against the integral of E L^2."""
    generator, bins = torch.Generator().manual_seed(0), 50

    def loss(t):
        return torch.exp(-8 * t) * torch.randn(len(t), generator=generator, dtype=torch.float64) ** 2

    aware = LossAware(bins, history=20)
    for _ in range(19):  # uniform until every bin has its 20 losses
        assert (aware.probabilities() == 1 / bins).all()
        t = aware(bins, generator)
        assert sorted((t * bins).long().tolist()) == list(range(bins))
        each = loss(t)
        torch.testing.assert_close(aware.reweight(t, each), each)
    for _ in range(3):
        t = aware(bins, generator)
        aware.reweight(t, loss(t))
    p = aware.probabilities()
    assert p[0] > 10 * p[-1] and p.sum() == pytest.approx(1)

    def draws(times, of):
        t = torch.cat([times(1, generator) for _ in range(4000)])  # one at a time: not stratified
        return of(t, loss(t))

    plain = draws(uniform_times, lambda t, x: x)
    better = draws(aware, lambda t, x: x / (bins * p[(t * bins).long()]))
    exact = (1 - math.exp(-8)) / 8
    for found in (plain, better):
        assert found.mean().item() == pytest.approx(exact, abs=4 * found.std().item() / 4000**0.5)
    assert better.var() < plain.var() / 2


def test_reweighting_divides_by_the_density_it_was_drawn_with_and_remembers_the_last_losses():
    aware = LossAware(2, history=2)
    t = torch.tensor([0.1, 0.2, 0.6, 0.7, 0.8])
    aware.reweight(t, torch.tensor([3.0, 3.0, 9.0, 1.0, 1.0], requires_grad=True))
    p = 0.999 * np.array([0.75, 0.25]) + 0.0005
    np.testing.assert_allclose(aware.probabilities(), p)
    new = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(aware.reweight(t, new), 1 / (2 * p[[0, 0, 1, 1, 1]]), rtol=1e-6)
    np.testing.assert_allclose(aware.probabilities(), [0.5, 0.5])
    with torch.no_grad():  # as held-out losses are measured
        np.testing.assert_allclose(aware.reweight(t, 9 * torch.ones(5) * t), 9 * t)
    np.testing.assert_allclose(aware.probabilities(), [0.5, 0.5])


def test_a_loss_aware_training_has_the_same_loss():
    process, generator = PROCESSES["cosine"], torch.Generator().manual_seed(1)
    denoiser = Denoiser(lambda x, time: 0 * x, process, "x0")
    x0 = torch.full((20_000, 1), 2.0)
    aware = LossAware(10)
    weight = lambda t, form: t.t**2  # noqa: E731
    for _ in range(2):
        found = denoiser.loss(x0, weight=weight, times=aware, generator=generator)
        assert found.item() == pytest.approx(4 / 3, rel=0.01)
    assert aware.probabilities()[-1] == pytest.approx(0.29, abs=0.03)  # bins of t^2: 0.95^2 / 3.3


@given(schedules, st.floats(0.01, 0.999), st.floats(0.01, 0.99), *[st.floats(-2, 2)] * 3, st.floats(-0.5, 1.5))
def test_a_term_of_the_bound_is_the_divergence_of_two_transitions(schedule, t, share, x0, x, clean, spread):
    process = PROCESSES[schedule]
    t, s = process.at(t), process.at(t * share)
    exact = process.transition(x, t, s, Prediction(x0))
    model = process.transition(x, t, s, Prediction(clean, np.array(spread)))
    assert variance_bound(np.array((x0 - clean) ** 2), spread, t, s) == pytest.approx(
        exact.kl(model), rel=1e-6, abs=1e-6
    )


class Spread(torch.nn.Module):
    """The exact denoiser of Gaussian data of some variance, scaled by `scale`, and one spread."""

    def __init__(self, process, variance=VARIANCE):
        super().__init__()
        self.process, self.variance = process, variance
        self.v = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, time):
        t = self.process.at((time / 1000).reshape(-1, 1))
        gain = t.alpha * self.variance / (t.alpha**2 * self.variance + t.sigma**2)
        clean = MEAN + gain * (x - t.alpha * MEAN)
        return torch.cat([self.scale * clean, self.v + 0 * x], 1)


@pytest.mark.parametrize("schedule", ["cosine", "rectified_flow", "variance_exploding"])
@pytest.mark.parametrize("variance", [VARIANCE, 0.0])
def test_the_hybrid_loss_is_least_at_the_variance_of_the_exact_reverse_step(schedule, variance):
    """Step 4 of 10, from t = 0.4 to 0.3: the best spread makes the transition's variance that of q(x_s | x_t). For
    data without variance that is the least there is, spread 0."""
    process, n = PROCESSES[schedule], 40_000
    network = Spread(process, variance)
    denoiser = Denoiser(network, process, "x0", variance_steps=10)
    x0 = MEAN + variance**0.5 * torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = lambda count, generator: torch.full((count,), 0.4, dtype=torch.float64)  # noqa: E731
    optimiser = torch.optim.LBFGS([network.v], lr=1, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure():
        optimiser.zero_grad()
        loss = 1000 * denoiser.loss(x0, times=times, generator=torch.Generator().manual_seed(1))
        loss.backward()
        return loss

    for _ in range(3):
        optimiser.step(closure)
    t, s = process.at(0.4), process.at(0.3)
    spread = (network.v.detach() + 1) / 2
    found = process.transition(torch.zeros(1), t, s, Prediction(torch.zeros(1), spread)).std ** 2
    total = t.alpha**2 * variance + t.sigma**2
    covariance = s.alpha * t.alpha * variance + t.alpha / s.alpha * s.sigma**2
    exact = s.alpha**2 * variance + s.sigma**2 - covariance**2 / total
    assert found.item() == pytest.approx(exact, rel=0.02 if variance else 1e-3)
    assert variance or abs(spread) < 1e-3


def test_the_bound_does_not_train_the_mean_and_leaves_out_the_step_to_clean_data():
    process = PROCESSES["cosine"]
    network = Spread(process)
    x0 = torch.randn(64, 1, dtype=torch.float64)
    gradients = []
    for steps in (10, None):
        output = network if steps else lambda x, time: network(x, time)[:, :1]
        denoiser = Denoiser(output, process, "x0", variance_steps=steps)
        loss = denoiser.loss(x0, generator=torch.Generator().manual_seed(0))
        gradients.append(torch.autograd.grad(loss, [network.scale, network.v], allow_unused=True))
    assert gradients[0][0] == gradients[1][0] and gradients[0][1] != 0
    within = lambda count, generator: 0.001 + 0.098 * uniform_times(count, generator)  # noqa: E731
    hybrid = Denoiser(network, process, "x0", variance_steps=10)
    assert torch.autograd.grad(hybrid.loss(x0, times=within), network.v)[0] == 0


def test_the_hybrid_loss_is_simple_plus_a_thousandth_of_the_bound():
    """Over t = 2/T, ..., 1 the bound's part is the sum of the divergences of all steps but the last."""
    process, steps = PROCESSES["linear_beta"], 5
    network = Spread(process)
    x0 = torch.full((1000, 1), 1.3, dtype=torch.float64)
    table = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    times = lambda count, generator: table.repeat(count // steps)  # noqa: E731
    both, alone = (
        Denoiser(output, process, "x0", variance_steps=n).loss(
            x0, times=times, generator=torch.Generator().manual_seed(0)
        )
        for output, n in ((network, steps), (lambda x, time: network(x, time)[:, :1], None))
    )
    points = [process.at(float(t)) for t in table]
    bound, spread = 0.0, 0.5
    for t, s in pairwise(points):
        gain = t.alpha * VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2)
        squared = ((1 - gain * t.alpha) * (1.3 - MEAN)) ** 2 + (gain * t.sigma) ** 2
        least = process.transition(0.0, t, s, Prediction(0.0)).std ** 2
        model = process.transition(0.0, t, s, Prediction(0.0, np.array(spread))).std ** 2
        slope = s.alpha * (1 - (t.alpha / s.alpha * s.sigma / t.sigma) ** 2)
        bound += (math.log(model / least) + (least + slope**2 * squared) / model - 1) / 2
    assert (both - alone).item() == pytest.approx(0.001 * bound, rel=0.02)


@given(st.integers(2, 4))
def test_an_error_for_each_sample_beside_a_learned_variance(size):
    """The bound, elementwise, is averaged in each sample as the errors are: nothing is spread over the batch."""
    process = PROCESSES["cosine"]
    x0 = torch.linspace(-1, 1, 2 * size).reshape(2, size)
    denoiser = Denoiser(lambda x, time: torch.cat([0.5 * x, 0.3 * x], 1), process, variance_steps=10)

    def loss(objective):
        return denoiser.loss(x0, objective=objective, generator=torch.Generator().manual_seed(0))

    own = loss(lambda term: ((term.output - term.eps) ** 2).mean(1))
    torch.testing.assert_close(own, loss(None))
