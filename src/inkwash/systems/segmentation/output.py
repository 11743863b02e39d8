"""What is left of a picture that was segmented: files that other tools read."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from inkwash.codecs.picture_files import Array, normalised
from inkwash.systems.picture_folders import COLOURS, save, with_recipe, write_csv, write_json
from inkwash.systems.segmentation import rle, shapes
from inkwash.systems.segmentation.calibration import sample_interval
from inkwash.systems.segmentation.model import Segmentation
from inkwash.weights.files import atomic

Row = dict[str, Any]


def write_picture(
    found: Segmentation, picture: Array, classes: Sequence[str], target: Path, request: Any, recipe: Row
) -> dict[str, Path]:
    """The files of a picture by their endings, "-mask.png", ...: TARGET-mask.png, ...; a PNG has the recipe in it."""
    mask = "-mask.png" if found.labels.max() < 2**16 else "-mask.tif"  # a PNG has no 32 bits
    endings = [
        "-overlay.png",
        mask,
        "-probability.tif",
        "-probability.png",
        "-uncertainty.png",
        "-samples.tif",
        "-objects.csv",
    ]
    endings += (
        ["-classes.png"] * (len(classes) > 1) + ["-outlines.geojson"] * request.geojson + ["-rois.zip"] * request.rois
    )
    files = {ending: target.with_name(f"{target.name}{ending}") for ending in endings}
    scores, noted = object_scores(found), with_recipe(recipe)
    save(Image.fromarray(overlay(picture, found)), files["-overlay.png"], pnginfo=noted)
    save(numbered(found.labels), files[mask], pnginfo=noted)
    save_stack([Image.fromarray(plane) for plane in found.probability], files["-probability.tif"])
    likeliest = found.probability.max(0)
    for plane, ending in ((likeliest, "-probability.png"), (found.uncertainty, "-uncertainty.png")):
        save(Image.fromarray((255 * plane).round().astype(np.uint8)), files[ending], pnginfo=noted)
    save_stack([numbered(one) for one in found.samples], files["-samples.tif"])
    write_csv(
        object_rows(found, classes, scores),
        files["-objects.csv"],
        ("object", "class", "x", "y", "area", "probability"),
    )
    if len(classes) > 1:
        save(Image.fromarray(found.kinds[found.labels]), files["-classes.png"], pnginfo=noted)
    if request.geojson:
        write_json(shapes.to_geojson(found.labels, found.kinds, classes, scores), files["-outlines.geojson"])
    if request.rois:
        with (
            atomic(files["-rois.zip"]) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for entry, content in shapes.to_rois(found.labels):
                archive.writestr(zipfile.ZipInfo(f"{entry}.roi"), content)
    return files


def numbered(labels: Array) -> Any:
    """Numbers of objects as a picture of 16 bits; of more than 65,535 one of 32."""
    return Image.fromarray(labels.astype(np.uint16 if labels.max() < 2**16 else np.int32))


def save_stack(pages: Sequence[Any], file: Path) -> None:
    with atomic(file) as temporary:
        pages[0].save(temporary, save_all=True, append_images=pages[1:], compression="tiff_deflate")


def overlay(picture: Array, found: Segmentation) -> Array:
    """The picture with the objects' edges in their class's colour."""
    drawn = (255 * normalised(picture)).round().astype(np.uint8)
    from skimage.segmentation import find_boundaries

    edges = find_boundaries(found.labels, mode="inner")
    kinds = found.kinds[found.labels]
    for kind in range(1, int(kinds.max()) + 1):
        drawn[edges & (kinds == kind)] = COLOURS[(kind - 1) % len(COLOURS)]
    return drawn


def object_scores(found: Segmentation) -> Array:
    """The mean probability of its class in each object."""
    count = len(found.kinds) - 1
    if not count:
        return np.zeros(0)
    own = np.take_along_axis(found.probability, (found.kinds[found.labels].astype(int) - 1).clip(0)[None], 0)[0]
    scores: Array = ndimage.mean(own, found.labels, np.arange(1, count + 1))
    return scores


def object_rows(found: Segmentation, classes: Sequence[str], scores: Array) -> list[Row]:
    """A row for each object: number, class, middle from the picture's corner and area in pixels, probability."""
    count = len(found.kinds) - 1
    if not count:
        return []
    numbers = np.arange(1, count + 1)
    areas = np.bincount(found.labels.ravel(), minlength=count + 1)[1:]
    middles = ndimage.center_of_mass(found.labels > 0, found.labels, numbers)
    return [
        {
            "object": number,
            "class": classes[found.kinds[number] - 1],
            "x": round(x + 0.5, 2),
            "y": round(y + 0.5, 2),
            "area": int(areas[number - 1]),
            "probability": round(float(scores[number - 1]), 4),
        }
        for number, (y, x) in zip(numbers.tolist(), middles, strict=True)
    ]


def picture_rows(found: Segmentation, name: str, classes: Sequence[str]) -> list[Row]:
    """A row for each class of a picture: objects, their area and mean probability, how far both differ between
    samples, and where 90 % of counts lie."""
    rows = []
    for kind, label in enumerate(classes):
        here = found.kinds[found.labels] == kind + 1
        counts, areas = found.counts[:, kind], found.areas[:, kind]
        row: Row = {"picture": name, "class": label, "count": int((found.kinds[1:] == kind + 1).sum())}
        row |= {"area": int(here.sum()), "area_share": round(float(here.mean()), 6)}
        row["probability"] = round(float(found.probability[kind][here].mean()), 4) if here.any() else ""
        row["samples"] = len(counts)
        for what, values in (("count", counts), ("area", areas)):
            row |= {f"{what}_least": int(values.min()), f"{what}_greatest": int(values.max())}
            row[f"{what}_std"] = round(float(values.std(ddof=1)), 3) if len(values) > 1 else ""
            interval = sample_interval(values.tolist())
            row |= {} if interval is None else {f"{what}_5": int(interval[0]), f"{what}_95": int(interval[1])}
        if found.count_interval is not None:
            row |= {"count_low": int(found.count_interval[kind][0]), "count_high": int(found.count_interval[kind][1])}
        rows.append(row)
    return rows


def coco_objects(found: Segmentation, image: int, first: int) -> list[Row]:
    """COCO's annotations of a picture, with scores."""
    rows, scores = list[Row](), object_scores(found)
    for number, mask, (x, y) in shapes.objects_of(found.labels):
        whole = np.zeros(found.labels.shape, bool)
        whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        rows.append(
            {
                "id": first + len(rows),
                "image_id": image,
                "category_id": int(found.kinds[number]),
                "segmentation": {"size": list(whole.shape), "counts": rle.encode(whole)},
                "area": int(mask.sum()),
                "bbox": [x, y, mask.shape[1], mask.shape[0]],
                "iscrowd": 0,
                "score": round(float(scores[number - 1]), 4),
            }
        )
    return rows


def coco(images: Sequence[Row], annotations: Sequence[Row], classes: Sequence[str]) -> Row:
    """COCO's file."""
    categories = [{"id": kind, "name": name} for kind, name in enumerate(classes, 1)]
    return {"images": list(images), "annotations": list(annotations), "categories": categories}
