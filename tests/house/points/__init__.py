"""A toy system: clouds of points in the plane, as somebody would add one. Nothing of inkwash knows it."""

from inkwash.systems.base import System, Verb
from inkwash.systems.train import TRAIN, Train

from . import request

SYSTEM = System(
    name="points",
    help="Clouds of points in the plane.",
    verbs={
        "scatter": Verb(request.Scatter, "points.verbs:scatter", "points.verbs:limits", endings=(".png",)),
        "train": Verb(Train, "points.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, "points.verbs:evaluate", lasting=True, out="out/points"),
    },
    load="points.model:load",
    command="scatter",
    tasks=("points",),
    makes="points.verbs:makes",
)
