"""Many short series as one body of experience: what they have in common is found, and no more than that."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.systems.series import combination, ets, metrics, pooled

SHAPE = np.array([3.0, 1, -1, -2, 0, 2, -3, 0, 1, -1, 2, -2])


def seasonal(rows, dims, noise=2.0, seed=0, shape=SHAPE):
    """Series of sizes and levels of their own that have a season in common."""
    rng = np.random.default_rng(seed)
    values = np.tile(shape, rows // len(shape) + 1)[:rows, None] + rng.normal(0, noise, (rows, dims))
    return (values + rng.normal(0, 20, dims)) * rng.lognormal(0, 2, dims)


def drawn(values, horizon=12, samples=400, season=12, seed=0):
    return pooled.pooled_ets(values, horizon, samples, np.random.default_rng(seed), season)


def group(values, first=0):
    return pooled.Group(first, first + len(values), np.full(values.shape[1], True), values)


def small_grid(monkeypatch):
    monkeypatch.setattr(ets, "ALPHAS", (0.05, 0.5, 1.0))
    monkeypatch.setattr(ets, "TRENDS", ((0.0, 1.0, 0.0), (0.0, 1.0, 0.15)))


def test_the_weights_maximize_the_likelihood_of_all_series(monkeypatch):
    """KKT: sum_i p_ig / (w p_i) + (BELIEF / G) / w_g is BELIEF + D at every point."""
    small_grid(monkeypatch)
    monkeypatch.setattr(pooled, "STEPS", 1500)
    values = np.random.default_rng(0).normal(0, 1, (30, 12)).cumsum(0)
    values[:, :3] = np.random.default_rng(1).normal(0, 1, (30, 3))
    grid = ets.make_grid(1)
    monkeypatch.setattr(pooled, "TEMPER", 1.0)
    prior = pooled.learn(grid, [group(values)])
    columns = ets.as_columns(values)
    likelihood = ets.log_posterior(ets.flat_prior(grid), ets.fit(grid, columns.y), columns)
    likelihood = np.exp(likelihood - likelihood.max((0, 1)))
    weights = np.exp(prior.weights)
    marginal = (weights[..., None] * likelihood).sum((0, 1))
    slope = (likelihood / marginal).sum(2) + pooled.BELIEF / weights.size / weights
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(slope, pooled.BELIEF + 12, rtol=1e-3)
    np.testing.assert_array_equal(prior.root, np.eye(2))


def test_walks_are_found_to_be_walks():
    """alpha = 1 without trend or season: the more series, the more of the prior lies there."""
    grid = ets.make_grid(4)
    walk = (grid.alpha == 1) & (grid.phi == 1) & (grid.deviation[:, 1:2] == 0) & (grid.deviation[:, 2:3] == 0)
    share = []
    for dims in (8, 40, 160):
        walks = np.random.default_rng(0).standard_normal((24, dims)).cumsum(0)
        share.append(np.exp(pooled.learn(grid, [group(walks)]).weights)[:, walk[:, 0]].sum())
    assert share[0] < share[1] < share[2] and share[0] > walk.mean()


def test_a_season_that_all_have_is_the_first_eigenvector_of_the_prior():
    grid = ets.make_grid(12)
    values = seasonal(24, 100)
    season = pooled.learn(grid, [group(values)]).root[2:, 2:]
    shares, vectors = np.linalg.eigh(season @ season.T)
    assert np.trace(season @ season.T) == pytest.approx(12)
    assert abs(vectors[:, -1] @ SHAPE) / np.linalg.norm(SHAPE) > 0.95 and shares[-1] > 3 * shares[-2]


def test_the_scatter_of_a_season_is_that_of_draws_from_its_posterior(monkeypatch):
    small_grid(monkeypatch)
    monkeypatch.setattr(ets, "SEASONS", ((0.0, 0.0), (0.1, 3.0)))
    grid, rng = ets.make_grid(4), np.random.default_rng(0)
    values = rng.normal(0, 1, (20, 1)) + np.tile([2.0, 0, -1, -1], 5)[:, None]
    columns = ets.as_columns(values)
    found = ets.fit(grid, columns.y)
    point = np.flatnonzero(grid.gamma[:, 0])[2]
    posterior = np.zeros((2, len(grid.alpha), 1))
    posterior[0, point] = 1.0
    scatter = pooled.season_scatter(grid, found, columns, posterior)
    sigma = np.sqrt(found.squares[point, 0] / rng.chisquare(20, 400_000))[:, None]
    normal = np.linalg.solve(found.factor[point].T, rng.standard_normal((6, 400_000))).T
    state = (found.mean[point, :, 0] / sigma + normal)[:, 2:]  # in units of sigma and of the prior
    exact = state.T @ state / len(state)
    np.testing.assert_allclose(scatter, 4 * exact / np.trace(exact), atol=0.02)


def test_what_is_new_knows_the_season_of_the_others_at_once():
    """Of six rows, in the middle of a year; each alone knows nothing of it."""
    values = seasonal(42, 40, noise=0.5)
    scale, truth = np.abs(np.diff(values, axis=0)).mean(0), values[30:]
    values[:24, :5] = np.nan
    known = values[:30]
    alone = combination.expert_paths(combination.ETS, 12, known, [30], 12, 400, 0)[0]
    errors = [np.abs(np.median(paths, axis=0) - truth)[:, :5] / scale[:5] for paths in (alone, drawn(known))]
    assert errors[1].mean() < 0.5 * errors[0].mean()


def test_short_series_of_one_kind_are_foretold_better_together():
    values = seasonal(36, 100)
    scale = np.abs(np.diff(values, axis=0)).mean(0)
    alone = ets.ets(values[:24], 12, 400, np.random.default_rng(0), 12)
    losses = [(metrics.quantile_loss(paths, values[24:]) / scale).mean() for paths in (alone, drawn(values[:24]))]
    assert losses[1] < 0.93 * losses[0]
    assert 0.84 < metrics.coverage(drawn(values[:24])[None], values[None, 24:]) < 0.97


def test_the_first_phase_of_a_season_is_that_of_the_row_where_a_series_begins():
    root = np.eye(6)
    root[2:, 2:] = np.diag([1.0, 2, 3, 4])
    prior = ets.Prior(np.zeros((2, 1)), root)
    covariance = pooled.turned(prior, 5).root @ pooled.turned(prior, 5).root.T
    np.testing.assert_array_equal(np.diag(covariance), [1, 1, 4, 9, 16, 1])
    np.testing.assert_array_equal(pooled.turned(prior, 8).root, root)


def test_past_errors_are_those_of_the_most_probable_point(monkeypatch):
    """One point: y = A first + errors, which the design of `fit` says in another way."""
    monkeypatch.setattr(ets, "ALPHAS", (0.4,))
    monkeypatch.setattr(ets, "TRENDS", ((0.1, 0.9, 0.2),))
    monkeypatch.setattr(ets, "SEASONS", ((0.3, 3.0),))
    values, grid = seasonal(30, 3, shape=np.array([2.0, 0, -1, -1])), ets.make_grid(4)
    values -= values.max(0)  # no logarithms
    prior = ets.flat_prior(grid)
    columns = ets.as_columns(values)
    first = grid.deviation[0][:, None] * ets.fit(grid, columns.y).mean[0]
    exact = [ets.smooth(grid, columns.y[:, [k]], first[:, [k]])[0][0, :, 0] for k in range(3)]
    np.testing.assert_allclose(pooled.past_errors(grid, prior, values), np.transpose(exact), atol=1e-9)


@pytest.mark.parametrize("common", [0.0, 0.3, 0.8])
def test_the_sum_of_many_series_has_the_variance_of_their_correlation(common):
    """n + n (n - 1) rho of n = 100 standard normal ones, from 24 rows."""
    rng, ratios = np.random.default_rng(0), []
    for _ in range(20):
        errors = np.sqrt(common) * rng.standard_normal((24, 1)) + np.sqrt(1 - common) * rng.standard_normal((24, 100))
        factor = pooled.joint_factor(errors)
        np.testing.assert_allclose((factor**2).sum(1), 1)
        ratios.append((factor.sum(0) ** 2).sum() / (100 + 9900 * common))
    assert np.mean(ratios) == pytest.approx(1, abs=0.3)


def test_the_band_of_the_sum_of_correlated_series_covers_as_it_says():
    """Walks of a common and an own part; errors shrunk towards none in common would hold half as much."""
    rng, held = np.random.default_rng(0), []
    for _ in range(60):
        steps = rng.standard_normal((44, 1)) + rng.standard_normal((44, 20))
        values = steps.cumsum(0)
        paths = drawn(values[:40], 4, 200, 1).sum(-1)
        low, high = np.quantile(paths, [0.05, 0.95], axis=0)
        held.append(((low <= values[40:].sum(1)) & (values[40:].sum(1) <= high)).mean())
    assert 0.82 < np.mean(held) < 0.97


def test_a_series_that_ended_and_one_without_a_value():
    """The first is walked to the end of the table, so its band is wider; of the other nothing is known: 0."""
    values = np.random.default_rng(0).standard_normal((40, 10)).cumsum(0)
    values[-5:, 0], values[:, 1], values[:38, 2] = np.nan, np.nan, np.nan
    paths = drawn(values, 3, 2000, 1)
    spread = np.subtract(*np.quantile(paths[:, 0], [0.75, 0.25], axis=0))
    assert spread[0] > 1.8 * np.median(spread[3:])
    np.testing.assert_array_equal(paths[..., 1], 0)
    np.testing.assert_array_equal(paths[..., 2], values[-1, 2])  # of two rows: the last value


def test_what_never_moves_stays_and_teaches_nothing():
    values = seasonal(24, 10)
    still = np.concatenate([values, np.full((24, 2), [7.0, 0.0])], axis=1)
    np.testing.assert_allclose(drawn(still)[..., 10:], np.broadcast_to([7.0, 0.0], (400, 12, 2)), atol=1e-9)
    grid = ets.make_grid(12)
    for with_it, without in zip(pooled.learn(grid, [group(still)]), pooled.learn(grid, [group(values)]), strict=True):
        np.testing.assert_array_equal(with_it, without)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-9, 1e-3, 1e9]), st.integers(3, 30), st.integers(1, 9))
def test_units_change_nothing_and_any_length_and_number_of_paths_is_of_its_seed(seed, unit, length, samples):
    values = np.random.default_rng(seed).normal(50, 1, (length, 8))
    first, again, other = (drawn(each, 3, samples, 4, seed) for each in (values, values, values * unit))
    assert first.shape == (samples, 3, 8) and np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(other / unit, first, rtol=1e-5)


def test_only_many_short_series_are_pooled():
    assert combination.POOLED in combination.prior(24, 12, 8)
    assert combination.prior(24, 12, 7) == combination.prior(24, 12, 1) == combination.prior(24, 12)
    assert combination.prior(121, 12, 8) == combination.prior(121, 12)
    assert combination.prior(17, 12, 8) == combination.prior(17, 12)
    for length in (18, 24, 120):
        assert sum(combination.prior(length, 12, 8).values()) == pytest.approx(1)
