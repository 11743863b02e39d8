"""Pictures <-> latents by a checkpoint's autoencoder: large ones in tiles, in float32 where less overflows."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inkwash.codecs import latents
from inkwash.errors import UserError
from inkwash.networks.seamless import circular
from inkwash.systems.checkpoints.memory import TILE, WHOLE

OVERLAP = 16  # places that a tile shares with each neighbour, at least


def decode(
    vae: Any, state: Tensor, autocast: Callable[[], AbstractContextManager[Any]], tiling: str = ""
) -> np.ndarray:
    """States (N, C, h, w) -> pictures, uint8 (N, f h, f w, 3), each alone; under autocast, but in float32 where that
    overflows, as SDXL's autoencoder does in float16. tiling: see `networks.seamless`."""
    scale, shift = latents.scale_and_shift(vae.config)

    def call(z: Tensor) -> Tensor:
        with autocast():
            x: Tensor = vae.decode(z).float()
        x = x if x.isfinite().all() else vae.decode(z).float()
        if not x.isfinite().all():
            raise UserError("the VAE makes values that are not finite: ask for less guidance, or fetch it again")
        return x

    with torch.no_grad():
        x = torch.cat([by_whole_or_tiles(vae, call, z[None] / scale + shift, (1, vae.factor), tiling) for z in state])
    return latents.from_output(x.cpu().numpy())


def encode_mean(vae: Any, x: Tensor, tiling: str = "") -> Tensor:
    """Pixels in [-1, 1], (N, 3, f h, f w) -> the mean latents (N, C, h, w) in the autoencoder's own units."""
    with torch.no_grad():
        return torch.cat(
            [by_whole_or_tiles(vae, lambda x: vae.encode(x)[0], one[None], (vae.factor, 1), tiling) for one in x]
        )


def by_whole_or_tiles(
    vae: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor, sides: tuple[int, int], tiling: str
) -> Tensor:
    """call(x), a place of a latent being so many of x along a side, and of what comes out; of a whole or of tiles, of
    which those at a side see what lies at the opposite one where the sides meet."""
    if x.shape[2] * x.shape[3] <= WHOLE * sides[0] ** 2:
        with circular(vae, tiling):
            return call(x)
    columns, rows = (OVERLAP if axis in tiling else 0 for axis in "xy")
    padding = [sides[0] * count for count in (columns, columns, rows, rows)]
    found = by_tiles(call, functional.pad(x, padding, mode="circular"), *sides)
    return functional.pad(found, [-sides[1] * count for count in (columns, columns, rows, rows)])


def by_tiles(call: Callable[[Tensor], Tensor], x: Tensor, side: int, to: int) -> Tensor:
    """call(x), (1, C, side h, side w) -> (1, D, to h, to w), of tiles of at most TILE x TILE places, mixed linearly
    where they overlap. That is not quite the whole, whose norms see all of it at once."""
    height, width = x.shape[2] // side, x.shape[3] // side
    found, total = None, torch.zeros(to * height, to * width, device=x.device)
    for top in starts(height):
        for left in starts(width):
            rows, columns = slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
            part = call(x[:, :, times(rows, side), times(columns, side)])
            share = torch.outer(shares(rows, height, to), shares(columns, width, to)).to(part)
            found = part.new_zeros(1, part.shape[1], *total.shape) if found is None else found
            found[:, :, times(rows, to), times(columns, to)] += share * part
            total[times(rows, to), times(columns, to)] += share
    assert found is not None  # there is one tile at least
    return found / total


def starts(length: int) -> list[int]:
    """Where along a side of so many places tiles begin, as evenly as they can."""
    last = max(0, math.ceil((length - TILE) / (TILE - OVERLAP)))
    return [round(i * (length - TILE) / last) for i in range(last + 1)] if last else [0]


def times(places: slice, factor: int) -> slice:
    return slice(factor * places.start, factor * places.stop)


def shares(places: slice, length: int, to: int) -> Tensor:
    """What a tile counts at each of its rows (or columns): less towards an edge beyond which there is another."""
    count = to * (places.stop - places.start)
    rise = ((torch.arange(count) + 0.5) / (to * OVERLAP)).clamp(max=1)
    return (rise if places.start else 1) * (rise.flip(0) if places.stop < length else torch.ones(count))
