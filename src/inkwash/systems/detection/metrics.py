"""How good boxes are, by pycocotools, the field's own measure."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from inkwash.codecs.picture_files import Array
from inkwash.systems.detection.data import Example
from inkwash.systems.detection.model import Detection

AREAS = ("all", "small", "medium", "large")  # of objects, parted at 32 x 32 and 96 x 96 pixels of the picture
MAX_DETS = 100  # boxes of a picture that count, unless more are asked for


class Judge:
    """COCO's evaluation of what was found in pictures. Crowds are matched by any number; what is difficult counts as
    all else."""

    def __init__(
        self, found: Sequence[Detection], examples: Sequence[Example], classes: int, max_dets: int = MAX_DETS
    ) -> None:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):  # which it writes to
            truth = COCO()
            truth.dataset = truth_of(examples, classes)
            truth.createIndex()
            results = results_of(found)
            said = truth.loadRes(results) if results else COCO()
            self.evaluator: Any = COCOeval(truth, said, "bbox")
            self.evaluator.params.maxDets = [1, 10, max_dets]
            self.evaluator.params.imgIds = list(range(1, len(examples) + 1))
            self.evaluator.params.catIds = list(range(1, classes + 1))
            self.evaluator.evaluate()
        self.pictures, self.classes = len(examples), classes

    def figures(self, chosen: Array | None = None) -> dict[str, float]:
        """AP (the mean over IoUs 0.5 to 0.95), AP50, AP75, AP by size, AR; NaN of what there is none of. chosen: as
        many pictures, drawn with replacement."""
        evaluator, every = self.evaluator, self.evaluator.evalImgs
        if chosen is not None:
            table = np.array(every, object).reshape(self.classes, len(AREAS), self.pictures)
            evaluator.evalImgs = list(table[:, :, chosen].reshape(-1))
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.accumulate()
        evaluator.evalImgs = every
        precision, recall = (evaluator.eval[key] for key in ("precision", "recall"))  # (T, R, K, A, M), (T, K, A, M)
        figures = {"AP": mean(precision[:, :, :, 0, -1]), "AP50": mean(precision[0, :, :, 0, -1])}
        figures["AP75"] = mean(precision[5, :, :, 0, -1])
        figures |= {f"AP, {name}": mean(precision[:, :, :, i, -1]) for i, name in enumerate(AREAS) if i}
        return figures | {"AR": mean(recall[:, :, 0, -1])}

    def by_class(self) -> list[float]:
        """AP50 of each class; after `figures`."""
        precision = self.evaluator.eval["precision"]
        return [mean(precision[0, :, kind, 0, -1]) for kind in range(self.classes)]

    def right(self) -> tuple[Array, Array]:
        """(scores, whether each found an object at an IoU of 0.5) of all boxes, but for those in crowds."""
        scores, right = [np.zeros(0)], [np.zeros(0, bool)]
        for one in self.evaluator.evalImgs:
            if one is not None and one["aRng"][1] > 1e9:
                counts = ~one["dtIgnore"][0].astype(bool)
                scores.append(np.array(one["dtScores"])[counts])
                right.append((one["dtMatches"][0] > 0)[counts])
        return np.concatenate(scores), np.concatenate(right)


def mean(values: Array) -> float:
    """Of those that there are; -1 stands for none."""
    there = values[values > -1]
    return float(there.mean()) if there.size else float("nan")


def truth_of(examples: Sequence[Example], classes: int) -> dict[str, Any]:
    """COCO's file of the examples, pictures and classes numbered from 1."""
    annotations: list[dict[str, Any]] = []
    for number, example in enumerate(examples, 1):
        for box, kind, crowd in zip(example.boxes, example.kinds, example.crowd, strict=True):
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(kind) + 1,
                    "bbox": to_xywh(box),
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    images = [{"id": number, "width": one.size[0], "height": one.size[1]} for number, one in enumerate(examples, 1)]
    categories = [{"id": kind + 1, "name": str(kind)} for kind in range(classes)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def results_of(found: Sequence[Detection]) -> list[dict[str, Any]]:
    """COCO's results."""
    return [
        {"image_id": number, "category_id": int(kind) + 1, "bbox": to_xywh(box), "score": float(score)}
        for number, one in enumerate(found, 1)
        for box, kind, score in zip(one.boxes, one.kinds, one.scores, strict=True)
    ]


def to_xywh(box: Array) -> list[float]:
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]
