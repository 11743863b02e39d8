"""What can be asked of cascades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le, MaxLen

from inkwash.errors import UserError
from inkwash.systems import train
from inkwash.systems.base import File, Help, Media, Request
from inkwash.systems.restoration.request import Beside, Measured, ModelName

Steps = Annotated[
    int | None, Ge(1), Le(1000), Help("Calls of each stage's network; the model's own number if left out.")
]
NoiseLevel = Annotated[
    float | None, Ge(0), Le(0.2),
    Help("How much noise a stage's picture gets before the next, 0 to 0.2: more lets that correct more; the model's "
         "own if left out."),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Make pictures of a kind: a small one from noise, made larger in stages.

    inkwash cascade generate --kind WBC --n 8 -o out/
    """

    kind: Annotated[
        str | None, MaxLen(200), Help("What they show, one of the model's kinds; all of them in turn if left out.")
    ] = None
    model: ModelName = "cells"
    n: Annotated[int, Ge(1), Le(1000), Help("How many pictures.")] = 1
    seed: Annotated[
        int | None, Ge(0), Le(2**64 - 1), Help("The same seed makes the same picture; random if left out.")
    ] = None
    steps: Steps = None
    noise_level: NoiseLevel = None
    truncated: Annotated[
        bool, Help("Stop each stage where that noise is left, in place of adding it to the finished picture.")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed is not None and self.seed + self.n > 2**64:
            raise UserError(f"seed = {self.seed}: choose a whole number from 0 to 2^64 - {self.n}")

    def basename(self) -> str:
        return "".join(sign if sign.isalnum() else "-" for sign in self.kind or "kinds")[:60]


@dataclass(frozen=True, kw_only=True)
class Train(train.Train):
    """Train a cascade on pictures with boxes of your own, or by a recipe; or go on with a run that was stopped.

    What lies in the boxes is cut out: it learns to draw each kind. A tenth of the pictures is for choices, a fifth,
    or the list's, stays out for `evaluate`.
    """

    data: Annotated[
        File | tuple[File, ...] | None, Media("folder"),
        Help("A folder of pictures with boxes, in a format that `inkwash detect` reads."),
    ] = None  # fmt: skip
    group: Annotated[
        str | None, MaxLen(200),
        Help("Pictures of one slide or patient stay on one side of the split: a pattern whose first bracket is its "
             "name in a file's name, as '(.*)_'; or a column of index.csv or split.csv."),
    ] = None  # fmt: skip
    drop_bad: Annotated[bool, Help("Leave out bad boxes, which are named, rather than stop.")] = False

    KEYS = train.Train.KEYS | {name: name for name in ("group", "drop_bad")}


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure a cascade: how often a classifier, trained on the pictures that it learned from, finds the kind that
    was asked for, how near pictures are to real ones that it never saw, and how they differ; at several levels of
    noise between stages, of real and of generated small pictures."""

    model: Measured = "cells"
    data: Annotated[File | tuple[File, ...], Media("folder"), Help("The pictures with boxes that it was trained on.")]
    beside: Beside = ()
    per_kind: Annotated[int, Ge(2), Le(10_000), Help("Pictures of each kind.")] = 50
    steps: Steps = None
    seed: Annotated[int, Ge(0), Le(2**32 - 1), Help("Of the pictures and of the classifier.")] = 0
