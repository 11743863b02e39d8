"""What a set of pictures is worth, measured with EfficientNet-Lite0, a network that never trains here.

Features are NumPy arrays (N, 1280). A figure made with them carries the encoder's name; none of them is FID.
"""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from inkwash.systems.pictures.efficientnet import EfficientNetLite0, load_efficientnet_lite0

_encoder = cache(load_efficientnet_lite0)


def features(pictures: np.ndarray, size: int = 128, batch: int = 32) -> np.ndarray:
    """EfficientNet-Lite0 features (N, 1280) float32 of `pictures` (N, H, W, 3) uint8 RGB.

    Pictures are resized bicubically to `size`: at 64 pixels the encoder tells concepts apart no better than
    raw pixels do.
    """
    network: EfficientNetLite0 = _encoder()
    batches = [np.zeros((0, 1280), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            x = torch.tensor(pictures[start : start + batch]).permute(0, 3, 1, 2) / 255
            x = F.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
            batches.append(network(x).numpy())
    return np.concatenate(batches)


def concept_rank(
    features: np.ndarray, concepts: np.ndarray, gallery: np.ndarray, gallery_concepts: np.ndarray
) -> np.ndarray:
    """The rank (N,), from 1, of each picture's own concept among the concepts of a gallery.

    A concept is as near as its nearest picture by cosine, so rank 1 is the nearest neighbour and
    `concept_rank(...) <= k` is top-k accuracy. A picture must not lie in the gallery that it is ranked in;
    a concept that does not lie there is a ValueError. Ties count against the picture.
    """
    names, concept_index = np.unique(gallery_concepts, return_inverse=True)
    target = np.searchsorted(names, concepts)
    if len(names) == 0 or (names[np.minimum(target, len(names) - 1)] != concepts).any():
        raise ValueError("every concept must have a picture in the gallery")
    order = np.argsort(concept_index, kind="stable")
    cosine = unit(features) @ unit(gallery[order]).T
    best = np.maximum.reduceat(cosine, np.searchsorted(concept_index[order], np.arange(len(names))), axis=1)
    rank: np.ndarray = (best >= np.take_along_axis(best, target[:, None], axis=1)).sum(1)
    return rank


def nearest(features: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `features` (N, D) the index (N,) of the nearest of `others` (M, D), and the cosine (N,)."""
    cosine = unit(features) @ unit(others).T
    index = cosine.argmax(1)
    return index, cosine[np.arange(len(index)), index]


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance between Gaussians fitted to the features a (N, D) and b (M, D),

        |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)),   A and B the covariances (Dowson and Landau 1982).

    With centred X and Y, A = X'X / (N - 1) and B = Y'Y / (M - 1), the trace of (A B)^(1/2) is the sum of the
    singular values of X Y' / sqrt((N - 1)(M - 1)): exact for N < D too, where A and B are singular. The
    estimate grows as N falls, so only distances between sets of equal size compare.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    x = (a - a.mean(0)) / np.sqrt(len(a) - 1)
    y = (b - b.mean(0)) / np.sqrt(len(b) - 1)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + (x**2).sum() + (y**2).sum() - 2 * cross)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over pictures, uint8 (N, H, W, C), of 10 log10(255^2 / mean squared error), in dB."""
    error = (a / 255.0 - b / 255.0) ** 2
    return float((-10 * np.log10(error.mean((1, 2, 3)))).mean())


def unit(x: np.ndarray) -> np.ndarray:
    units: np.ndarray = x / np.linalg.norm(x, axis=1, keepdims=True)
    return units
