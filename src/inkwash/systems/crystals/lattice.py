"""Lattices in three forms: vectors, lengths and angles, and the logarithm of the metric, in which every six numbers
are a cell of positive volume."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS, COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)  # aa, bb, cc, bc, ac, ab


def parameters(lattice: Tensor) -> Tensor:
    """Lengths a, b, c in the lattice's unit and angles alpha (between b and c), beta, gamma in degrees, (..., 6), of
    vectors a, b, c in the rows of (..., 3, 3)."""
    return _parameters(lattice @ lattice.mT)


def matrix(parameters: Tensor) -> Tensor:
    """Vectors a, b, c in rows, (..., 3, 3), of lengths and angles in degrees, (..., 6): c along z, a in the xz plane,
    right-handed (the orientation of pymatgen's `Lattice.from_parameters`)."""
    a, b, c, *angles = parameters.unbind(-1)
    cos_alpha, cos_beta, cos_gamma = (torch.cos(torch.deg2rad(angle)) for angle in angles)
    sin_alpha, sin_beta = (torch.sin(torch.deg2rad(angle)) for angle in angles[:2])
    cos = ((cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)).clamp(-1, 1)  # of the reciprocal angle gamma*
    zero, sin = torch.zeros_like(a), torch.sqrt(1 - cos**2)
    rows = [
        torch.stack([a * sin_beta, zero, a * cos_beta], -1),
        torch.stack([-b * sin_alpha * cos, b * sin_alpha * sin, b * cos_alpha], -1),
        torch.stack([zero, zero, c], -1),
    ]
    return torch.stack(rows, -2)


def log_metric(lattice: Tensor) -> Tensor:
    """The entries aa, bb, cc, bc, ac, ab of log(L L^T), (..., 6), for vectors in the rows of L (..., 3, 3).

    They do not change when the crystal is turned; a scale s of the lattice adds 2 log s to the first three.
    """
    values, vectors = torch.linalg.eigh((lattice @ lattice.mT).double())
    logarithm: Tensor = (vectors * values.log()[..., None, :]) @ vectors.mT
    entries = [logarithm[..., i, j] for i, j in zip(ROWS, COLUMNS, strict=True)]
    return torch.stack(entries, -1).to(lattice.dtype)


def from_log_metric(numbers: Tensor) -> Tensor:
    """The lattice (..., 3, 3) of six numbers, in the orientation of `matrix`: the inverse of `log_metric`."""
    aa, bb, cc, bc, ac, ab = numbers.double().unbind(-1)
    logarithm = torch.stack([torch.stack(row, -1) for row in ((aa, ab, ac), (ab, bb, bc), (ac, bc, cc))], -2)
    values, vectors = torch.linalg.eigh(logarithm)
    metric = (vectors * values.exp()[..., None, :]) @ vectors.mT
    return matrix(_parameters(metric)).to(numbers.dtype)


def heights(lattice: Tensor) -> Tensor:
    """The distances between the planes of lattice points along a, b and c, (..., 3)."""
    inverse: Tensor = torch.linalg.inv_ex(lattice).inverse
    lengths: Tensor = inverse.norm(dim=-2)
    return 1 / lengths


def _parameters(metric: Tensor) -> Tensor:
    lengths = metric.diagonal(dim1=-2, dim2=-1).sqrt()
    a, b, c = lengths.unbind(-1)
    dots = torch.stack([metric[..., 1, 2], metric[..., 0, 2], metric[..., 0, 1]], -1)
    cosines = dots / torch.stack([b * c, a * c, a * b], -1)
    return torch.cat([lengths, torch.rad2deg(torch.arccos(cosines.clamp(-1, 1)))], -1)
