from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.diffusion import (
    Categorical,
    Noise,
    Normal,
    Prediction,
    StepResult,
    adaptive_projected,
    ancestral,
    autoguidance,
    classifier,
    classifier_free,
    ddim,
    dps,
    gradient_control,
    heun,
    known_region,
    on,
    rectified_flow,
    repaint,
    rounding,
    sample,
    token_gradient,
    uniform,
)
from tests.diffusion.oracle import PROCESSES

schedules, times = st.sampled_from(sorted(PROCESSES)), st.floats(0.02, 0.98)
numbers = st.lists(st.floats(-2, 2), min_size=2, max_size=2)

# A mixture of two Gaussians of variance 0.2 at -1.5 and 1, the first three times as frequent.
CENTRES, SHARES, WIDTH = torch.tensor([-1.5, 1.0], dtype=torch.float64), torch.tensor([0.75, 0.25]), 0.2


def log_joint(x, t):
    """log p(x_t, y) up to a constant, y last."""
    variance = t.alpha**2 * WIDTH + t.sigma**2
    return SHARES.log() - (x[..., None] - t.alpha * CENTRES) ** 2 / (2 * variance)


def mixture(x, t, condition=None):
    gain = t.alpha * WIDTH / (t.alpha**2 * WIDTH + t.sigma**2)
    each = CENTRES + gain * (x[..., None] - t.alpha * CENTRES)
    return Prediction((each * log_joint(x, t).softmax(-1)).sum(-1))


def log_second(x, t, condition):
    """log p(y = 1 | x_t), of each sample."""
    return log_joint(x, t).log_softmax(-1)[..., 1].flatten(1).sum(1)


@given(schedules, times, numbers)
def test_a_classifier_turns_the_denoiser_into_that_of_its_class(schedule, t, x):
    t, x = PROCESSES[schedule].at(t), torch.tensor([x], dtype=torch.float64)
    gain = t.alpha * WIDTH / (t.alpha**2 * WIDTH + t.sigma**2)
    exact = CENTRES[1] + gain * (x - t.alpha * CENTRES[1])
    torch.testing.assert_close(classifier(mixture, log_second)(x, t, None).x0, exact, rtol=1e-6, atol=1e-6)
    half = (mixture(x, t).x0 + exact) / 2
    torch.testing.assert_close(classifier(mixture, log_second, 0.5)(x, t, None).x0, half, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("sampler", "steps"), [(ancestral, 400), (heun, 100)])
def test_a_guided_sampler_draws_the_class(sampler, steps):
    """Of one state of 10,000 numbers, from a schedule whose first step sees nothing: alpha = 0."""
    guided = classifier(mixture, log_second)
    out = sample(guided, (10_000,), sampler, uniform(PROCESSES["cosine"], steps), [3], device="cpu")
    assert out.mean().item() == pytest.approx(1.0, abs=0.025)
    assert out.var().item() == pytest.approx(WIDTH, rel=0.05)


# Correlated Gaussian data in two dimensions, of which a sum is measured.
M = torch.tensor([0.5, -0.3], dtype=torch.float64)
C = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
A, NOISE, Y = torch.tensor([1.0, 0.5], dtype=torch.float64), 0.1, 1.2


def correlated(x, t, condition=None):
    total = t.alpha**2 * C + t.sigma**2 * torch.eye(2)
    return Prediction(M.to(x) + (t.alpha * (x - t.alpha * M.to(x))) @ torch.linalg.solve(total, C).to(x))


def posterior():
    """The mean and the covariance of x_0 given y."""
    gain = C @ A / (A @ C @ A + NOISE)
    return M + gain * (Y - A @ M), C - torch.outer(gain, A @ C)


def variance(t):
    """Of y given x_t: that of the dps, and A Cov[x_0 | x_t] A."""
    total = t.alpha**2 * C + t.sigma**2 * torch.eye(2)
    return NOISE + float(A @ (C - t.alpha**2 * C @ torch.linalg.solve(total, C)) @ A)


def weigh(x):
    return x @ A.to(x)[:, None]


@given(schedules, times, numbers)
def test_a_measurement_with_the_exact_variance_is_the_exact_posterior(schedule, t, x):
    """E[x_0 | x_t, y] of three jointly Gaussian vectors."""
    t, x = PROCESSES[schedule].at(t), torch.tensor([x], dtype=torch.float64)
    mean, covariance = posterior()
    total = t.alpha**2 * covariance + t.sigma**2 * torch.eye(2)
    exact = mean + t.alpha * (x - t.alpha * mean) @ torch.linalg.solve(total, covariance)
    found = dps(correlated, weigh, torch.tensor([[Y]]), variance)(x, t, None)
    torch.testing.assert_close(found.x0, exact, rtol=1e-5, atol=1e-5)
    assert not found.x0.requires_grad


@pytest.mark.parametrize("sampler", [ancestral, heun])
@pytest.mark.parametrize("schedule", ["rectified_flow", "cosine"])
def test_a_measured_sampler_draws_the_posterior(sampler, schedule):
    guided = dps(lambda x, t, c: correlated(x, t), weigh, torch.tensor(Y), variance)
    joint = lambda x, t, c: Prediction(guided(x[0], t, c).x0[None])  # noqa: E731  20,000 samples of one seed
    grid = uniform(PROCESSES[schedule], 200)
    out = sample(joint, (20_000, 2), sampler, grid, [3], device="cpu")[0].double()
    mean, covariance = posterior()
    torch.testing.assert_close(out.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(out.T.cov(), covariance, rtol=0, atol=0.02)


@given(schedules, times, numbers, st.floats(0.01, 10))
def test_dps_moves_the_measurement_of_the_clean_state_towards_y(schedule, t, x, strength):
    t, x = PROCESSES[schedule].at(t), torch.tensor([x], dtype=torch.float64)
    before = correlated(x, t).x0
    at = lambda constant: dps(correlated, weigh, torch.tensor([[Y]]), lambda t: constant)(x, t, None).x0  # noqa: E731
    gained = weigh(at(strength)) - weigh(before)
    assert (gained * (Y - weigh(before)) >= 0).all()
    torch.testing.assert_close(weigh(at(2 * strength)) - weigh(before), gained / 2)  # a constant is its step size
    assert (weigh(at(variance(t))) - Y).abs() <= (weigh(before) - Y).abs() + 1e-9


def test_a_measurement_keeps_the_spread_without_its_graph():
    both = lambda x, t, c: Prediction(0.5 * x, 0.1 * x)  # noqa: E731
    x = torch.ones(1, 2, dtype=torch.float64)
    found = dps(both, weigh, torch.tensor([[Y]]), variance)(x, PROCESSES["cosine"].at(0.5), None)
    torch.testing.assert_close(found.variance, 0.1 * x)
    assert not found.variance.requires_grad


def network(x, t, condition):
    """Something that depends on the state, the time and the condition, and on each sample alone."""
    return Prediction(t.alpha * x + condition["c"] * np.array([1.0, -0.5, 2.0]) - x**2 / 4)


X = np.array([[0.3, -1.0, 0.5], [1.0, 0.2, -0.7]])
CONDITION, NULL = {"c": np.array([[1.0], [2.0]])}, {"c": np.array([[-0.5]])}
T = PROCESSES["cosine"].at(0.4)
TOLD, UNTOLD = network(X, T, CONDITION).x0, network(X, T, NULL).x0


def lengths(x):
    return np.linalg.norm(x, axis=1, keepdims=True)


@given(st.floats(-3, 10), st.floats(0, 1))
def test_rescaled_guidance_has_the_standard_deviation_asked_for(scale, rescale):
    plain = classifier_free(network, scale, NULL)(X, T, CONDITION).x0
    np.testing.assert_allclose(plain, UNTOLD + scale * (TOLD - UNTOLD), rtol=1e-9, atol=1e-12)
    found = classifier_free(network, scale, NULL, rescale=rescale)(X, T, CONDITION).x0
    if scale != 1:
        asked = rescale * TOLD.std(1) + (1 - rescale) * plain.std(1)
        np.testing.assert_allclose(found.std(1), asked, rtol=1e-9)
    np.testing.assert_allclose(found * lengths(plain), plain * lengths(found), rtol=1e-9, atol=1e-9)  # only scaled


def test_a_negative_condition_is_what_guidance_leads_away_from():
    """At scale 2 the negative prompt's own prediction is as far as the condition's, on the other side."""
    negative = {"c": np.array([[0.0], [3.0]])}
    found = classifier_free(network, 2.0, negative)(X, T, CONDITION).x0
    np.testing.assert_allclose((found + network(X, T, negative).x0) / 2, TOLD)


def test_autoguidance_is_linear_within_its_interval_and_calls_the_worse_model_only_there():
    calls = []

    def worse(x, t, condition):
        calls.append(t.t)
        return Prediction(0.5 * x)

    good = lambda x, t, condition: Prediction(network(x, t, condition).x0, 0 * x + 0.3)  # noqa: E731
    guided = autoguidance(good, worse, 3.0, (0.2, 0.8))
    np.testing.assert_allclose(guided(X, T, CONDITION).x0, 0.5 * X + 3 * (TOLD - 0.5 * X))
    assert (guided(X, T, CONDITION).variance == 0.3).all()
    for outside in (0.1, 0.9):
        t = PROCESSES["cosine"].at(outside)
        np.testing.assert_array_equal(guided(X, t, CONDITION).x0, network(X, t, CONDITION).x0)
    np.testing.assert_array_equal(autoguidance(good, worse, 1.0)(X, T, CONDITION).x0, TOLD)
    assert calls == [T.t, T.t]


@given(st.floats(-3, 20))
def test_projected_guidance_without_its_parts_is_classifier_free(scale):
    found = adaptive_projected(network, scale, NULL, eta=1.0, norm_threshold=np.inf, momentum=0.0)(X, T, CONDITION)
    np.testing.assert_allclose(found.x0, classifier_free(network, scale, NULL)(X, T, CONDITION).x0)


@given(st.floats(1.5, 20), st.floats(0.1, 5), st.floats(0, 1))
def test_projected_guidance_is_orthogonal_short_and_keeps_the_share_along(scale, reach, parallel):
    update = adaptive_projected(network, scale, NULL, norm_threshold=reach)(X, T, CONDITION).x0 - TOLD
    np.testing.assert_allclose((update * TOLD).sum(1), 0, atol=1e-9)
    assert (lengths(update) <= (scale - 1) * reach * (1 + 1e-9)).all()
    more = adaptive_projected(network, scale, NULL, parallel, reach)(X, T, CONDITION).x0 - TOLD
    direction = (TOLD - UNTOLD) * np.minimum(1, reach / lengths(TOLD - UNTOLD))
    unit = TOLD / lengths(TOLD)
    along = (direction * unit).sum(1, keepdims=True) * unit
    np.testing.assert_allclose(more - update, (scale - 1) * parallel * along, atol=1e-9)
    np.testing.assert_allclose(update, (scale - 1) * (direction - along), atol=1e-9)


def test_projected_guidance_adds_up_its_directions_with_momentum():
    """d_1, then d_2 + m d_1, then d_3 + m (d_2 + m d_1); a new guide has forgotten them."""
    guided = adaptive_projected(network, 2.0, NULL, eta=1.0, norm_threshold=np.inf, momentum=-0.5)
    running = 0.0
    for t in (0.9, 0.6, 0.3):
        t = PROCESSES["cosine"].at(t)
        told = network(X, t, CONDITION).x0
        running = told - network(X, t, NULL).x0 - 0.5 * running
        np.testing.assert_allclose(guided(X, t, CONDITION).x0, told + running)


@pytest.mark.parametrize(
    "guide",
    [
        partial(classifier_free, scale=4.0, uncond=NULL, rescale=0.7),
        partial(adaptive_projected, scale=4.0, uncond=NULL, norm_threshold=0.5, eta=0.2),
    ],
)
def test_a_sample_is_guided_alike_alone_and_in_a_batch(guide):
    grid = uniform(PROCESSES["cosine"], 6, start=0.9)
    both = sample(guide(network), (3,), ancestral, grid, [4, 5], CONDITION)
    for i, seed in enumerate([4, 5]):
        alone = sample(guide(network), (3,), ancestral, grid, [seed], {"c": CONDITION["c"][i : i + 1]})
        np.testing.assert_allclose(alone[0], both[i], rtol=1e-6)


@pytest.mark.parametrize("guide", [classifier_free, adaptive_projected])
def test_a_null_condition_that_does_not_fit_is_named(guide):
    needed = r"uncond needs 'c' of the condition's shape, \(2, 1\), or one that broadcasts to it"
    with pytest.raises(ValueError, match=needed):
        guide(network, 2.0, {"d": NULL["c"]})(X, T, CONDITION)
    for array in (np.asarray, torch.tensor):
        x, condition, null = array(X), {"c": array(CONDITION["c"])}, {"c": array(np.zeros((1, 4)))}
        with pytest.raises(ValueError, match=needed):
            guide(network, 2.0, null)(x, T, condition)


def test_gradients_need_torch_and_the_error_says_so():
    for guided in (
        classifier(network, log_second),
        dps(network, weigh, torch.tensor([[Y]]), variance),
    ):
        with pytest.raises(
            ValueError, match=r"needs gradients: bring a torch network and tensors \(`sample`: a device"
        ):
            sample(guided, (3,), ddim, uniform(PROCESSES["rectified_flow"], 3, start=0.9), [0, 1], CONDITION)


def test_nothing_is_guided_where_nothing_is_seen():
    t, x = PROCESSES["cosine"].at(1.0), torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(classifier(mixture, log_second)(x, t, None).x0, mixture(x, t).x0)
    torch.testing.assert_close(
        dps(correlated, weigh, torch.tensor([[Y]]), variance)(x, t, None).x0, correlated(x, t).x0
    )


def test_resampling_brings_the_drawn_part_into_agreement_with_the_known_one():
    """Of correlated data the first number is known. The second then has the mean M_2 + C_21 (x_1 - M_1) / C_11 and
    the variance C_22 - C_21^2 / C_11; replacement alone falls short of the mean."""
    known, mask = np.array([2.0, 0.0]), np.array([True, False])
    process, n = PROCESSES["cosine"], 5000
    grid = uniform(process, 40)
    exact, width = (M[1] + C[1, 0] * (2.0 - M[0]) / C[0, 0]).item(), (C[1, 1] - C[1, 0] ** 2 / C[0, 0]).item()
    found = {}
    for name, sampler in (("replaced", ancestral), ("resampled", partial(repaint, jump_length=5, n_resample=10))):
        hook = known_region(process, known, mask)
        out = sample(correlated, (n, 2), sampler, grid, [5], hooks=[hook], device="cpu")[0].double()
        assert (out[:, 0] == 2).all()
        found[name] = out[:, 1]
    assert exact - found["replaced"].mean().item() > 0.3
    assert found["resampled"].mean().item() == pytest.approx(exact, abs=0.1)
    assert found["resampled"].var().item() == pytest.approx(width, abs=0.1)


@given(schedules, st.floats(0.02, 1.0), st.floats(0.0, 0.99))
def test_noise_added_on_the_way_back_up_is_that_of_the_later_time(schedule, t, share):
    """From q(x_s | x_0) to q(x_t | x_0): both are Gaussian, so the mean and the variance say all."""
    process = PROCESSES[schedule]
    t, s = process.at(t), process.at(t * share)
    mean, added = process.renoise(1.0, s, t, 0.0), process.renoise(0.0, s, t, 1.0)
    assert mean * s.alpha == pytest.approx(t.alpha)
    assert (mean * s.sigma) ** 2 + added**2 == pytest.approx(t.sigma**2)


def test_a_known_region_has_the_noise_of_its_time():
    """After each step it is q(x_s | x_0), drawn anew: mean alpha_s x_0, standard deviation sigma_s."""
    process, seen = PROCESSES["rectified_flow"], []
    hook = known_region(process, np.array(1.5), np.array(True))

    def watch(step, noise):
        seen.append((step.x, step.s))

    sample(lambda x, t, c: Prediction(0 * x), (20_000,), ddim, uniform(process, 4), [0], hooks=[hook, watch])
    for x, s in seen:
        assert x.mean() == pytest.approx(1.5 * s.alpha, abs=0.02) and x.std() == pytest.approx(s.sigma, abs=0.02)
    assert abs(np.corrcoef(seen[0][0][0], seen[1][0][0])[0, 1]) < 0.03


@given(st.integers(0, 2**32 - 1))
def test_rounding_takes_the_nearest_vector_that_is_allowed(seed):
    generator = torch.Generator().manual_seed(seed)
    x, table = torch.randn(2, 3, 4, generator=generator), torch.randn(5, 4, generator=generator)
    allowed = torch.rand(2, 3, 5, generator=generator) < 0.6
    allowed[..., 0] = True
    distance = torch.cdist(x, table.expand(2, 5, 4))
    point = PROCESSES["cosine"].at(0.5)
    rounded = rounding(lambda x, t, c: Prediction(x), table, allowed)(x, point, None).x0
    torch.testing.assert_close(rounded, table[distance.masked_fill(~allowed, torch.inf).argmin(-1)])
    free = rounding(lambda x, t, c: Prediction(x), table.numpy())(x.numpy(), point, None).x0
    np.testing.assert_array_equal(free, table.numpy()[distance.argmin(-1).numpy()])
    later = rounding(lambda x, t, c: Prediction(x), table, until=0.4)(x, point, None).x0
    assert later is x


def test_a_classifier_that_is_linear_in_the_vectors_steers_tokens_exactly():
    """Then log p(y | x) + log p(x) is known for every sentence, and so is p(x | y)."""
    generator = torch.Generator().manual_seed(0)
    process = Categorical.masked(rectified_flow(), 4)
    logits, table = torch.randn(1, 3, 5, generator=generator), torch.randn(5, 2, generator=generator)
    pull = torch.randn(3, 2, generator=generator)
    guided = token_gradient(lambda x, t, c: Prediction(logits), table, lambda v, t, c: (v * pull).sum((1, 2)), 1.0)
    x = torch.tensor([[4, 2, 4]])
    law = process.clean(x, guided(x, process.at(0.7), None)).probabilities
    exact = (logits[..., :4] + pull @ table[:4].T).softmax(-1)
    torch.testing.assert_close(law[0, [0, 2], :4], exact[0, [0, 2]])
    assert law[0, 1, 2] == 1


def test_ascent_steps_to_the_sign_of_the_sum_of_both_gradients():
    t, s = PROCESSES["cosine"].at(0.5), PROCESSES["cosine"].at(0.4)
    x, target = torch.tensor([[0.0, 3.0, -1.0]]), torch.tensor([[2.0, 3.5, -4.0]])
    law = Normal(torch.zeros(1, 3), 1.0)
    step = StepResult(x, t, s, Prediction(x), law)
    noise = Noise([0], (3,), device="cpu")
    alone = gradient_control(lambda z, t, c: -((z - target) ** 2).sum(1), 0.25, 0.0, updates=2)(step, noise)
    torch.testing.assert_close(alone, torch.tensor([[0.5, 3.5, -1.5]]))
    # -x for fluency, 2 (target - x) for what is asked: 4, -2 and -5 at the start
    both = gradient_control(lambda z, t, c: -((z - target) ** 2).sum(1), 0.25, 1.0, updates=1)(step, noise)
    torch.testing.assert_close(both, torch.tensor([[0.25, 2.75, -1.25]]))
    assert gradient_control(lambda z, t, c: z.sum(1), 0.25, 0.0, t_min=0.4)(step, noise) is None
    assert gradient_control(lambda z, t, c: z.sum(1), 0.25, 0.0)(step._replace(transition=None), noise) is None


@pytest.mark.parametrize("name", ["none", "classifier", "dps", "both", "on"])
def test_the_graph_of_all_steps_goes_through_guides_with_gradients(name):
    """Against finite differences in the state at the start."""
    process = PROCESSES["cosine"]
    log_prob = lambda x, t, c: torch.sin(x).sum(1)  # noqa: E731
    plain = lambda x, t, c: Prediction(torch.tanh(x) / (1 + t.sigma))  # noqa: E731
    measured = lambda d: dps(d, lambda x: x[:, :1] ** 2, torch.ones(1), lambda t: 1 + t.sigma)  # noqa: E731
    guide = {
        "none": plain,
        "classifier": classifier(plain, log_prob),
        "dps": measured(plain),
        "both": classifier(measured(plain), log_prob),
        "on": on("a", measured)(lambda x, t, c: {n: plain(v, t[n], c) for n, v in x.items()}),
    }[name]
    shape = {"a": (2,)} if name == "on" else (2,)

    def end(x):
        x = {"a": x} if name == "on" else x
        made = sample(guide, shape, ddim, uniform(process, 4, start=0.9), [0], x=x, gradients=True, device="cpu")
        return (made["a"] if name == "on" else made).sum()

    x = torch.tensor([[0.7, -0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(end, x, atol=1e-6)
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)  # and to the network's own weights
    network = classifier(lambda z, t, c: Prediction(weight * z), log_prob)
    drawn = lambda x: sample(network, (2,), ddim, uniform(process, 2), [0], gradients=True, x=x, device="cpu")  # noqa: E731
    assert torch.autograd.grad(drawn(x.detach()).sum(), weight)[0] != 0
    with torch.no_grad():
        still = sample(guide, shape, ddim, uniform(process, 2), [0], dtype="float64", device="cpu")
    assert not (still["a"] if name == "on" else still).requires_grad


@given(st.sampled_from([torch.float32, torch.float64, "numpy"]))
def test_a_measurement_may_be_a_number_of_each_sample_of_any_kind(kind):
    y = np.array([1.0, 2.0, 3.0])
    plain = lambda x, t, c: Prediction(0.5 * x)  # noqa: E731
    x, t = torch.linspace(-1, 1, 6).reshape(3, 2), PROCESSES["cosine"].at(0.5)
    given_y = y if kind == "numpy" else torch.tensor(y, dtype=kind)
    with torch.no_grad():
        found = dps(plain, lambda x: x.mean(1), given_y, lambda t: 1.0)(x, t, None).x0
    off = torch.tensor(y, dtype=torch.float32) - 0.5 * x.mean(1)
    torch.testing.assert_close(found, 0.5 * x + t.sigma**2 / t.alpha * 0.25 * off[:, None].expand(3, 2))


@pytest.mark.parametrize("device", [None, "cpu"])
def test_what_is_known_of_fields_that_do_not_step_together(device):
    process = PROCESSES["rectified_flow"]
    grids = {"a": uniform(process, 2), "b": uniform(process, 5)}
    where = {"a": [True, False], "b": [False, True]}
    hook = known_region({"a": process, "b": process}, {"a": [3.0, 3.0], "b": [4.0, 4.0]}, where)
    plain = lambda x, t, c: {n: Prediction(0.5 * v) for n, v in x.items()}  # noqa: E731
    made = sample(plain, {"a": (2,), "b": (2,)}, ancestral, grids, [0, 1], hooks=[hook], device=device)
    assert (made["a"][:, 0] == 3).all() and (made["b"][:, 1] == 4).all()
    assert (made["a"][:, 1] != 3).all() and (made["b"][:, 0] != 4).all()


def test_an_uncond_may_have_a_mask_of_its_own():
    """That of its words, which are fewer; the driver's own mask it need not have."""
    seen = []

    def words(x, t, condition):
        seen.append(condition["mask"])
        return Prediction(0.5 * x)

    condition, uncond = {"c": np.ones((2, 3)), "mask": np.ones((2, 3))}, {"c": np.zeros((1, 3))}
    t, x = PROCESSES["cosine"].at(0.5), np.ones((2, 4), np.float32)
    classifier_free(words, 2.0, {**uncond, "mask": np.array([[1.0, 0.0, 0.0]])})(x, t, condition)
    classifier_free(words, 2.0, uncond)(x, t, condition)
    np.testing.assert_array_equal(seen[0][2:], [[1, 0, 0]] * 2)
    np.testing.assert_array_equal(seen[1][2:], np.ones((2, 3)))
