"""What can be asked of models of masks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen

from inkwash.systems import export, train, tune
from inkwash.systems.base import File, Help, Media, Request

ModelName = Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.")]
Samples = Annotated[int | None, Ge(1), Le(1000), Help("Masks of each picture; the model's own number if left out.")]
Steps = Annotated[
    int | None, Ge(1), Le(1000), Help("Calls of the network for each mask; the model's own number if left out.")
]
Sampler = Annotated[
    Literal["ddim", "ancestral", "euler", "heun", "dpmpp_2m", "unipc", "tuned"] | None,
    Help("How a step is drawn; the model's own if left out."),
]
Seed = Annotated[int, Ge(0), Le(2**64 - 1), Help("The same seed draws the same masks.")]
Folder = Annotated[
    File | tuple[File, ...],
    Media("folder"),
    Help("Pictures and masks: images/ and masks/, or NAME_mask.png beside NAME.png, or a JSON of COCO or labelme."),
]


@dataclass(frozen=True, kw_only=True)
class Segment(Request):
    """Find objects in pictures: several masks of each, their mean as a probability, and how sure it is.

    inkwash segment pictures/ -o out/ writes for each picture the mask with a number for each object, the probability,
    the uncertainty, an overlay, all samples and a table of the objects; and one table of all pictures.
    """

    pictures: Annotated[
        File | tuple[File, ...],
        Media("folder"),
        Help("A picture, a TIFF stack, or a folder of them.", argument=True),
    ]
    model: ModelName = "nuclei"
    samples: Samples = None
    steps: Steps = None
    sampler: Sampler = None
    flips: Annotated[bool, Help("Of a plain model: the mean over mirror images.")] = False
    seed: Seed = 0
    coco: Annotated[bool, Help("Write the objects of all pictures as COCO's JSON, too, with scores.")] = False
    geojson: Annotated[bool, Help("Write their outlines as GeoJSON, too, as QuPath reads it.")] = False
    rois: Annotated[bool, Help("Write their outlines as a zip of ImageJ's ROIs, too.")] = False

    def basename(self) -> str:
        """Nothing: files are called after their pictures."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Train(train.Train):
    """Train a model on pictures and masks of your own, or by a recipe; or go on with a run that was stopped.

    It is told what kind of masks was found. A tenth of the pictures is for choices, a fifth stays out for `evaluate`.
    """

    data: Annotated[
        File | tuple[File, ...] | None,
        Media("folder"),
        Help(
            "Pictures and masks: images/ and masks/, or NAME_mask.png beside NAME.png, or a JSON of COCO or labelme."
        ),
    ] = None
    classes: Annotated[
        tuple[str, ...] | None, MaxLen(100),
        Help("A class; again for more, by the order of the masks' values. Where they are left out, masks of many "
             "values are objects, each with a number of its own."),
    ] = None  # fmt: skip
    group: Annotated[
        str | None, MaxLen(200),
        Help("Pictures of one slide or patient stay on one side of the split: a pattern whose first bracket is its "
             "name in a file's name, as '(.*)_'; or a column of index.csv or split.csv."),
    ] = None  # fmt: skip
    engine: Annotated[
        Literal["segdiff", "plain"] | None,
        Help("segdiff; or plain: the same network without diffusion, by cross-entropy and Dice."),
    ] = None
    members: Annotated[
        int | None, Ge(1), Le(20), Help("Networks of the engine plain, trained beside each other.")
    ] = None
    scale: Annotated[
        float | None,
        Ge(0.01),
        Le(4),
        Help("Size at which pictures are seen, 0.5: halved; by their objects if left out."),
    ] = None

    KEYS = train.Train.KEYS | {name: name for name in ("classes", "group", "engine", "members", "scale")}


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure a model on pictures that it never saw: pixels, edges, objects, counts, and whether its probabilities
    mean what they say; beside Otsu's threshold, and other models in the same run."""

    model: Annotated[str, Help("A shipped model or a folder.", argument=True)] = "nuclei"
    data: Folder
    classes: Annotated[
        tuple[str, ...], MaxLen(100), Help("As in training: a class; again for more, by the order of the values.")
    ] = ()
    beside: Annotated[tuple[str, ...], Help("Another model to measure in the same run; again for more.")] = ()
    samples: Samples = None
    steps: Steps = None
    sampler: Sampler = None
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class Tune(tune.Tune):
    """Learn how to draw masks in few steps; then `inkwash segment --sampler tuned --steps 5`."""

    model: Annotated[str, Help("A shipped model or a folder.", argument=True)] = "nuclei"
    data: Annotated[File | tuple[File, ...], Media("folder"), Help("Pictures of the kind that it was trained on.")]


@dataclass(frozen=True, kw_only=True)
class Export(export.Export):
    """Write a model's networks as ONNX graphs beside its weights, to find masks without torch."""

    model: Annotated[str, Help("A shipped model or a folder.", argument=True)] = "nuclei"
