"""A toy system: clouds of points in the plane, as somebody would add one. Nothing of inkwash knows it."""

from points import request

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.train import TRAIN, Train
from inkwash.systems.tune import TUNE, Tune

SYSTEM = System(
    name="points",
    help="Clouds of points in the plane.",
    verbs={
        "scatter": Verb(request.Scatter, "points.verbs:scatter", "points.verbs:limits", endings=(".png",)),
        "train": Verb(Train, "points.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, "points.verbs:evaluate", maps=True, **EVALUATE),
        "tune": Verb(Tune, "inkwash.systems.tune:tune", **TUNE),
    },
    load="points.model:Points.load",
    command="scatter",
    modules={"torch": "", "no_such_module": "scatter in space"},
    tasks=("points",),
)
