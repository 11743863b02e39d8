"""What can be asked of models of boxes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen

from inkwash.systems import train
from inkwash.systems.base import File, Help, Media, Request

MOST_BOXES = 2000
Boxes = Annotated[
    int | None, Ge(1), Le(MOST_BOXES), Help("Boxes that the noise begins with; the model's own number if left out.")
]
Steps = Annotated[int | None, Ge(1), Le(1000), Help("Calls of the network; the model's own number if left out.")]
Samples = Annotated[
    int | None, Ge(1), Le(1000), Help("How often the noise is drawn anew: of 2 or more, each box has its spread.")
]
Seed = Annotated[int, Ge(0), Le(2**64 - 1), Help("The same seed finds the same boxes.")]
DropBad = Annotated[bool, Help("Leave out boxes that lie outside of their picture, are inverted or have no area.")]
Folder = Annotated[
    File | tuple[File, ...],
    Media("folder"),
    Help("Pictures and boxes: COCO's JSON, YOLO's text with data.yaml, Pascal VOC's XML, or boxes.csv."),
]


@dataclass(frozen=True, kw_only=True)
class Detect(Request):
    """Find objects in pictures: a box, a class and a probability of each.

    inkwash detect pictures/ -o out/ writes for each picture an overlay, YOLO's text and Pascal VOC's XML; for all of
    them COCO's results and a table.
    """

    pictures: Annotated[
        File | tuple[File, ...],
        Media("folder"),
        Help("A picture, a TIFF stack, or a folder of them.", argument=True),
    ]
    model: Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.")] = "bccd"
    boxes: Boxes = None
    steps: Steps = None
    samples: Samples = None
    threshold: Annotated[float, Ge(0), Le(1), Help("Boxes less probable than this are left out.")] = 0.5
    seed: Seed = 0

    def basename(self) -> str:
        """Nothing: files are called after their pictures."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Train(train.Train):
    """Train a model on pictures and boxes of your own, or by a recipe; or go on with a run that was stopped.

    A tenth of the pictures is for choices, a fifth stays out for `evaluate`, unless the data have a split.
    """

    data: Annotated[
        File | tuple[File, ...] | None,
        Media("folder"),
        Help("Pictures and boxes: COCO's JSON, YOLO's text with data.yaml, Pascal VOC's XML, or boxes.csv."),
    ] = None
    group: Annotated[
        str | None,
        MaxLen(200),
        Help(
            "Pictures of one slide or patient stay on one side of the split: a pattern whose first bracket is its "
            "name in a file's name, as '(.*)_'; or a column of index.csv or split.csv."
        ),
    ] = None
    engine: Annotated[
        Literal["diffusiondet", "fcos"] | None,
        Help("diffusiondet; or fcos: the same backbone with a head without diffusion."),
    ] = None
    size: Annotated[
        int | None, Ge(32), Le(4096), Help("The longer side of a picture as the network sees it, in pixels.")
    ] = None
    drop_bad: DropBad = False

    KEYS = train.Train.KEYS | {name: name for name in ("group", "engine", "size", "drop_bad")}


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure a model on pictures that it never saw: COCO's average precision and recall, and whether its
    probabilities mean what they say; beside the simplest boxes there are, and other models in the same run."""

    model: Annotated[str, Help("A shipped model or a folder.", argument=True)] = "bccd"
    data: Folder
    beside: Annotated[tuple[str, ...], Help("Another model to measure in the same run; again for more.")] = ()
    boxes: Boxes = None
    steps: Steps = None
    samples: Samples = None
    seed: Seed = 0
    drop_bad: DropBad = False


@dataclass(frozen=True, kw_only=True)
class Convert(Request):
    """Write the boxes of a folder in another format: inkwash detection convert cells/ voc -o out/. What the format
    cannot hold is said."""

    data: Annotated[
        File | tuple[File, ...],
        Media("folder"),
        Help(
            "Pictures and boxes: COCO's JSON, YOLO's text with data.yaml, Pascal VOC's XML, or boxes.csv.",
            argument=True,
        ),
    ]
    format: Annotated[Literal["coco", "yolo", "voc", "csv"], Help("What is written.", argument=True)] = "coco"
    drop_bad: DropBad = False

    def basename(self) -> str:
        """Nothing: files have their formats' names."""
        return ""
