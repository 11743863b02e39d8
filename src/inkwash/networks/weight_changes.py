"""What an adapter changes of one layer's weight, from the matrices that its file holds.

LoRA (Hu et al. 2021, 2106.09685), on convolutions LoCon, LoHa (FedPara's product, Hyeon-Woo et al. 2021, 2108.06098)
and LoKr (a Kronecker product) as LyCORIS writes them (Yeh et al. 2023, 2309.14859), DoRA (Liu et al. 2024,
2402.09353) on any of them, and whole differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
DORA_NORMS = ("changed", "original")


class Change(NamedTuple):
    """Of one layer.

    kind   a name in KINDS; nothing where only the bias changes
    parts  the tensors by their names: those of the kind, the magnitude of DoRA, `diff_b`
    scale  alpha / rank: what the product is multiplied by
    """

    kind: str
    parts: dict[str, Tensor]
    scale: float

    @property
    def magnitude(self) -> str | None:
        """The name of DoRA's magnitude among the parts."""
        return next((name for name in MAGNITUDES if name in self.parts), None)

    def to(self, device: torch.device | str) -> Change:
        return self._replace(parts={name: part.to(device) for name, part in self.parts.items()})

    def delta(self, name: str, value: Tensor, dora_norm: str = "changed") -> Tensor | None:
        """What it adds to the layer's "weight" or "bias", whose value is given: of its shape, in float32 on its
        device; None for nothing. ValueError, in a word or two, for parts that do not fit."""
        parts = {key: part.to(value.device, torch.float32) for key, part in self.parts.items()}
        if name == "bias":
            return fitted(parts["diff_b"], value) if "diff_b" in parts else None
        if not self.kind:
            return None
        for key in KINDS[self.kind].scaled & parts.keys():  # a small matrix, where the product is a large one
            parts[key] = self.scale * parts[key]
        change = fitted(KINDS[self.kind].product(parts), value)
        if self.magnitude is None:
            return change
        by_output = self.magnitude == PEFT_MAGNITUDE
        return decomposed(value.float(), change, parts[self.magnitude], by_output, dora_norm)


def lora(p: Parts) -> Tensor:
    """B A, of down = A (r, in, ...) and up = B (out, r, ...); with `mid` (r, r, ...) B mid A at each place."""
    return tucker(p["mid"], p["up"].flatten(1).T, p["down"].flatten(1)) if "mid" in p else matmul(p["up"], p["down"])


def loha(p: Parts) -> Tensor:
    """The product, place by place, of two products."""
    first, second = (
        tucker(p[f"hada_t{n}"], p[f"hada_w{n}_a"], p[f"hada_w{n}_b"])
        if f"hada_t{n}" in p
        else matmul(p[f"hada_w{n}_a"], p[f"hada_w{n}_b"])
        for n in (1, 2)
    )
    if first.shape != second.shape:
        raise ValueError("two products of different shapes")
    return first * second


def lokr(p: Parts) -> Tensor:
    """The Kronecker product of w1 (a, c) and w2 (b, d, ...): (a b, c d, ...); each whole, or a product."""
    first = p["lokr_w1"] if "lokr_w1" in p else matmul(p["lokr_w1_a"], p["lokr_w1_b"])
    if "lokr_w2" in p:
        second = p["lokr_w2"]
    elif "lokr_t2" in p:
        second = tucker(p["lokr_t2"], p["lokr_w2_a"], p["lokr_w2_b"])
    else:
        second = matmul(p["lokr_w2_a"], p["lokr_w2_b"])
    return torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - first.ndim)), second.contiguous())


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """(out, r, ...), (r, in, ...) -> (out, in, ...); what follows r in the first is of size 1."""
    return (a.flatten(1) @ b.flatten(1)).reshape(len(a), *b.shape[1:])


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(p, q, ...), (p, out), (q, in) -> (out, in, ...)."""
    product: Tensor = torch.einsum("pq...,po,qi->oi...", core, a, b)
    return product


class Kind(NamedTuple):
    """names: of its parts; scaled: the one of them that is; rank: those whose first size is the rank."""

    names: frozenset[str]
    product: Callable[[Parts], Tensor]
    scaled: frozenset[str] = frozenset()
    rank: tuple[str, ...] = ()


LOHA = {f"hada_{name}" for name in ("w1_a", "w1_b", "t1", "w2_a", "w2_b", "t2")}
LOKR = {f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}
KINDS = {
    "LoRA": Kind(frozenset({"down", "up", "mid"}), lora, frozenset({"up"}), ("down",)),
    "LoHa": Kind(frozenset(LOHA), loha, frozenset({"hada_w1_a"}), ("hada_w1_b",)),
    "LoKr": Kind(frozenset(LOKR), lokr, frozenset({"lokr_w1", "lokr_w1_a"}), ("lokr_w1_b", "lokr_w2_b")),
    "difference": Kind(frozenset({"diff"}), lambda p: p["diff"]),
}
PEFT_MAGNITUDE = "lora_magnitude_vector"
MAGNITUDES = ("dora_scale", PEFT_MAGNITUDE)


def kind_of(names: set[str]) -> str | None:
    """The kind with these parts; None where they are of no kind, or of two."""
    of_kind = names - {"alpha", "diff_b", *MAGNITUDES}
    if not of_kind:
        return None if names & {"alpha", *MAGNITUDES} else ""
    return next((name for name, kind in KINDS.items() if of_kind <= kind.names), None)


def rank_of(kind: str, parts: Parts) -> int | None:
    """None for what has none: whole differences, and a LoKr of two whole matrices, which LyCORIS scales by 1."""
    return next((len(parts[name]) for name in KINDS[kind].rank if name in parts), None) if kind else None


def fitted(change: Tensor, value: Tensor) -> Tensor:
    """In the shape of what it is added to: linear layers and convolutions of width 1 are written as each other, and
    wide kernels as rows of a matrix."""
    if len(change) != len(value) or change.numel() != value.numel():
        raise ValueError(f"{shape(change)} for {shape(value)}")
    return change.reshape(value.shape)


def decomposed(weight: Tensor, change: Tensor, magnitude: Tensor, by_output: bool, norm: str) -> Tensor:
    """m (W + C) / |W + C| - W, what DoRA adds to W: m has a magnitude for each output, or each input, and |.| is the
    norm of what is there of W + C. With norm = "original", as ComfyUI has it, that of an output is of W alone.

    by_output: as PEFT writes m; else its shape tells, (out, 1) or (1, in).
    """
    by_input = not by_output and magnitude.ndim > 1 and magnitude.shape[0] == 1 != len(weight)
    axis = 1 if by_input else 0
    if magnitude.numel() != weight.shape[axis]:
        raise ValueError(f"magnitude {shape(magnitude)} for {shape(weight)}")
    total = weight + change
    measured = weight if norm == "original" and not by_input else total
    others = [i for i in range(weight.ndim) if i != axis]
    length = torch.linalg.vector_norm(measured, dim=others, keepdim=True)
    changed: Tensor = magnitude.reshape(length.shape) * total / length.clamp_min(torch.finfo().tiny)
    return changed - weight


def shape(x: Tensor) -> str:
    return " x ".join(map(str, x.shape)) or "a number"
