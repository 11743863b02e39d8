"""Pictures <-> arrays in [-1, 1]; pictures <-> states, where every patch of pixels is the channels of one place."""

import numpy as np


def on_white(pictures: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 4), straight alpha, laid on white: uint8 (N, H, W, 3). Pictures without alpha pass."""
    if pictures.shape[-1] == 3:
        return pictures
    result = np.empty((*pictures.shape[:3], 3), np.uint8)
    for i, picture in enumerate(pictures):  # one by one, for the memory's sake
        alpha = picture[..., 3:].astype(np.uint16)
        result[i] = (picture[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return result


def normalize(pictures: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) -> float32 (N, C, H, W) in [-1, 1]."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / np.float32(127.5) - 1


def denormalize(x: np.ndarray) -> np.ndarray:
    """The inverse of `scaled`, clipped and rounded."""
    return ((x.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)


def encode(pictures: np.ndarray, patch: int) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, 3 patch^2, H / patch, W / patch) in [-1, 1].

    A permutation of the pixels, so diffusion of the state is diffusion of the picture.
    """
    return pixel_unshuffle(normalize(pictures), patch)


def decode(state: np.ndarray, patch: int) -> np.ndarray:
    """The inverse of `encode`, clipped and rounded to uint8 (N, H, W, 3)."""
    return denormalize(pixel_shuffle(state, patch))


def pixel_unshuffle(x: np.ndarray, patch: int) -> np.ndarray:
    """(N, C, patch h, patch w) -> (N, C patch^2, h, w), as torch's pixel_unshuffle, without torch."""
    n, c, height, width = x.shape
    patches = x.reshape(n, c, height // patch, patch, width // patch, patch).transpose(0, 1, 3, 5, 2, 4)
    return np.ascontiguousarray(patches).reshape(n, c * patch**2, height // patch, width // patch)


def pixel_shuffle(state: np.ndarray, patch: int) -> np.ndarray:
    """The inverse of `unshuffled`: the channels of a place become its pixels."""
    n, c, h, w = state.shape
    pixels = state.reshape(n, c // patch**2, patch, patch, h, w).transpose(0, 1, 4, 2, 5, 3)
    return np.ascontiguousarray(pixels).reshape(n, c // patch**2, patch * h, patch * w)
