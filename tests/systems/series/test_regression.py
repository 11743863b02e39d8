"""Ridge regressions of few and of many inputs, beside NumPy's least squares."""

import numpy as np
import pytest
import torch

from inkwash.systems.series import regression


@pytest.mark.parametrize(("rows", "inputs"), [(40, 7), (9, 30)], ids=["tall", "wide"])
def test_a_ridge_is_the_least_squares_of_rows_and_a_penalty(rows, inputs):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(rows, inputs)), rng.normal(size=(rows, 4))
    observed = (rng.random((rows, 4)) < 0.8).astype(float)
    observed[3] = 0  # nothing is learned of this row, not even its inputs
    masked, found = x * observed.max(1, keepdims=True), []
    size, chosen = (masked**2).mean(), np.array([True, False, True, True])
    for coefficients in regression.ridge_regressions(tuple(map(torch.from_numpy, (x, y, observed)))):
        found.append(coefficients(torch.from_numpy(chosen)).numpy())
    assert len(found) == len(regression.RIDGES) + 1 and not found[-1].any()
    for ridge, location in zip(regression.RIDGES, found, strict=False):
        penalty = np.sqrt(rows * (ridge * size + 1e-9)) * np.eye(inputs)
        both = np.concatenate([masked, penalty]), np.concatenate([y * observed, np.zeros((inputs, 4))])
        np.testing.assert_allclose(location, np.linalg.lstsq(*both, rcond=None)[0][:, chosen], rtol=1e-6, atol=1e-9)


def test_what_a_ridge_leaves_is_the_error_of_its_coefficients():
    rng = np.random.default_rng(1)
    rows, unseen = (
        tuple(map(torch.from_numpy, (rng.normal(size=(count, 3)), rng.normal(size=(count, 2)), np.ones((count, 2)))))
        for count in (20, 10)
    )
    errors = regression.ridge_errors(rows, unseen)
    fitted = [coefficients(torch.tensor([False, True])) for coefficients in regression.ridge_regressions(rows)]
    expected = [((unseen[1][:, 1:] - unseen[0] @ each) ** 2).mean() for each in fitted]
    np.testing.assert_allclose(errors[:, 1], expected)
