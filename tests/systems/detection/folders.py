"""Folders of boxes in each format, of pictures of 40 x 30 pixels."""

import json

import numpy as np
from PIL import Image

from inkwash.systems.detection.formats import read

WIDTH, HEIGHT = 40, 30


def picture(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path, **options)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def found(folder):
    """Corners and more of each box, by the picture's stem; classes; notes."""
    notes = []
    data = read(folder, notes.append)
    boxes = {
        one.file.stem: [(box.corners, box.label, box.crowd, box.difficult) for box in one.boxes]
        for one in data.pictures
    }
    return boxes, data, notes


def coco(folder, annotations, categories=((3, "cell"), (90, "dust"))):
    picture(folder / "images" / "a b.png")
    content = {
        "images": [{"id": 7, "file_name": "a b.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"id": i, "image_id": 7} | one for i, one in enumerate(annotations)],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    text(folder / "coco.json", json.dumps(content))
    return folder


def yolo(folder, lines, yaml="names: [cell, dust]\n"):
    picture(folder / "images" / "a.png")
    text(folder / "labels" / "a.txt", lines)
    text(folder / "data.yaml", yaml)
    return folder


def voc(folder, objects, name="a.png", size=(WIDTH, HEIGHT)):
    picture(folder / "JPEGImages" / "a.png")
    rows = "".join(
        f"<object><name>{label}</name><difficult>{hard}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, hard, x0, y0, x1, y1 in objects
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    text(folder / "Annotations" / "a.xml", f"<annotation><filename>{name}</filename>{sides}{rows}</annotation>")
    return folder


def table(folder, rows, head="image,label,xmin,ymin,xmax,ymax"):
    picture(folder / "images" / "a.5.png")
    text(folder / "boxes.csv", "\n".join([head, *rows]))
    return folder
