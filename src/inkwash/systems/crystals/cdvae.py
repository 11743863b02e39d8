"""CDVAE (Xie et al. 2021, 2110.06197): z says how many atoms, which cell and which elements, Langevin dynamics where.

The parts that are easily skipped are switches, so that a row without each can be measured: see `Options`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional as F

from inkwash import diffusion
from inkwash.diffusion.options import COUNT, POSITIVE
from inkwash.systems.crystals.data import wrap
from inkwash.systems.crystals.lattice import matrix, parameters
from inkwash.systems.crystals.vae_networks import CrystalVAE
from inkwash.training.recipe import Width

Batch = dict[str, Any]
IMAGES = torch.tensor([*product((-1.0, 0.0, 1.0), repeat=3)])
LEVELS, CORRECTIONS, STEP = 50, 10, 0.5  # of Langevin dynamics, chosen on the validation part
NARROWEST = 0.05  # of a cell: its volume over that of a box of its lengths


@dataclass(frozen=True)
class Options:
    """The table [cdvae] of a recipe.

    latent              numbers of z
    kl                  weight of the KL divergence
    nearest_image       coordinates learn the way to the nearest image of the clean atom; else the noise that was added
    toward_composition  kinds are noised towards the composition that z says; else towards any element
    teacher_forcing     in the first half of the training atoms are placed in the true cell, not in the one z says
    scaled_lengths      the head says lengths over the cube root of the number of atoms
    integer_composition  atoms begin as the composition rounded to whole numbers; else each is drawn from it
    """

    latent: Width = 64
    kl: Annotated[float, Ge(0), Le(1000)] = 0.01
    nearest_image: bool = True
    toward_composition: bool = True
    teacher_forcing: bool = True
    scaled_lengths: bool = True
    integer_composition: bool = True


@diffusion.schedule(sigma_min=POSITIVE, sigma_max=POSITIVE)
def type_levels(sigma_min: float = 0.01, sigma_max: float = 5.0) -> diffusion.Formulas:
    """alpha = 1 / (1 + sigma_A), sigma = 1 - alpha, sigma_A = sigma_min (sigma_max / sigma_min)^t: a kind is drawn
    from onehot + sigma_A composition, normalised."""

    def level(t: Any) -> Any:
        return sigma_min * (sigma_max / sigma_min) ** t

    return diffusion.Formulas(lambda t: 1 / (1 + level(t)), lambda t: level(t) / (1 + level(t)), sigma_min, sigma_max)


def denoiser(network: Callable[..., Any], composition: np.ndarray) -> diffusion.Denoiser:
    """Of Cartesian coordinates in angstrom, sigma from 0.01 to 10, and kinds, noised towards `composition`, (symbols,)
    or (B, symbols)."""
    limit = composition.astype(np.float64)
    limit = limit / limit.sum(-1, keepdims=True)
    rows = tuple(map(tuple, limit.tolist())) if limit.ndim == 2 else tuple(limit.tolist())
    processes = {
        "coordinates": diffusion.Gaussian(diffusion.variance_exploding(0.01, 10.0)),
        "kinds": diffusion.Categorical(type_levels(), rows),
    }
    return diffusion.Denoiser(network, processes)


def nearest_image(difference: Tensor, lattice: Tensor) -> Tensor:
    """The shortest of the vectors that lead to an image, Cartesian (B, N, 3), of lattice (B, 3, 3); 27 cells are
    searched, which is enough in a Niggli-reduced one."""
    fractional = to_fractional(difference, lattice)
    images = (fractional - fractional.round())[..., None, :] + IMAGES.to(difference)
    vectors = images @ lattice[:, None]
    best = vectors.square().sum(-1).argmin(-1)
    return vectors.take_along_dim(best[..., None, None], -2).squeeze(-2)


def to_fractional(cartesian: Tensor, lattice: Tensor) -> Tensor:
    """(B, N, 3) in units of the rows of lattice (B, 3, 3)."""
    return torch.linalg.solve(lattice.mT, cartesian.mT).mT


def lattice_numbers(network: CrystalVAE, lattice: Tensor, count: Tensor) -> Tensor:
    """What the head says of a lattice (B, 3, 3) of `count` atoms: lengths, perhaps over count^(1/3), and angles in
    degrees, (B, 6), each standardised."""
    return (_scaled(network, parameters(lattice), count, -1 / 3) - network.lattice_mean) / network.lattice_std


def cell(network: CrystalVAE, numbers: Tensor, count: Tensor) -> Tensor:
    """The lattice (B, 3, 3) of what the head says. Lengths are at least 1 angstrom; angles that make no cell, or
    nearly none, go halfway to 90 degrees until they do."""
    sides = _scaled(network, numbers * network.lattice_std + network.lattice_mean, count, 1 / 3)
    lengths, angles = sides[:, :3].clamp(1, 1000), sides[:, 3:].clamp(10, 170)
    for _ in range(8):
        cos = torch.cos(torch.deg2rad(angles))
        square = 1 + 2 * cos.prod(-1) - cos.square().sum(-1)
        angles = torch.where((square < NARROWEST**2)[:, None], (angles + 90) / 2, angles)
    return matrix(torch.cat([lengths, angles], -1))


def _scaled(network: CrystalVAE, sides: Tensor, count: Tensor, power: float) -> Tensor:
    factor = count[:, None].to(sides) ** power if network.config["scaled_lengths"] else 1.0
    return torch.cat([sides[:, :3] * factor, sides[:, 3:]], -1)


def standardise(network: CrystalVAE, lattice: Tensor, count: Tensor, properties: Tensor) -> None:
    """Sets the network's buffers from the training data: lattices (N, 3, 3), counts (N,), properties (N, P), NaN where
    one is not known. What is always the same is only shifted."""
    tables = {"lattice": _scaled(network, parameters(lattice), count, -1 / 3), "property": properties}
    for name, table in tables.items():
        for column, values in enumerate(table.T):
            values = values[values.isfinite()]
            if len(values):
                std = values.std(correction=0)
                getattr(network, f"{name}_mean")[column] = values.mean()
                getattr(network, f"{name}_std")[column] = std if std > 1e-4 else 1.0


def loss(network: CrystalVAE, options: Options, batch: Batch, generator: torch.Generator) -> Tensor:
    """CDVAE's loss, a mean over crystals: atoms + 10 lattice + composition + 10 coordinates + kinds + kl KL +
    properties. The lattice and the composition in which atoms are noised are not learned through the noise.

    batch: kinds (B, N), fractional coordinates (B, N, 3), lattice (B, 3, 3), mask (B, N), properties (B, P), NaN where
    one is not known, and teacher, whether the true lattice is given.
    """
    kinds, lattice, mask, properties = (batch[key] for key in ("kinds", "lattice", "mask", "properties"))
    count = mask.sum(1)
    mean, log_variance = network.encode(kinds, batch["coordinates"], lattice, mask)
    z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
    kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2

    numbers, composition = network.lattice(z), network.composition(z)
    of_atoms = F.cross_entropy(network.atoms(z), count)
    of_lattice = F.mse_loss(numbers, lattice_numbers(network, lattice, count))
    of_kinds = -composition.log_softmax(-1).gather(1, kinds) * mask
    of_composition = (of_kinds.sum(1) / count).mean()

    if not (batch["teacher"] and options.teacher_forcing):
        lattice = cell(network, numbers.detach(), count)
    limit = composition.detach().softmax(-1) if options.toward_composition else torch.ones_like(composition[0])
    scores = denoiser(network, limit.numpy(force=True)).loss(
        {"coordinates": batch["coordinates"] @ lattice, "kinds": kinds},
        {"z": z, "lattice": lattice},
        objective={"coordinates": coordinates_error(lattice, options), "kinds": diffusion.cross_entropy},
        weight={"coordinates": lambda t, form: 10.0, "kinds": lambda t, form: t.alpha / t.sigma},
        times={"coordinates": diffusion.uniform_times, "kinds": diffusion.uniform_times},
        mask=mask,
        generator=generator,
    )
    total = of_atoms + 10 * of_lattice + of_composition + scores + options.kl * kl
    known = properties.isfinite()
    if known.any():
        wanted = (properties - network.property_mean) / network.property_std
        error = torch.where(known, network.property(z) - torch.where(known, wanted, 0), 0).square()
        total = total + error.sum() / known.sum()
    return total


def coordinates_error(lattice: Tensor, options: Options) -> diffusion.losses.Objective:
    """sigma^2 / 2 |score - vector / sigma^2|^2 at each atom, (B, N): the vector leads from the noisy atom to the nearest
    image of the clean one, in this lattice."""

    def error(term: diffusion.Term) -> Tensor:
        eps = term.eps
        if options.nearest_image:
            eps = -nearest_image(term.x0 - term.x, lattice) / term.t.sigma
        squared: Tensor = (term.output - eps).square().sum(-1) / 2
        return squared

    return error


@diffusion.sampler(tokens=True, corrections=COUNT)
def most_likely(x: Any, grid: diffusion.Grid, noise: diffusion.Noise, corrections: int = 10) -> Any:
    """The likeliest symbol at every call, as often as `annealed_langevin` asks beside it."""
    for t, s in pairwise(grid):
        for _ in range(corrections + 1):
            prediction = yield diffusion.ModelCall(x, t)
            x = prediction.x0.argmax(-1)
        x = yield diffusion.StepResult(x, t, s, prediction)
    return x


def integer_composition(p: np.ndarray, count: int, u: np.ndarray) -> np.ndarray:
    """`count` kinds in the proportions p (symbols,): count p rounded; what is missing is drawn from what was rounded
    away, by uniform numbers u (count,)."""
    whole = np.round(count * p).astype(int)
    kinds = np.repeat(np.arange(len(p)), whole)
    rest = np.cumsum(np.clip(count * p - whole, 0, None))
    missing = np.searchsorted(rest, u[: max(count - len(kinds), 0)] * rest[-1])
    return np.concatenate([kinds, missing])


class Decoded(NamedTuple):
    """Crystals as arrays: of each its lattice (3, 3), fractional coordinates (N, 3) in [0, 1) and kinds (N,)."""

    lattice: np.ndarray
    coordinates: np.ndarray
    kinds: np.ndarray


@torch.no_grad()
def decode(
    network: CrystalVAE,
    options: Options,
    z: Tensor,
    seeds: Sequence[int],
    *,
    allowed: Tensor | None = None,
    kinds: Sequence[np.ndarray] | None = None,
    counts: Sequence[int] | None = None,
    steps: int = LEVELS,
    corrections: int = CORRECTIONS,
    step: float = STEP,
    progress: Callable[[int, int], None] | None = None,
) -> list[Decoded]:
    """The crystals of z (B, latent), by annealed Langevin dynamics from uniform places.

    allowed: (symbols,), which kinds there may be. kinds: those of each crystal, fixed from the start. counts: how
    many atoms each has, instead of what z says. steps: noise levels, geometric from 10 to 0.01 angstrom; at each
    `corrections` steps of step sigma^2 (the paper: 100 of 1.0), the kinds being the likeliest at every call.
    """
    if kinds is not None:
        counts = [len(of) for of in kinds]
    scores = network.atoms(z)
    scores[:, 0] = -torch.inf
    count = scores.argmax(-1) if counts is None else torch.tensor(list(counts), device=z.device)
    lattice = cell(network, network.lattice(z), count)
    longest = int(count.max())
    mask = torch.arange(longest, device=z.device) < count[:, None]
    may = torch.ones(network.config["elements"], dtype=torch.bool, device=z.device) if allowed is None else allowed
    if kinds is None:
        composition = network.composition(z).masked_fill(~may, -torch.inf).softmax(-1)
        kinds = starting_kinds(composition.double().numpy(force=True), mask.numpy(force=True), seeds, options)
    else:
        may = F.one_hot(_padded(kinds, longest).to(z.device), network.config["elements"]).bool()
    denoise = denoiser(network, np.ones(network.config["elements"]))
    levels = diffusion.exponential(denoise.process["coordinates"], steps)
    grids = {name: diffusion.Grid(process, levels.times) for name, process in denoise.process.items()}
    places = diffusion.Noise(seeds, (longest, 3), "places", mask=mask, device=z.device).uniform()
    x = diffusion.sample(
        diffusion.allowed_symbols(denoise, may),
        {"coordinates": (longest, 3), "kinds": (longest,)},
        {
            "coordinates": partial(diffusion.annealed_langevin, corrections=corrections, step=step),
            "kinds": partial(most_likely, corrections=corrections),
        },
        grids,
        seeds,
        {"z": z, "lattice": lattice},
        mask={"coordinates": mask, "kinds": mask},
        progress=progress,
        x={"coordinates": places @ lattice, "kinds": _padded(kinds, longest).to(z.device)},
        device=z.device,
    )
    lattices = lattice.double()
    fractional = wrap(to_fractional(x["coordinates"].double(), lattices).numpy(force=True))
    rows = zip(lattices.numpy(force=True), fractional, x["kinds"].numpy(force=True), count.tolist(), strict=True)
    return [Decoded(own, where[:n], which[:n]) for own, where, which, n in rows]


def starting_kinds(
    composition: np.ndarray, mask: np.ndarray, seeds: Sequence[int], options: Options
) -> list[np.ndarray]:
    """The kinds with which the atoms of each crystal begin, in random order, from its composition (B, symbols)."""
    noise = diffusion.Noise(seeds, mask.shape[1:], "composition", mask=mask)
    draws = [noise.uniform() for _ in range(3)]
    found = []
    for p, n, *(u, first, second) in zip(composition, mask.sum(1).tolist(), *draws, strict=True):
        if options.integer_composition:
            kinds = integer_composition(p, n, u)
            order = np.concatenate([first[:n], second[:n]])[: len(kinds)].argsort()  # rounded up, they are some more
            kinds = kinds[order][:n]
        else:
            kinds = np.searchsorted(np.cumsum(p), u[:n] * p.sum())
        found.append(kinds)
    return found


def _padded(kinds: Sequence[np.ndarray], longest: int) -> Tensor:
    table = torch.zeros(len(kinds), longest, dtype=torch.long)
    for row, of in zip(table, kinds, strict=True):
        row[: len(of)] = torch.from_numpy(of)
    return table
