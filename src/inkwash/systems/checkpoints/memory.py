"""What of a checkpoint will lie in memory while it draws, told by its header and the size of the picture before
anything is loaded. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

from inkwash.errors import UserError
from inkwash.systems.checkpoints.facts import ENCODERS, FILES, header_of, read_facts
from inkwash.systems.checkpoints.options import PIXELS
from inkwash.weights.files import weight_files
from inkwash.weights.headers import Tensor
from inkwash.weights.scan import memory
from inkwash.weights.single_file import FAMILIES, find_family

# What of the weights is in memory: all, those of one network at a time (the text encoders count as one), those of one
# layer; and up to which share of the machine's memory that is chosen.
OFFLOADS = {"none": 0.5, "network": 0.75, "layer": 0.9}
STAGES = {"text encoder": ENCODERS, "U-Net": ("unet",), "VAE": ("vae",)}
# Measured by benchmarks/checkpoints.py: bytes of the program, with what it keeps for later, and of a text encoder at
# work; what a network computes, in float32 numbers of its first width at each place of a state (with attention there,
# without) or pixel.
PROGRAM, ENCODING, UNET, VAE = 0.7e9, 0.1e9, (50, 25), 9
SCALES = (".weight_scale", ".scale_weight")
ATTENTION = ("down_blocks.0.attentions.0.norm.weight", "input_blocks.1.1.norm.weight")
WHOLE, TILE = 128 * 128, 96  # places of a latent up to which a picture is decoded as a whole; a side of a tile, above


class Stage(NamedTuple):
    """weights, working: bytes of the weights that its networks have in memory, and of what they compute."""

    name: str
    weights: float
    working: float


class MemoryPlan(NamedTuple):
    """family: a name for people; offload: a key of `OFFLOADS`; peak, memory: bytes, of the machine at last."""

    family: str
    width: int
    height: int
    offload: str
    stages: tuple[Stage, ...]
    peak: float
    memory: float

    @property
    def text(self) -> str:
        """In one line: what lies in memory, one after the other."""
        parts = [f"{s.name} {gigabytes(s.weights)} + {gigabytes(s.working)} working" for s in self.stages]
        joined = (", " if self.offload == "none" else ", then ").join(parts)
        how = {"none": "all in memory: ", "network": "", "layer": "a layer at a time: "}[self.offload]
        size = f"{self.family}, {self.width} x {self.height}"
        return f"{size}: {how}{joined}; peak {gigabytes(self.peak)} of {gigabytes(self.memory)} GB"


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f}"


Networks = Mapping[str, Mapping[str, Tensor]]


def plan(
    path: str | Path,
    width: int | None = None,
    height: int | None = None,
    batch: int = 1,
    precision: str = "float32",
    available: int | None = None,
    taken: float = 0.0,
) -> MemoryPlan:
    """Of a checkpoint, a single file or a diffusers folder, that draws pictures of so many pixels, those of its
    training if left out, `batch` of them together; with the first of `OFFLOADS` that fits.

    available: bytes of memory, those of this machine (or of the part that this process may take) if left out; taken:
    how many of them another checkpoint takes.
    UserError where nothing fits, with what would.
    """
    facts, networks = read_facts(Path(path)), read_networks(Path(path))
    room, size = max(0.0, float(available or memory()) - taken), (width or facts.side, height or facts.side)
    ways = {"none": OFFLOADS["layer"]} if is_quantised(networks) else OFFLOADS  # dequantised as a whole
    plans = [of_size(facts.family, networks, *size, batch, precision, offload, room) for offload in ways]
    if found := next((one for one in plans if one.peak <= ways[one.offload] * room), None):
        return found
    sizes = [[PIXELS * (side * share // 64 // PIXELS) for side in size] for share in range(63, 0, -1)]
    smaller = (
        of_size(facts.family, networks, w, h, batch, precision, [*ways][-1], room) for w, h in sizes if w and h
    )
    fits = next((one for one in smaller if one.peak <= OFFLOADS["layer"] * room), None)
    needs = plans[-1].peak / OFFLOADS["layer"]
    raise UserError(
        f"{path}: {size[0]} x {size[1]} pixels need {gigabytes(needs)} GB of memory, and here are {gigabytes(room)}: "
        + (f"choose {fits.width} x {fits.height} or less" if fits else "choose a machine that has as much")
    )


def is_quantised(networks: Networks) -> bool:
    """Whether some weights have scales (`weights.quantised`)."""
    return any(name.endswith(SCALES) for tensors in networks.values() for name in tensors)


def of_size(
    family: str, networks: Networks, width: int, height: int, batch: int, precision: str, offload: str, room: float
) -> MemoryPlan:
    """The plan for this size and this way, whether or not it fits."""
    stages = []
    for name, members in STAGES.items():
        own = {member: networks[member] for member in members if member in networks}
        if own:
            sizes = [bytes_of(tensors, precision if key == "unet" else "float32") for key, tensors in own.items()]
            weights = max(map(max, sizes)) * 1.5 if offload == "layer" else sum(map(sum, sizes))  # and what is mapped
            stages.append(Stage(name, weights, working(name, own, width, height, batch)))
    if offload == "none":
        peak = sum(stage.weights for stage in stages) + max(stage.working for stage in stages)
    else:
        peak = max(stage.weights + stage.working for stage in stages)
    return MemoryPlan(family, width, height, offload, tuple(stages), PROGRAM + peak, room)


def working(name: str, networks: Networks, width: int, height: int, batch: int) -> float:
    """Bytes of the activations of a stage."""
    places = (width // PIXELS) * (height // PIXELS)
    if name == "U-Net":  # of each picture with its words and without them
        share = UNET[0] if first(networks["unet"], ATTENTION, 0) else UNET[1]
        return share * 4 * 2 * batch * places * first(networks["unet"], ("conv_in.weight", "blocks.0.0.weight"), 0)
    if name == "VAE":
        tile = places if places <= WHOLE else TILE**2
        decoded = 40 * width * height  # in float32 and as it is saved
        return decoded + VAE * 4 * tile * PIXELS**2 * first(networks["vae"], ("decoder.conv_out.weight",), 1)
    return ENCODING


def bytes_of(tensors: Mapping[str, Tensor], precision: str) -> list[int]:
    """Of each tensor as it lies in memory."""
    return [prod(one.shape) * (2 if precision != "float32" and len(one.shape) > 1 else 4) for one in tensors.values()]


def first(tensors: Mapping[str, Tensor], names: tuple[str, ...], dim: int) -> int:
    """The size of the tensor that has one of these names."""
    return next((one.shape[dim] for key, one in tensors.items() if key.endswith(names)), 0)


def read_networks(path: Path) -> Networks:
    """What the headers say of each network, by the names of their folders."""
    if path.is_dir():
        places = {name: path / name / f"{file}.safetensors" for name, file in FILES.items() if (path / name).is_dir()}
        return {name: read(weight_files(place)) for name, place in places.items()}
    tensors = read([path])
    own = {
        name: {key: one for key, one in tensors.items() if key.startswith(component.prefix)}
        for name, component in FAMILIES[find_family(tensors) or "sd1"].items()
    }
    return {name: found for name, found in own.items() if found}


def read(files: list[Path]) -> dict[str, Tensor]:
    return {name: tensor for file in files for name, tensor in header_of(file).tensors.items()}
