"""What more boxes of noise and more steps find: AP50 and average recall of a model of boxes, without training anew,
beside a head without noise.

    pip install '.[detection]'
    python benchmarks/detection_boxes.py bccd --data bccd_blood_cells --beside runs/bccd/backbone/model

Writes docs/results/boxes.json. docs/vision.md says where the data come from.
"""

import time
from pathlib import Path

import common
import inkwash
from common import QUICK, ROOT
from inkwash.systems.detection.data import page_of, read_data
from inkwash.systems.detection.metrics import Judge
from inkwash.systems.report import row
from inkwash.systems.splits import unseen

common.needs("pycocotools")
SEEDS = range(3)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("model", nargs="?")
    options.add_argument("--data", type=Path)
    options.add_argument("--beside", help="a model of fcos")
    options.add_argument("--boxes", type=int, nargs="+", default=[50, 100, 200, 400])
    options.add_argument("--steps", type=int, nargs="+", default=[1, 4])
    options.add_argument("--least", type=int, default=0, help="only pictures with so many objects or more")
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "boxes.json")
    given = options.parse_args()
    if QUICK:
        print("of 1 model and real pictures: nothing to try without them")
        return
    if given.model is None or given.data is None:
        options.error("a model and --data are needed")
    models = [inkwash.load(name, runtime="torch") for name in (given.model, given.beside) if name]
    data = read_data(given.data, "", False, print)
    examples = [one for one in unseen(data.examples, data.listed, models, print) if len(one.boxes) >= given.least]
    pages = [page_of(one) for one in examples]
    rows = []

    def measure(model, source: str, **asked: int) -> None:
        """One row a figure: the mean over seeds, from the least to the greatest."""
        clock, figures = time.process_time(), []
        for seed in SEEDS if asked else [0]:
            found = [model.detect(page, seed=seed, **asked) for page in pages]
            figures.append(Judge(found, examples, len(model.classes), max(given.boxes)).figures())
        seconds = (time.process_time() - clock) / len(figures) / len(pages)
        for name in ("AP", "AP50", "AR"):
            values = [one[name] for one in figures]
            interval = {"interval": (min(values), max(values))} if asked else {}
            rows.append(row(name, sum(values) / len(values), n=len(pages), source=source, **interval, **asked))
        rows.append(row("CPU seconds a picture", seconds, n=len(pages), source=source, **asked))
        print(source, asked, {one["metric"]: round(one["value"], 3) for one in rows[-4:]}, flush=True)

    for boxes in given.boxes:
        for steps in given.steps:
            measure(models[0], given.model, boxes=boxes, steps=steps)
    if given.beside:
        measure(models[1], "FCOS")
    report = {
        "title": f"Boxes of noise, steps, and what they find; maxDets {max(given.boxes)}; means over {len(SEEDS)} "
        "seeds of the noise, from the least to the greatest.",
        "pictures": len(pages),
        "objects": [min(len(one.boxes) for one in examples), max(len(one.boxes) for one in examples)],
        "rows": rows,
    }
    common.save(given.out, report)


if __name__ == "__main__":
    main()
