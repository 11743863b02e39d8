"""What can be asked of models that make pictures larger, or edit them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MaxLen

from inkwash.errors import UserError
from inkwash.systems import train
from inkwash.systems.base import File, Help, Limit, Media, Request
from inkwash.systems.restoration.options import check_options

ModelName = Annotated[str, Help("A shipped model (see `inkwash models`) or a folder.")]
Measured = Annotated[str, Help("A shipped model or a folder.", argument=True)]
Samples = Annotated[
    int | None, Ge(1), Le(1000), Help("Answers for each picture; the model's own number if left out.")
]
Steps = Annotated[
    int | None, Ge(1), Le(1000), Help("Calls of the network for each answer; the model's own number if left out.")
]
Seed = Annotated[int, Ge(0), Le(2**64 - 1), Help("The same seed draws the same.")]
Folder = Annotated[File | tuple[File, ...], Media("folder"), Help("A folder of pictures.")]
Beside = Annotated[tuple[str, ...], Help("Another model to measure in the same run; again for more.")]
NoiseLevel = Annotated[
    float | None, Ge(0), Le(0.5),
    Help("How much noise the picture gets first, 0 to 0.5: more lets the model correct more of it; its own if left "
         "out."),
]  # fmt: skip
Task = Literal["colourise", "inpaint", "uncrop", "restore", "denoise", "deblur"]


def listed(texts: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Names, of which some may stand together, with commas: each once."""
    if texts is None:
        return None
    return tuple(dict.fromkeys(filter(None, (name.strip() for text in texts for name in text.split(",")))))


@dataclass(frozen=True, kw_only=True)
class Upscale(Request):
    """Make pictures larger, with the detail that a model learned from others.

    inkwash upscale pictures/ -o out/ --model M writes each in the kind of file that it was, its opacity and its
    colour profile kept; of several samples each, and a map of how far they differ.
    """

    pictures: Annotated[
        File | tuple[File, ...], Media("folder"), Help("A picture, or a folder of them.", argument=True)
    ]
    model: Annotated[str, Help("A folder that training wrote.")]
    factor: Annotated[int | None, Ge(2), Le(8), Help("How many times larger: the model's own, which has one.")] = None
    samples: Samples = None
    seed: Seed = 0
    steps: Steps = None
    consistent: Annotated[
        bool, Help("What is written, reduced again (means of squares), is the picture, to the last bit.")
    ] = False
    noise_level: NoiseLevel = None
    format: Annotated[
        Literal["png", "jpeg", "webp", "tiff"] | None, Help("Of the files; the kind that was read if left out.")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.consistent and self.format == "jpeg":
            raise UserError("consistent: a JPEG changes the bits that are written: take png, webp or tiff")

    def check(self, limits: Mapping[str, Limit]) -> None:
        own = limits["factor"].default
        if self.factor not in (None, own):
            raise UserError(f"factor = {self.factor}: the model makes pictures {own} times larger: leave it out")

    def several(self) -> bool:
        return isinstance(self.pictures, tuple) or self.samples not in (None, 1)

    def basename(self) -> str:
        """Nothing: files are called after their pictures."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Edit(Request):
    """Edit a photograph by a model: colourise it, fill a hole, draw on beyond its edges, restore, denoise, deblur it.

    All samples are written, where they differ, and what was invented; of a hole what lies around it keeps its bits.
    """

    # no image/*: of these a studio keeps small copies of 8 bits
    picture: Annotated[File, Help("A photograph.", argument=True)]
    model: ModelName = "retouch"
    task: Annotated[Task, Help("What is done.")]
    mask: Annotated[File | None, Help("Where it is white, the picture is drawn anew.")] = None
    outpaint: Annotated[
        float | None, Gt(0), Le(0.45), Help("Draw on beyond its edges, for this fraction of the side.")
    ] = None
    samples: Samples = None
    seed: Seed = 0
    steps: Steps = None
    format: Annotated[
        Literal["png", "webp", "tiff"] | None,
        Help("Of the files, without loss; the kind that was read if left out, PNG of a JPEG."),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self.task, mask=self.mask, outpaint=self.outpaint)

    def several(self) -> bool:
        return self.samples != 1  # a model's own number is more

    def basename(self) -> str:
        return f"{PurePath(self.picture.name).stem}-{self.task}"


@dataclass(frozen=True, kw_only=True)
class TrainOnPictures(train.Train):
    """What both trainings take."""

    data: Annotated[File | tuple[File, ...] | None, Media("folder"), Help("A folder of pictures.")] = None
    group: Annotated[
        str | None, MaxLen(200),
        Help("Pictures of one kind stay on one side of the split: a pattern whose first bracket is its name in a "
             "file's name, as '(.*)_'; or a column of index.csv or split.csv."),
    ] = None  # fmt: skip
    engine: Annotated[
        Literal["diffusion", "plain"] | None,
        Help("diffusion; or plain: the same network without noise, one answer by the absolute error."),
    ] = None

    KEYS = train.Train.KEYS | {name: name for name in ("group", "engine")}


@dataclass(frozen=True, kw_only=True)
class TrainUpscaler(TrainOnPictures):
    """Train a model that makes pictures larger on pictures of your own, or by a recipe; or go on with a run that was
    stopped.

    A tenth of the pictures is for choices, a fifth stays out for `evaluate`.
    """

    factor: Annotated[int | None, Ge(2), Le(8), Help("How many times larger; 4 if left out.")] = None
    degradation: Annotated[
        tuple[str, ...] | None, MaxLen(20),
        Help("How pictures are made small to learn from: area or bicubic, and blur, noise, jpeg to half of them; "
             "again for more, or with commas; all of them if left out."),
    ] = None  # fmt: skip

    KEYS = TrainOnPictures.KEYS | {name: name for name in ("factor", "degradation")}

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "degradation", listed(self.degradation))


@dataclass(frozen=True, kw_only=True)
class TrainEditor(TrainOnPictures):
    """Train a model that edits photographs on pictures of your own, or by a recipe; or go on with a run that was
    stopped. It learns all tasks at once.

    A tenth of the pictures is for choices, a fifth stays out for `evaluate`.
    """

    tasks: Annotated[
        tuple[str, ...] | None, MaxLen(100),
        Help("What it learns: colourise, inpaint, uncrop, restore, denoise, deblur; again for more, or with commas; "
             "all of them if left out."),
    ] = None  # fmt: skip

    KEYS = TrainOnPictures.KEYS | {"tasks": "tasks"}

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tasks", listed(self.tasks))


@dataclass(frozen=True, kw_only=True)
class EvaluateUpscaler(Request):
    """Measure a model on pictures that it never saw, made small and large again: error, sharpness, consistency and
    diversity, beside bicubic, Lanczos, and other models in the same run."""

    model: Annotated[str, Help("A folder that training wrote.", argument=True)]
    data: Folder
    beside: Beside = ()
    samples: Samples = None
    steps: Steps = None
    seed: Seed = 0
    noise_level: NoiseLevel = None


@dataclass(frozen=True, kw_only=True)
class EvaluateEditor(Request):
    """Measure a model on pictures that it never saw, task by task: error, diversity, colour, beside the picture as it
    is given, a mean fill, and other models in the same run."""

    model: Measured = "retouch"
    data: Folder
    beside: Beside = ()
    samples: Samples = None
    steps: Steps = None
    seed: Seed = 0
