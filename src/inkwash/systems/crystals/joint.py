"""The joint diffusion of lattice, coordinates and kinds by one network.

Every field has noise of its own kind: the logarithm of the metric is Gaussian, coordinates wrap around the cell, and
kinds give way to a mask. All stand at one time t. DiffCSP (Jiao et al. 2023, 2309.04475), where kinds are one-hot
vectors and the lattice is a matrix.

Where the kinds are known they are no field of the state, and the network, which has seen such crystals in training,
is given them: what it draws then is of that formula exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from inkwash import diffusion
from inkwash.diffusion.denoiser import Denoise
from inkwash.networks.layers import sinusoidal_embedding
from inkwash.systems.crystals.lattice import from_log_metric, log_metric
from inkwash.systems.crystals.networks import PeriodicNetwork
from inkwash.training.fit import Loss

Batch = dict[str, Tensor]

TIME = 64  # numbers that a time becomes
KNOWN_KINDS = 0.25  # of the training crystals come with their kinds
UNCONDITIONAL = 0.2  # come without any property; of the others each property is left out as often
KINDS_SHIFT = 0.1
STEPS = 150  # fewer leave more atoms of carbon too close
FIELDS = ("lattice", "coordinates", "kinds")
WEIGHTS = {"lattice": 1.0, "coordinates": 1.0, "kinds": 0.5}


class JointNetwork(nn.Module):
    """(lattice (B, 6), coordinates (B, N, 3), kinds (B, N)) at a time -> flow of the lattice, the noise of the
    coordinates, logits of the kinds.

    elements: how many there are; the mask is one more. properties: numbers that a crystal can be conditioned on,
    (B, P) standardised, NaN where one is not said. The lattice is the logarithm of its metric, standardised with two
    buffers of the data, `set_scale`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, elements: int, properties: int, width: int, layers: int, moments: int = 16) -> None:
        super().__init__()
        self.config = {
            "elements": elements,
            "properties": properties,
            "width": width,
            "layers": layers,
            "moments": moments,
        }
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("std", torch.ones(6))
        self.kinds = nn.Embedding(elements + 1, width)
        self.body = PeriodicNetwork(width, layers, TIME + 6 + 2 * properties, moments)
        self.to_kinds = nn.Linear(width, elements + 1)
        self.to_lattice = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 6))

    def forward(
        self,
        x: dict[str, Tensor],
        time: dict[str, Tensor],
        mask: dict[str, Any],
        properties: Tensor,
        kinds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`kinds`: those of a formula, where they are no field of x."""
        real = mask["coordinates"]
        kinds = x["kinds"] if kinds is None else kinds
        known = ~properties.isnan()
        numbers = [x["lattice"], properties.nan_to_num(0.0), known.to(properties.dtype)]
        context = torch.cat([sinusoidal_embedding(time["lattice"], TIME).to(x["lattice"].dtype), *numbers], -1)
        lattice = self.decode(x["lattice"], real.sum(1))
        h, vectors = self.body(self.kinds(kinds), x["coordinates"], lattice, real, context)
        count = real.sum(1).clamp(min=1)[:, None]
        drift = (vectors.sum(1) / count)[:, None]  # where the crystal as a whole lies, nobody can see
        answers = {
            "lattice": self.to_lattice(h.sum(1) / count),
            "coordinates": (vectors - drift) * real[..., None],
        }
        return answers | ({"kinds": self.to_kinds(h)} if "kinds" in x else {})

    def set_scale(self, lattice: Tensor, count: Tensor) -> None:
        """Standardises the lattices of these crystals; a number that is one in all of them keeps a small spread."""
        raw = self._per_atom(log_metric(lattice.double()), count, -1)
        self.mean.copy_(raw.mean(0))
        self.std.copy_(raw.std(0, correction=0).clamp(min=0.02))

    def encode(self, lattice: Tensor, count: Tensor) -> Tensor:
        """Lattices (B, 3, 3) of crystals of so many atoms as six standardised numbers."""
        numbers: Tensor = (self._per_atom(log_metric(lattice), count, -1) - self.mean) / self.std
        return numbers

    def decode(self, numbers: Tensor, count: Tensor) -> Tensor:
        """The inverse of `encode`, for any numbers; beyond six standard deviations they count as six."""
        return from_log_metric(self._per_atom(numbers.clamp(-6, 6) * self.std + self.mean, count, 1))

    @staticmethod
    def _per_atom(numbers: Tensor, count: Tensor, sign: int) -> Tensor:
        """With the volume of an atom for that of the cell, or (sign 1) back: 2/3 log n in aa, bb and cc."""
        shift = (sign * 2 / 3 * count.clamp(min=1).log()[:, None]).to(numbers.dtype).expand(-1, 3)
        return numbers + torch.cat([shift, torch.zeros_like(shift)], -1)


def processes(network: JointNetwork) -> dict[str, diffusion.Process]:
    """What noise does to each field.

    Going back in time, first what there is and the cell that holds it become clear, and then where the atoms lie: at
    a sigma of half a cell coordinates are uniform to 1.5 %, and they are decided between 0.2 and 0.05, where a cell
    that is still noise says nothing about distances.
    """
    return {
        "lattice": diffusion.Gaussian(diffusion.rectified_flow(0.2)),
        "coordinates": diffusion.Torus(diffusion.variance_exploding(0.008, 0.5)),
        "kinds": diffusion.Categorical.masked(diffusion.rectified_flow(KINDS_SHIFT), network.config["elements"]),
    }


def denoiser(network: JointNetwork, fields: Sequence[str] = FIELDS) -> diffusion.Denoiser:
    """The network with the processes of these fields of its state."""
    laws = processes(network)
    parametrization = {"lattice": "flow", "coordinates": "eps", "kinds": "x0"}
    return diffusion.Denoiser(network, {n: laws[n] for n in fields}, {n: parametrization[n] for n in fields})


def loss(network: JointNetwork) -> Loss:
    """What the network learns from batches {"lattice": (B, 3, 3), "coordinates": (B, N, 3), "kinds": (B, N), "mask":
    (B, N), "properties": (B, P)}."""
    return partial(joint_loss, network)


def joint_loss(network: JointNetwork, batch: Batch, generator: torch.Generator) -> Tensor:
    """The squared errors of lattice and coordinates and MDLM's bound of the kinds, at one time for all fields; in
    some crystals the kinds are known (time 0), and properties are left out by chance."""
    mask, count = batch["mask"], len(batch["mask"])
    times = diffusion.uniform_times(count, generator)
    known = torch.rand(count, generator=generator, device=mask.device) < KNOWN_KINDS
    state = {
        "lattice": network.encode(batch["lattice"], batch["mask"].sum(1)),
        "coordinates": batch["coordinates"],
        "kinds": batch["kinds"],
    }
    weights: dict[str, Any] = {name: lambda t, form, w=w: w for name, w in WEIGHTS.items()}
    # MDLM's -alpha' / (1 - alpha) of this schedule; at time 0 nothing is masked
    weights["kinds"] = lambda t, form: WEIGHTS["kinds"] / (t.t * (1 + (KINDS_SHIFT - 1) * t.t)).clamp(min=0.05)
    return denoiser(network).loss(
        state,
        {"properties": dropped(batch["properties"], generator)},
        objective={"lattice": diffusion.square, "coordinates": diffusion.square, "kinds": diffusion.cross_entropy},
        weight=weights,
        times={name: lambda *_, t=times: t for name in state} | {"kinds": lambda *_: times.masked_fill(known, 0.0)},
        mask={"lattice": None, "coordinates": mask, "kinds": mask},
        generator=generator,
    )


def dropped(properties: Tensor, generator: torch.Generator) -> Tensor:
    """Properties (B, P) as they are told: NaN for those left out."""
    uniform = torch.rand(len(properties), properties.shape[1] + 1, generator=generator, device=properties.device)
    out = uniform < UNCONDITIONAL
    return properties.masked_fill(out[:, :1] | out[:, 1:], torch.nan)


@torch.no_grad()
def sample(
    network: JointNetwork,
    seeds: Sequence[int],
    mask: Tensor,
    properties: Tensor,
    *,
    kinds: Tensor | None = None,
    allowed: Tensor | None = None,
    guidance: float = 1.0,
    steps: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> Batch:
    """Crystals of these seeds, {"lattice": (B, 3, 3), "coordinates": (B, N, 3), "kinds": (B, N)}.

    mask (B, N): atoms. properties (B, P): what they should have, NaN where nothing is asked; followed `guidance`
    times as closely as the network would. kinds (B, N): of all atoms, where they are known. allowed (elements,): the
    elements that may be drawn.
    """
    atoms = mask.shape[1]
    shape: dict[str, tuple[int, ...]] = {"lattice": (6,), "coordinates": (atoms, 3), "kinds": (atoms,)}
    condition = {"properties": properties}
    if kinds is not None:
        del shape["kinds"]
        condition["kinds"] = kinds
    denoise: Denoise = denoiser(network, [*shape])
    if guidance != 1:
        free = condition | {"properties": torch.full_like(properties, torch.nan)}
        denoise = diffusion.classifier_free(denoise, guidance, free)
    if allowed is not None and kinds is None:
        denoise = diffusion.allowed_symbols(denoise, torch.cat([allowed, allowed.new_zeros(1)]))  # not the mask
    state = diffusion.sample(
        denoise,
        shape,
        diffusion.ancestral,
        {name: diffusion.uniform(law, steps) for name, law in processes(network).items() if name in shape},
        seeds,
        condition,
        mask={name: None if name == "lattice" else mask for name in shape},
        device=mask.device,
        progress=progress,
    )
    lattice = network.decode(state["lattice"].double(), mask.sum(1))
    found = state["kinds"] if kinds is None else kinds
    return {"lattice": lattice, "coordinates": state["coordinates"], "kinds": found}
