import math
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.diffusion import (
    Categorical,
    Denoiser,
    DiffusionError,
    Gaussian,
    Grid,
    Noise,
    Normal,
    Prediction,
    ZeroCoM,
    cosine,
    exponential,
    uniform,
)
from inkwash.inference import bits_per_dimension, log_likelihood, variational_bound
from tests.diffusion.oracle import MEAN, PROCESSES, VARIANCE, denoise, finite

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Fixed:
    """Noise that is the same in every draw. A bound is a sum of functions of one draw each: with the nodes of a
    Gauss-Hermite rule as noise, its weighted mean is the expected bound."""

    def __init__(self, eps):
        self.eps = eps

    def normal(self):
        return self.eps


def expected_bound(denoise, grid, x0, bin_width=None):
    """The mean of the variational bound over its noise, for each number in x0."""
    x, eps = (a.reshape(-1, 1) for a in np.meshgrid(x0, NODES, indexing="ij"))
    found = variational_bound(denoise, grid, x, Fixed(eps), bin_width=bin_width)
    return found.reshape(len(x0), -1) @ WEIGHTS


@pytest.mark.parametrize("schedule", PROCESSES)
def test_the_probability_flow_gives_the_density_of_gaussian_data(schedule):
    """Exactly, for the prior N(0, r^2) at its end; and on average over the data, up to the divergence of that prior
    from the data's own N(MEAN, VARIANCE + r^2)."""
    process = PROCESSES[schedule]
    x = torch.from_numpy(MEAN + VARIANCE**0.5 * NODES)[:, None]
    found, calls = log_likelihood(denoise, process, x, range(len(x)), tolerance=1e-7)
    low, high = max(1e-3, process.at(0.0).edm_sigma), min(80.0, process.at(1.0).edm_sigma)
    before, after = VARIANCE + low**2, VARIANCE + high**2
    exact = Normal(0.0, high).log_prob(MEAN + (after / before) ** 0.5 * (x - MEAN)) + math.log(after / before) / 2
    torch.testing.assert_close(found, exact[:, 0], rtol=0, atol=1e-4)
    short = Normal(MEAN, before**0.5).log_prob(x)[:, 0] - found
    divergence = Normal(MEAN, after**0.5).kl(Normal(0.0, high))
    assert short.numpy() @ WEIGHTS == pytest.approx(divergence, abs=VARIANCE * low**2 + 1e-5)
    assert calls > 1 and found.dtype == torch.float64


def correlated(mean, covariance):
    """E[x_0 | x_t] for x_0 ~ N(mean, covariance)."""

    def denoise(x, t, condition=None):
        total = t.alpha**2 * covariance + t.sigma**2 * torch.eye(len(mean))
        flat = x.reshape(len(x), -1)
        return Prediction(
            (mean + t.alpha * (flat - t.alpha * mean) @ torch.linalg.solve(total, covariance)).reshape(x.shape)
        )

    return denoise


def flowed(process, mean, covariance, x, sigma_min, sigma_max):
    """log p of the flow of Gaussian data, its prior N(0, sigma_max^2): in the basis of the covariance, where the flow
    stretches each direction by itself."""
    variances, basis = torch.linalg.eigh(covariance)
    low, high = max(sigma_min, process.at(0.0).edm_sigma), min(sigma_max, process.at(1.0).edm_sigma)
    stretch = ((variances + high**2) / (variances + low**2)) ** 0.5
    reached = (mean @ basis) + stretch * ((x.reshape(len(x), -1) - mean) @ basis)
    return Normal(0.0, high).log_prob(reached).sum(1) + stretch.log().sum()


@pytest.mark.parametrize("schedule", PROCESSES)
@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_with_a_basis_vector_for_each_dimension_the_density_is_exact(schedule, shape):
    """Gaussian data whose directions differ: no probe is drawn, and seeds do not matter."""
    d, process = math.prod(shape), PROCESSES[schedule]
    rng = np.random.default_rng(d)
    factor = torch.from_numpy(rng.standard_normal((d, d)) / d**0.5)
    mean, covariance = torch.from_numpy(rng.standard_normal(d)), factor @ factor.T + 0.05 * torch.eye(d)
    x = (mean + torch.from_numpy(rng.standard_normal((7, d))) @ factor.T).reshape(7, *shape)
    exact = flowed(process, mean, covariance, x, 1e-3, 80.0)
    denoise = correlated(mean, covariance)
    found, _ = log_likelihood(denoise, process, x, [0] * 7, probes=None, tolerance=1e-9)
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-6)
    rough = [
        log_likelihood(denoise, process, x, seeds, probes=None, tolerance=0.1)[0] for seeds in ([0] * 7, range(7))
    ]
    assert torch.equal(*rough)


def test_up_to_the_ends_it_is_the_density_of_the_data():
    """With little noise at one end and much at the other: log N(x; mean, covariance)."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    mean, x = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([[0.5, 0.9], [-1.0, 0.0]]).double()
    exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)
    ends = {"sigma_min": 1e-5, "sigma_max": 1e4}
    for name in ("rectified_flow", "cosine"):
        process = PROCESSES[name]
        found, _ = log_likelihood(
            correlated(mean, covariance), process, x, [0, 1], probes=None, tolerance=1e-9, **ends
        )
        torch.testing.assert_close(found, exact, rtol=0, atol=2e-4)


def test_where_directions_differ_the_divergence_is_right_on_average_over_probes():
    """Correlated Gaussian data: a vector of signs measures tr J + 2 v_1 v_2 J_12, so seeds scatter about the truth,
    probes in number n by 1 / sqrt(n)."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    mean = torch.tensor([0.3, -0.2], dtype=torch.float64)
    process, n = PROCESSES["rectified_flow"], 1000

    denoise = correlated(mean, covariance)
    x = torch.tensor([[0.5, 0.9]], dtype=torch.float64).expand(n, 2)
    exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x[:1]).item()
    one, _ = log_likelihood(denoise, process, x, range(n))
    assert one.mean().item() == pytest.approx(exact, abs=4 * one.std().item() / n**0.5)
    many, _ = log_likelihood(denoise, process, x, range(n), probes=25)
    assert many.mean().item() == pytest.approx(exact, abs=4 * many.std().item() / n**0.5)
    assert one.std().item() > 0.5 and many.std() / one.std() == pytest.approx(1 / 5, rel=0.15)


@pytest.mark.parametrize("schedule", ["cosine", "sigmoid", "rectified_flow"])
def test_the_probability_flow_gives_the_density_of_two_smoothed_points(schedule):
    x = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)[:, None]
    points, noise = np.array([[-2.0], [1.0], [1.0]]), 0.3  # of mean zero, as is the prior
    found, _ = log_likelihood(
        finite(points), PROCESSES[schedule], x, range(9), sigma_max=1000.0, sigma_min=noise, tolerance=1e-7
    )
    each = torch.stack([Normal(float(p), noise).log_prob(x[:, 0]) for p in points[:, 0]])
    torch.testing.assert_close(found, torch.logsumexp(each, 0) - math.log(3), rtol=0, atol=1e-4)


def test_every_call_of_the_denoiser_is_counted_and_each_serves_all_probes():
    seen = []
    counted = lambda x, t, condition: seen.append(condition) or denoise(x, t)  # noqa: E731
    x, condition = torch.ones(2, 3), {"c": np.ones((2, 1))}
    _, calls = log_likelihood(counted, PROCESSES["cosine"], x, [0, 1], condition, probes=4)
    assert calls == len(seen) and all(given is condition for given in seen)


def test_likelihood_asks_for_torch_and_for_a_finite_flow():
    with pytest.raises(DiffusionError, match="log_likelihood needs gradients: bring a torch network"):
        log_likelihood(denoise, PROCESSES["cosine"], np.ones((1, 2)), [0])
    with pytest.raises(DiffusionError, match="not finite"):
        log_likelihood(lambda x, t, c: Prediction(x / 0), PROCESSES["cosine"], torch.ones(1, 2), [0])
    with pytest.raises(DiffusionError, match="of Gaussian processes, not ZeroCoM"):
        log_likelihood(denoise, ZeroCoM(cosine()), torch.ones(1, 2, 2), [0])
    explosive = lambda x, t, c: Prediction(x / t.alpha - (x / t.alpha) ** 2)  # noqa: E731  # dy / dl = y^2
    with pytest.raises(DiffusionError, match="too rough for the tolerance"):
        log_likelihood(explosive, PROCESSES["cosine"], torch.ones(1, 2), [0])


def test_without_scipy_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.integrate", None)
    with pytest.raises(DiffusionError, match=r"^log_likelihood needs SciPy: pip install 'inkwash\[likelihood\]'$"):
        log_likelihood(denoise, PROCESSES["cosine"], torch.ones(1, 2), [0])


def test_the_error_follows_the_tolerance_and_states_are_float64():
    """Through a network of float32: what is integrated is float64 all the same."""
    x, process = torch.linspace(-1, 2, 5)[:, None], PROCESSES["cosine"]
    seen, errors = [], []

    def watched(x, t, condition=None):
        seen.append(x.dtype)
        return denoise(x, t)

    end = process.at(1.0).edm_sigma
    exact = flowed(process, torch.tensor([MEAN]), torch.tensor([[VARIANCE]]), x, 1e-3, 80.0) if end > 80 else None
    for tolerance in (1e-3, 1e-5, 1e-7):
        found, _ = log_likelihood(watched, process, x, range(5), tolerance=tolerance)
        errors.append(float(abs(found - exact).max()))
    assert set(seen) == {torch.float64} and found.dtype == torch.float64
    assert all(b < 0.2 * a for a, b in pairwise(errors)) and errors[-1] < 1e-5


@pytest.mark.parametrize("schedule", PROCESSES)
def test_each_term_of_the_bound_is_the_papers(schedule):
    """-|alpha x_0 / sigma|^2 / 2 at the noisy end, (SNR(t) - SNR(s)) / 2 E|x_0 - clean|^2 for each step (VDM,
    2107.00630, equation 13), and E log N(x_0; clean, sigma_t^2) for the step to clean data."""
    grid, x0 = uniform(PROCESSES[schedule], 7, start=0.97), np.array([-0.6, 0.7, 1.9])
    points = list(grid)
    exact = -((points[0].alpha * x0 / points[0].sigma) ** 2) / 2
    for t, s in pairwise(points):
        gain = t.alpha * VARIANCE / (t.alpha**2 * VARIANCE + t.sigma**2)
        squared = ((1 - gain * t.alpha) * (x0 - MEAN)) ** 2 + (gain * t.sigma) ** 2
        if s is not points[-1]:
            exact -= (s.snr - t.snr) / 2 * squared
        elif s.sigma == 0:
            exact -= squared / (2 * t.sigma**2) + math.log(2 * math.pi * t.sigma**2) / 2
        else:  # a schedule that does not begin clean: the last step is drawn like the others, and scored
            clean = MEAN + gain * (t.alpha * (x0[:, None] - MEAN) + t.sigma * NODES)
            step = PROCESSES[schedule].transition(t.alpha * x0[:, None] + t.sigma * NODES, t, s, Prediction(clean))
            exact += step.log_prob(x0[:, None]) @ WEIGHTS
    np.testing.assert_allclose(expected_bound(denoise, grid, x0), exact, rtol=1e-9)


def test_the_last_step_has_ddpms_variance():
    """p(x_0 | x_1) = N(clean, beta_1)."""
    grid = Grid(PROCESSES["betas"], [1 / 1000, 0.0])
    x0, clean = np.array([[0.3]]), np.array([[0.31]])
    first = -((grid[0].alpha * 0.3 / grid[0].sigma) ** 2) / 2
    for spread in (None, 0.5 + 0 * x0):
        found = variational_bound(lambda x, t, c, w=spread: Prediction(clean, w), grid, x0, Fixed(0 * x0))
        assert found - first == pytest.approx(Normal(0.31, 1e-4**0.5).log_prob(0.3))


@pytest.mark.parametrize("schedule", [name for name in PROCESSES if name != "sqrt"])
def test_the_bound_rises_to_the_density_as_steps_grow_and_never_above_it(schedule):
    """Averaged over Gaussian data it is below their negative entropy: by half for twice the steps."""
    entropy = (1 + math.log(2 * math.pi * VARIANCE)) / 2
    x0 = MEAN + VARIANCE**0.5 * NODES
    gaps = []
    for steps in (25, 50, 100, 200, 400):
        grid = exponential(PROCESSES[schedule], steps, sigma_max=80.0, sigma_min=0.01)
        gaps.append(-entropy - expected_bound(denoise, grid, x0) @ WEIGHTS)
    assert all(0 < b < 0.6 * a for a, b in pairwise(gaps)) and gaps[-1] < 0.1


@pytest.mark.parametrize("schedule", [name for name in PROCESSES if name != "sqrt"])
def test_with_the_exact_variance_the_bound_is_tight_for_any_number_of_steps(schedule):
    """Where each step is the exact reverse kernel, only the two ends are wrong: the prior, and the variance of the
    step to clean data, of which VARIANCE sigma^2 / (alpha^2 VARIANCE + sigma^2) would be right."""
    grid = uniform(PROCESSES[schedule], 5)
    earlier = {t: s for t, s in pairwise(grid)}

    def exact(x, t, condition=None):
        s, total = earlier[t], t.alpha**2 * VARIANCE + t.sigma**2
        covariance = s.alpha * t.alpha * VARIANCE + t.alpha / s.alpha * s.sigma**2
        variance = s.alpha**2 * VARIANCE + s.sigma**2 - covariance**2 / total
        added = t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2
        spread = 1 - math.log(variance / added) / (2 * math.log(s.sigma / t.sigma)) if s.sigma else 0.0
        return Prediction(denoise(x, t).x0, 0 * x + spread)

    first, t = grid[0], grid[-2]
    ends = Normal(first.alpha * MEAN, (first.alpha**2 * VARIANCE + first.sigma**2) ** 0.5).kl(
        Normal(0.0, first.sigma)
    )
    ends += Normal(0.0, (VARIANCE * t.sigma**2 / (t.alpha**2 * VARIANCE + t.sigma**2)) ** 0.5).kl(
        Normal(0.0, t.sigma)
    )
    bound = expected_bound(exact, grid, MEAN + VARIANCE**0.5 * NODES) @ WEIGHTS
    assert -(1 + math.log(2 * math.pi * VARIANCE)) / 2 - bound == pytest.approx(ends, rel=1e-6)


def test_numpy_and_torch_give_the_same_bound_and_keep_no_graph():
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    x0, grid = np.array([[-1.0, 0.2], [0.5, 1.0]]), uniform(PROCESSES["cosine"], 20)

    def wider(x, t, condition=None):
        return Prediction(denoise(x, t).x0, 0 * x + 0.25)

    def learned(x, t, condition=None):
        return Prediction(wider(x, t).x0 * weight, 0 * x + 0.25)

    for width in (None, 0.1):
        one = variational_bound(wider, grid, x0, Noise([1, 2], (2,)), bin_width=width)
        two = variational_bound(
            learned, grid, torch.from_numpy(x0), Noise([1, 2], (2,), device="cpu"), bin_width=width
        )
        assert not two.requires_grad
        np.testing.assert_allclose(two, one, rtol=1e-9)


@given(st.floats(-1.5, 1.5), st.floats(0.02, 0.9), st.integers(2, 256), st.booleans())
def test_the_bins_of_one_step_sum_to_one(centre, t, levels, on_torch):
    grid, lattice = Grid(PROCESSES["rectified_flow"], [t, 0.0]), np.linspace(-1, 1, levels)[:, None]
    x0 = torch.from_numpy(lattice).float() if on_torch else lattice
    bound = variational_bound(
        lambda x, t, c: Prediction(0 * x + centre), grid, x0, Fixed(0 * x0), None, 2 / (levels - 1)
    )
    log_bin = np.asarray(bound, np.float64) + ((1 - t) * lattice[:, 0] / t) ** 2 / 2
    assert np.exp(log_bin).sum() == pytest.approx(1, rel=1e-3 if on_torch else 1e-9)


@pytest.mark.parametrize("off", [7.0, -7.0])
def test_a_bin_far_out_is_not_rounded_away(off):
    """7 standard deviations from the mean, in float32, where 1 - the distribution function is 0."""
    grid, width = Grid(PROCESSES["betas"], [1 / 1000, 0.0]), 0.001
    x0 = torch.full((1, 1), off / 100)
    found = variational_bound(lambda x, t, c: Prediction(0 * x), grid, x0, Fixed(0 * x0), None, width)
    first = -((grid[0].alpha * off / 100 / grid[0].sigma) ** 2) / 2
    exact = math.log((math.erfc(6.95 / 2**0.5) - math.erfc(7.05 / 2**0.5)) / 2)
    assert found.item() - first == pytest.approx(exact, rel=1e-3)


LEVELS, FREQUENCY = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), np.array([5, 1, 2, 3, 1]) / 12
DISCRETE = finite(LEVELS[:, None], 12 * FREQUENCY)


def test_the_bound_of_a_lattice_is_below_the_chains_own_probabilities():
    """Three steps, whose probabilities of the five levels are integrals over three states: they sum to 1."""
    process, bins = PROCESSES["cosine"], 0.5
    grid = Grid(process, [0.9, 0.5, 0.2, 0.0])
    x = np.linspace(-8, 8, 3201)
    density = Normal(0.0, grid[0].sigma).log_prob(x)
    density = np.exp(density) * (x[1] - x[0])
    for t, s in pairwise(list(grid)[:3]):
        step = process.transition(x[:, None], t, s, DISCRETE(x[:, None], t))
        density = density @ np.exp(step.log_prob(x[None, :])) * (x[1] - x[0])
    edges = np.array([-np.inf, -0.75, -0.25, 0.25, 0.75, np.inf])
    cdf = np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2)
    clean = DISCRETE(x[:, None], grid[2]).x0
    chain = density @ np.diff(cdf((edges - clean) / grid[2].sigma), axis=1)
    assert chain.sum() == pytest.approx(1, abs=1e-6)
    bound = expected_bound(DISCRETE, grid, LEVELS, bins)
    assert (bound < np.log(chain)).all() and FREQUENCY @ (np.log(chain) - bound) < 1


def test_bits_per_dimension_of_a_lattice_come_down_to_its_entropy():
    entropy = -(FREQUENCY * np.log2(FREQUENCY)).sum()
    bits = []
    for steps in (50, 100, 200, 400):
        grid = exponential(PROCESSES["rectified_flow"], steps, sigma_min=0.05)
        bits.append(bits_per_dimension(expected_bound(DISCRETE, grid, LEVELS, 0.5) @ FREQUENCY, 1))
    assert all(entropy < b < a for a, b in pairwise(bits))
    assert bits[-1] == pytest.approx(entropy, abs=0.05)


def test_the_bound_of_centred_sets_is_that_of_their_own_space():
    """A set of n centred points on a line has n - 1 numbers: with an exact denoiser of standard normal data its bound
    lies as far below the density, for each of them, as that of numbers without a centre."""
    free, tied = Gaussian(cosine()), ZeroCoM(cosine())
    exact = lambda x, t, condition=None: Prediction(t.alpha * x)  # noqa: E731
    gaps = []
    for process, n in ((free, 4), (tied, 3)):
        x0 = process.project(Noise(range(3000), (4, 1), dtype="float64").normal(), None)
        noise = Noise(range(3000), (4, 1), stream="bound", dtype="float64")
        bound = variational_bound(exact, uniform(process, 60, start=0.999), x0, noise)
        density = -(x0**2).sum((1, 2)) / 2 - n / 2 * math.log(2 * math.pi)
        gaps.append((bound - density) / n)
    errors = [gap.std() / math.sqrt(len(gap)) for gap in gaps]
    assert abs(gaps[0].mean() - gaps[1].mean()) <= 4 * math.hypot(*errors) and max(errors) < 0.03


FLOW, OTHER = PROCESSES["rectified_flow"], PROCESSES["cosine"]
DATA = torch.linspace(-1, 1, 6).reshape(3, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probes": 0}, "probes = 0; a whole number from 1"),
        ({"probes": 1.5}, "probes = 1.5; a whole number from 1"),
        ({"sigma_min": 0.0}, "sigma_min = 0.0; a number above 0"),
        ({"sigma_max": math.nan}, "sigma_max = nan; a number above 0"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "sigma_max = 1 must be above sigma_min = 2"),
        ({"tolerance": 0.0}, "tolerance = 0.0; a number above 0"),
        ({"seeds": [0]}, "1 seeds for 3 samples: one for each is needed"),
        ({"x0": DATA * math.nan}, "a value is not finite"),
        ({"x0": DATA.to(torch.int64)}, "real numbers .* are needed, not torch.int64"),
        ({"denoise": Denoiser(lambda x, t: x, OTHER)}, "the denoiser was trained on Gaussian"),
    ],
)
def test_a_density_that_has_no_answer(options, words):
    asked = {"denoise": denoise, "process": FLOW, "x0": DATA, "seeds": range(3), **options}
    with pytest.raises(DiffusionError, match=words):
        log_likelihood(**asked)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bin_width": 0.0}, "bin_width = 0.0; a number above 0"),
        ({"bin_width": -0.1}, "bin_width = -0.1; a number above 0"),
        ({"noise": Noise([0], (2,), device="cpu")}, r"noise of shape \(1, 2\) for data of shape \(3, 2\)"),
        ({"x0": DATA * math.nan}, "a value is not finite"),
        ({"denoise": Denoiser(lambda x, t: x, OTHER)}, "the denoiser was trained on Gaussian"),
        (
            {"grid": uniform(Categorical.masked(cosine(), 3), 3), "x0": torch.ones(3, 2, dtype=torch.int64)}
            | {"bin_width": 0.1},
            "tokens lie in no bins",
        ),
    ],
)
def test_a_bound_that_has_no_answer(options, words):
    noise = Noise(range(3), (2,), device="cpu")
    asked = {"denoise": denoise, "grid": uniform(FLOW, 3), "x0": DATA, "noise": noise, **options}
    with pytest.raises(DiffusionError, match=words):
        variational_bound(**asked)
