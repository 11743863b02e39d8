"""CDVAE (Xie et al. 2021, 2110.06197): z says how many atoms, which cell and which elements, Langevin dynamics where.

The parts that are easily skipped are switches, see `Options`, so that a row without each can be measured. Two things
are ours: the decoder is told the noise level of the coordinates, and levels are drawn from the whole range, not from
fifty of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inkwash import diffusion
from inkwash.diffusion.arrays import constant
from inkwash.diffusion.options import COUNT, POSITIVE
from inkwash.systems.crystals.latent import matched, properties_error
from inkwash.systems.crystals.vae_networks import CrystalVAE, Options, to_fractional
from inkwash.training.fit import Loss

Batch = dict[str, Any]
IMAGES = constant([*product((-1, 0, 1), repeat=3)])
LEVELS, CORRECTIONS, STEP = 50, 10, 0.2  # of Langevin dynamics; the paper: 50, 100, 1.0


@diffusion.schedule(sigma_min=POSITIVE, sigma_max=POSITIVE)
def type_levels(sigma_min: float = 0.01, sigma_max: float = 5.0) -> diffusion.Formulas:
    """alpha = 1 / (1 + sigma_A), sigma = 1 - alpha, sigma_A = sigma_min (sigma_max / sigma_min)^t: a kind is drawn
    from onehot + sigma_A composition, normalised."""

    def level(t: Any) -> Any:
        return sigma_min * (sigma_max / sigma_min) ** t

    return diffusion.Formulas(lambda t: 1 / (1 + level(t)), lambda t: level(t) / (1 + level(t)), sigma_min, sigma_max)


def denoiser(network: Callable[..., Any], composition: Any) -> diffusion.Denoiser:
    """Of Cartesian coordinates in angstrom, sigma from 0.01 to 10, and kinds, noised towards `composition`,
    (B, symbols)."""
    processes = {
        "coordinates": diffusion.Gaussian(diffusion.variance_exploding(0.01, 10.0)),
        "kinds": diffusion.Categorical(type_levels(), composition),
    }
    return diffusion.Denoiser(network, processes)


def nearest_image(difference: Tensor, lattice: Tensor) -> Tensor:
    """The shortest of the vectors that lead to an image, Cartesian (B, N, 3), of lattice (B, 3, 3); 27 cells are
    searched, which is enough in a Niggli-reduced one."""
    fractional = to_fractional(difference, lattice)
    images = (fractional - fractional.round())[..., None, :] + IMAGES(torch, difference.dtype, difference.device)
    vectors = images @ lattice[:, None]
    best = vectors.square().sum(-1).argmin(-1)
    shortest: Tensor = vectors.take_along_dim(best[..., None, None], -2).squeeze(-2)
    return shortest


def loss(network: CrystalVAE) -> Loss:
    """What the network learns from batches {"lattice": (B, 3, 3), "coordinates": (B, N, 3), "kinds": (B, N), "mask":
    (B, N), "properties": (B, P), standardised, NaN where one is not known}, and "done", which share of the training
    lies behind, 1 if it is not said."""
    return partial(vae_loss, network)


def vae_loss(network: CrystalVAE, batch: Batch, generator: torch.Generator) -> Tensor:
    """CDVAE's loss, a mean over crystals: atoms + 10 lattice + composition + 10 coordinates + kinds + kl KL +
    properties. Lattice and composition are not learned through the noise that they shape."""
    options, kinds, lattice, mask = network.options, batch["kinds"], batch["lattice"], batch["mask"]
    count = mask.sum(1)
    mean, log_variance = network.encode(kinds, batch["coordinates"], lattice, mask)
    z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
    kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2

    numbers, composition = network.to_lattice(z), network.to_composition(z)
    of_atoms = F.cross_entropy(network.to_atoms(z), count)
    of_lattice = F.mse_loss(numbers, network.lattice_numbers(lattice, count))
    of_kinds = -composition.log_softmax(-1).gather(1, kinds) * mask
    of_composition = (of_kinds.sum(1) / count).mean()

    if batch.get("done", 1.0) >= 0.5 or not options.teacher_forcing:
        lattice = network.lattice(numbers.detach(), count)
    limit = (composition.detach() * options.toward_composition).softmax(-1)
    of_noise = denoiser(network, limit).loss(
        {"coordinates": batch["coordinates"] @ lattice, "kinds": kinds},
        {"z": z, "lattice": lattice},
        objective={"coordinates": coordinates_error(lattice, options), "kinds": diffusion.cross_entropy},
        weight={"coordinates": lambda t, form: 10.0, "kinds": lambda t, form: t.alpha / t.sigma},
        times={"coordinates": diffusion.uniform_times, "kinds": diffusion.uniform_times},
        mask=mask,
        generator=generator,
    )
    of_properties = properties_error(network.properties(z), batch["properties"]).mean()
    total: Tensor = of_atoms + 10 * of_lattice + of_composition + of_noise + options.kl * kl + of_properties
    return total


def coordinates_error(lattice: Tensor, options: Options) -> diffusion.losses.Objective:
    """sigma^2 / 2 |score - vector / sigma^2|^2 at each atom, (B, N): the vector leads from the noisy atom to the
    nearest image of the clean one, in this lattice."""

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


@torch.no_grad()
def sample(
    network: CrystalVAE,
    seeds: Sequence[int],
    mask: Tensor,
    properties: Tensor,
    *,
    kinds: Tensor | None = None,
    allowed: Tensor | None = None,
    guidance: float = 1.0,
    steps: int = LEVELS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """Crystals of these seeds, {"lattice": (B, 3, 3), "coordinates": (B, N, 3), "kinds": (B, N)}; arguments as of
    `joint.sample`. z is drawn from N(0, 1), then moved by `latent.matched` to where it says what is asked."""
    z = prior(network, seeds, mask.device)
    z = matched(network, z, mask, properties, kinds, allowed, guidance)
    return decode(network, z, seeds, mask, kinds=kinds, allowed=allowed, steps=steps, progress=progress)


def prior(network: CrystalVAE, seeds: Sequence[int], device: Any = "cpu") -> Tensor:
    """z of these seeds, (B, latent)."""
    z: Tensor = diffusion.Noise(seeds, (network.options.latent,), "z", device=device).normal()
    return z


def likeliest_mask(network: CrystalVAE, z: Tensor) -> Tensor:
    """The atoms that there are, (B, N), by the number that z says is likeliest."""
    count: Tensor = network.to_atoms(z)[:, 1:].argmax(-1) + 1
    return torch.arange(int(count.max()), device=z.device) < count[:, None]


@torch.no_grad()
def decode(
    network: CrystalVAE,
    z: Tensor,
    seeds: Sequence[int],
    mask: Tensor,
    *,
    kinds: Tensor | None = None,
    allowed: Tensor | None = None,
    steps: int = LEVELS,
    corrections: int = CORRECTIONS,
    step: float = STEP,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """The crystals of z (B, latent), as in `sample`, by annealed Langevin dynamics from uniform places.

    steps: noise levels, geometric from 10 to 0.01 angstrom; at each `corrections` steps of step sigma^2 (the paper:
    100 of 1.0), the kinds being the likeliest at every call.
    """
    lattice = network.lattice(network.to_lattice(z), mask.sum(1))
    may = torch.arange(network.symbols, device=z.device) < network.config["elements"]
    if allowed is not None:
        may = torch.cat([allowed, allowed.new_zeros(network.symbols - len(allowed))])
    if kinds is None:
        composition = network.to_composition(z).masked_fill(~may, -torch.inf).softmax(-1)
        start = starting_kinds(composition, mask, seeds, network.options.integer_composition)
    else:
        start, may = kinds, F.one_hot(kinds, network.symbols).bool()
    denoise = denoiser(network, (1 / network.symbols,) * network.symbols)
    times = diffusion.exponential(denoise.process["coordinates"], steps).times
    places = diffusion.Noise(seeds, (*mask.shape[1:], 3), "places", mask=mask, device=z.device).uniform()
    shape = {"coordinates": (*mask.shape[1:], 3), "kinds": (*mask.shape[1:],)}
    state = diffusion.sample(
        diffusion.allowed_symbols(denoise, may),
        shape,
        {
            "coordinates": partial(diffusion.annealed_langevin, corrections=corrections, step=step),
            "kinds": partial(most_likely, corrections=corrections),
        },
        {name: diffusion.Grid(process, times) for name, process in denoise.process.items()},
        seeds,
        {"z": z, "lattice": lattice},
        mask=dict.fromkeys(shape, mask),
        x={"coordinates": places @ lattice, "kinds": start},
        device=z.device,
        progress=progress,
    )
    lattice = lattice.double()
    places = to_fractional(state["coordinates"].double(), lattice) % 1
    return {"lattice": lattice, "coordinates": places, "kinds": state["kinds"]}


def starting_kinds(composition: Tensor, mask: Tensor, seeds: Sequence[int], whole: bool) -> Tensor:
    """The kinds with which the atoms of each crystal begin, (B, N), in random order, from its composition
    (B, symbols); `whole`: by `integer_composition`."""
    noise = diffusion.Noise(seeds, mask.shape[1:], "composition", mask=mask)
    draws = [noise.uniform() for _ in range(3)]
    found = np.zeros(mask.shape, np.int64)
    shares, counts = composition.double().numpy(force=True), mask.sum(1).tolist()
    for row, p, n, u, first, second in zip(found, shares, counts, *draws, strict=True):
        if whole:
            kinds = integer_composition(p, n, u)
            order = np.concatenate([first[:n], second[:n]])[: len(kinds)].argsort()  # rounded up they may be more
            row[:n] = kinds[order][:n]
        else:
            row[:n] = np.searchsorted(np.cumsum(p), u[:n] * p.sum())
    return torch.from_numpy(found).to(mask.device)
