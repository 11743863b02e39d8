import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.diffusion import (
    PARAMETRIZATIONS,
    Denoiser,
    Normal,
    Parametrization,
    Prediction,
    ddim,
    min_snr,
    sample,
    uniform,
    uniform_times,
)
from tests.diffusion.oracle import MEAN, PROCESSES, VARIANCE, denoise

forms, schedules = st.sampled_from(sorted(PARAMETRIZATIONS)), st.sampled_from(sorted(PROCESSES))


@given(forms, schedules, st.floats(0.01, 0.99), st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 1))
def test_a_target_gives_back_the_clean_state_and_errors_scale_by_the_factor(form, schedule, t, x0, eps, error):
    form, process = PARAMETRIZATIONS[form], PROCESSES[schedule]
    point = process.at(t)
    x, target = process.noise(x0, point, eps), form.target(x0, eps, point)
    assert form.to_x0(x, point, target) == pytest.approx(x0, abs=1e-8 / point.alpha)
    off = form.to_x0(x, point, target + error) - x0
    assert error**2 == pytest.approx(form.factor(point) * off**2, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("form", sorted(PARAMETRIZATIONS))
def test_every_parametrization_samples_alike(form):
    """A network that gives the exact target of its form makes the same samples as the exact denoiser."""
    process = PROCESSES["cosine"]
    grid = uniform(process, 10, start=0.95)
    points = {round(1000 * p.t, 3): p for p in grid}

    def network(x, time):
        t = points[round(float(time[0]), 3)]
        x = x if PARAMETRIZATIONS[form].c_in is None else x / PARAMETRIZATIONS[form].c_in(t)
        clean = denoise(x, t).x0
        return PARAMETRIZATIONS[form].target(clean, (x - t.alpha * clean) / t.sigma, t)

    x = np.linspace(-2, 2, 6)[None]
    out = sample(Denoiser(network, process, form), (6,), ddim, grid, [0], x=x)
    np.testing.assert_allclose(out, sample(denoise, (6,), ddim, grid, [0], x=x), rtol=1e-9)


@pytest.mark.parametrize("form", sorted(PARAMETRIZATIONS))
def test_the_loss_of_the_best_denoiser_is_the_posterior_variance(form):
    """min-SNR weight is on the squared error of x_0: min(SNR, 5) v / (1 + v SNR) on average, in every form."""
    process = PROCESSES["cosine"]

    def network(x, time):
        point = process.at((time.double() / 1000).reshape(-1, 1))
        x = x if PARAMETRIZATIONS[form].c_in is None else x / PARAMETRIZATIONS[form].c_in(point)
        clean = denoise(x, point).x0
        return PARAMETRIZATIONS[form].target(clean, (x - point.alpha * clean) / point.sigma, point)

    generator = torch.Generator().manual_seed(0)
    times = lambda n, g: 0.05 + 0.9 * uniform_times(n, g)  # noqa: E731
    x0 = MEAN + VARIANCE**0.5 * torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
    loss = Denoiser(network, process, form).loss(x0, weight=min_snr(5.0), times=times, generator=generator)
    snr = process.schedule.at(np.linspace(0.05, 0.95, 20_001)).snr
    exact = (np.minimum(snr, 5) * VARIANCE / (1 + VARIANCE * snr)).mean()
    assert loss.item() == pytest.approx(exact, rel=0.01)


def test_times_are_stratified():
    t = uniform_times(50, torch.Generator().manual_seed(3))
    assert sorted((t * 50).floor().int().tolist()) == list(range(50))


def test_a_network_in_low_precision_leaves_the_state_in_float32():
    process = PROCESSES["cosine"]
    denoiser = Denoiser(lambda x, time: x.bfloat16(), process, "x0")
    assert denoiser(torch.ones(1, 2), process.at(0.5)).x0.dtype == torch.float32


@pytest.mark.parametrize("time", [lambda t: 499, lambda t: 499.0])
def test_a_time_may_be_a_whole_number(time):
    for x in (np.ones((2, 3), np.float32), torch.ones(2, 3)):
        found = []
        Denoiser(lambda x, t, f=found: f.append(t) or x, PROCESSES["cosine"], "x0", time)(
            x, PROCESSES["cosine"].at(0.5)
        )
        assert found[0].tolist() == [499, 499]


def test_unknown_parametrization():
    with pytest.raises(ValueError, match="'noise': one of eps"):
        Denoiser(denoise, PROCESSES["cosine"], "noise")


@given(schedules, st.floats(0.02, 1.0), st.floats(0.01, 0.95), st.floats(-2, 2))
def test_transitions_chain(schedule, t, share, x):
    """Averaged over q(x_0 | x_t) of Gaussian data, the transition is the exact reverse kernel: its mean and variance
    follow from the joint Gaussian of (x_s, x_t)."""
    process = PROCESSES[schedule]
    t, s = process.at(t), process.at(t * share)
    step = process.transition(x, t, s, denoise(x, t))
    total = t.alpha**2 * VARIANCE + t.sigma**2
    covariance = s.alpha * t.alpha * VARIANCE + (t.alpha / s.alpha) * s.sigma**2
    mean = s.alpha * MEAN + covariance / total * (x - t.alpha * MEAN)
    assert step.mean == pytest.approx(mean, abs=1e-6)
    posterior = VARIANCE * t.sigma**2 / total  # of x_0 given x_t
    slope = s.alpha * (1 - (t.alpha / s.alpha) ** 2 * s.sigma**2 / t.sigma**2)
    exact = s.alpha**2 * VARIANCE + s.sigma**2 - covariance**2 / total
    assert step.std**2 + slope**2 * posterior == pytest.approx(exact, abs=1e-6)


def test_log_prob_agrees_with_torch():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    for std in (0.3, torch.full((7,), 0.3, dtype=torch.float64)):
        exact = torch.distributions.Normal(0.2, 0.3).log_prob(x)
        torch.testing.assert_close(Normal(0.2, std).log_prob(x), exact)
    with pytest.raises(ValueError, match="no density"):
        Normal(0.0, 0.0).log_prob(x)


def test_learned_variance_is_used():
    process = PROCESSES["cosine"]
    step = process.transition(0.1, process.at(0.5), process.at(0.4), Prediction(0.0, variance=0.25))
    least, most = process.transition(0.1, process.at(0.5), process.at(0.4), Prediction(0.0)).std, None
    most = np.sqrt(
        process.at(0.5).sigma ** 2 - (process.at(0.5).alpha / process.at(0.4).alpha * process.at(0.4).sigma) ** 2
    )
    assert step.std == pytest.approx(least**0.75 * most**0.25)


def test_sampling_imports_no_torch():
    code = """
import sys, numpy as np
import inkwash.diffusion as d
process = d.Gaussian(d.cosine())
denoiser = d.Denoiser(lambda x, time: 0.1 * x, process, "x0")
guided = d.classifier_free(lambda x, t, c: denoiser(x, t), 2.0, {"k": np.zeros((1, 1))})
for sampler in (d.ancestral, d.ddim, d.euler, d.dpmpp_2m):
    out = d.sample(d.dynamic_threshold(guided), (3,), sampler, d.uniform(process, 4), [1], {"k": np.ones((1, 1))})
    assert out.dtype == np.float32
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@given(
    st.sampled_from([np.float32, np.float64, np.array, torch.tensor, lambda t: [t], lambda t: [[t]]]), st.booleans()
)
def test_one_time_for_all_is_told_to_each_sample(kind, numpy):
    """Also without dimensions, or with one: a network may stack it beside the rows of x."""
    seen = []
    denoiser = Denoiser(lambda x, time: (seen.append(time), x)[1], PROCESSES["cosine"], "v")
    x, t = torch.linspace(-1, 1, 6).reshape(3, 2), kind(0.25)
    t = torch.tensor(t) if isinstance(t, list) else t
    found = denoiser(x.numpy() if numpy else x, t).x0
    assert tuple(seen[0].shape) == (3,) and (abs(seen[0] - 250) < 1e-3).all()
    np.testing.assert_allclose(found, denoiser(x, 0.25).x0, rtol=1e-5, atol=1e-6)


@given(st.sampled_from(sorted(PROCESSES)), st.sampled_from(sorted(PARAMETRIZATIONS)), st.booleans())
def test_at_clean_data_what_is_predicted_is_finite(schedule, form, array):
    """Where a field of a joint state stands that has arrived before the others; of its state, if it is clean."""
    process = PROCESSES[schedule]
    x = np.linspace(-1, 1, 6).reshape(3, 2)
    t = np.zeros(3) if array else 0.0
    found = Denoiser(lambda x, time: 0.25 * x, process, form)(x, t).x0
    assert np.isfinite(found).all()
    if process.at(0.0).sigma == 0 and form != "x0":
        np.testing.assert_allclose(found, x, rtol=1e-6)


def test_weights_may_be_whole_numbers():
    own, named = (Denoiser(lambda x, time: 0.5 * x, PROCESSES["cosine"], form) for form in (WHOLE, "x0"))
    for t in (0.0, 0.5, 1.0):
        np.testing.assert_array_equal(own(np.ones((2, 3)), t).x0, named(np.ones((2, 3)), t).x0)


WHOLE = Parametrization(lambda t: (1, 0))
