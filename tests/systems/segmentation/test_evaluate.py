"""The table: what the model has seen is in none, and the figures are those of the masks."""

import json

import numpy as np
import pytest

from inkwash.cli.context import Local
from inkwash.errors import UserError
from inkwash.systems.base import File
from inkwash.systems.report import Report
from inkwash.systems.segmentation import evaluate as module
from inkwash.systems.segmentation.data import read_data
from inkwash.systems.segmentation.request import Evaluate
from tests.spread import spread
from tests.systems.segmentation.cells import cells, folder, save
from tests.systems.segmentation.toy import Notes, model

pytest.importorskip("skimage")
DATA = (File("0" * 64, "a.png"),)


def run(tmp_path, made, **options):
    (tmp_path / "out").mkdir(exist_ok=True)
    models = {"toy": made, "rival": model(engine="plain", members=2)}
    context = Notes(tmp_path / "out", **models)
    context.paths[DATA] = tmp_path / "data"
    (result,) = module.evaluate([Evaluate(model="toy", data=DATA, **options)], context)
    return Report.load(result.files["report.json"]), context.notes


def value(report, metric, source, pictures="all"):
    (found,) = [
        row for row in report.rows if (row["metric"], row["source"], row["pictures"]) == (metric, source, pictures)
    ]
    return found


def test_the_report_is_the_same_wherever_a_picture_is_scored(tmp_path, monkeypatch):
    folder(tmp_path / "data", 4)
    made = model()
    alone, _ = run(tmp_path, made, beside=("rival",))
    monkeypatch.setattr(Local, "map", spread)
    assert run(tmp_path, made, beside=("rival",))[0].rows == alone.rows


def test_pictures_that_the_model_has_seen_are_in_no_table(tmp_path):
    folder(tmp_path / "data", 5)
    digests = {one.name: one.digest for one in read_data(tmp_path / "data").examples}
    made = model(train=[digests["cell_0"], digests["cell_3"]], choices={digests["cell_4"]: "cell_4"})
    report, notes = run(tmp_path, made, samples=2)
    assert report.data["pictures"] == ["cell_1", "cell_2"] and report.data["chosen_by"] == ["cell_4"]
    assert "3 of 5 pictures are left out: the models have seen them" in " ".join(notes)
    assert value(report, "IoU", "toy")["n"] == 2
    all_seen = model(train=list(digests.values()))
    with pytest.raises(UserError, match="have seen all of these pictures"):
        run(tmp_path, all_seen)


def test_a_list_says_what_is_measured_on(tmp_path):
    folder(tmp_path / "data", 3)
    (tmp_path / "data" / "index.csv").write_text("name,split\ncell_0,train\ncell_1,val\ncell_2,train\n")
    assert run(tmp_path, model(), samples=1)[0].data["pictures"] == ["cell_1"]


def test_otsu_and_other_models_stand_in_the_same_table(tmp_path):
    folder(tmp_path / "data", 3)
    report, _ = run(tmp_path, model(), beside=("rival",), samples=2)
    sources = list(dict.fromkeys(row["source"] for row in report.rows))
    assert sources == [
        "toy",
        "rival, first network",
        "rival, first network, mirrored",
        "rival, 2 networks",
        "Otsu's threshold",
    ]
    assert value(report, "IoU", "Otsu's threshold")["value"] > 0.99  # bright discs on a dark ground
    assert value(report, "AP50 of objects", "Otsu's threshold")["value"] == pytest.approx(1)
    assert value(report, "count off by", "Otsu's threshold")["value"] == 0
    assert not [
        row
        for row in report.rows
        if row["source"] == "Otsu's threshold" and row["metric"] in ("Brier", "calibration error")
    ]
    assert set(report.cpu_seconds) == set(sources)


def test_otsu_has_the_darker_side_where_that_is_right(tmp_path):
    folder(tmp_path / "data", 3)
    for i in range(3):
        save(255 - cells(i)[0], tmp_path / "data" / "images" / f"cell_{i}.png")
    assert value(run(tmp_path, model(), samples=1)[0], "IoU", "Otsu's threshold")["value"] > 0.99


def test_grey_and_colour_pictures_apart(tmp_path):
    folder(tmp_path / "data", 4)
    for i in (0, 1):
        save(cells(i, colour=True)[0], tmp_path / "data" / "images" / f"cell_{i}.png")
    report, _ = run(tmp_path, model(), samples=2)
    both, grey, colour = (value(report, "IoU", "toy", part) for part in ("all", "grey", "colour"))
    assert (both["n"], grey["n"], colour["n"]) == (4, 2, 2)
    assert both["value"] == pytest.approx((grey["value"] + colour["value"]) / 2)


def test_counts_are_covered_by_wide_intervals_and_not_by_narrow_ones(tmp_path):
    folder(tmp_path / "data", 3)
    wide, _ = run(tmp_path, model(counts=[1000.0]), samples=19)
    assert value(wide, "count covered, fitted", "toy")["value"] == 1
    assert {row["metric"] for row in wide.rows} >= {
        "count covered, samples",
        "Brier",
        "calibration error",
        "errors in the least sure 5 %",
    }
    few, _ = run(tmp_path, model(counts=[1000.0]), samples=18)
    assert "count covered, samples" not in {row["metric"] for row in few.rows}


def test_a_perfect_answer_has_perfect_figures(tmp_path):
    folder(tmp_path / "data", 1)
    (example,) = read_data(tmp_path / "data").examples
    said, _ = module.otsu(example)
    perfect = said._replace(
        probability=(example.labels > 0)[None].astype(np.float32), labels=example.labels, kinds=example.kinds
    )
    scored = module.score(perfect, example, 1, True)
    assert all(scored.figures[name] == 1 for name in ("IoU", "Dice", "boundary F, 1 px", "WCov"))
    assert scored.figures["Brier"] == 0 and scored.figures["count off by"] == 0
    assert (
        module.precision([scored]) == pytest.approx(1)
        and module.f_score([scored]) == 1
        and module.miscalibration([scored]) == 0
    )


def test_other_classes_are_refused(tmp_path):
    folder(tmp_path / "data", 3)
    with pytest.raises(UserError, match="the model toy knows the classes a, b; the data have object"):
        run(tmp_path, model(classes=["a", "b"]))


def coco_of(path, names):
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(names)]}
    for i in range(3):
        save(cells(i)[0], path / f"{i}.png")
        content["images"].append({"id": i, "file_name": f"{i}.png", "width": 48, "height": 48})
        for kind in range(len(names)):
            shape = [[20 * kind, 1, 20 * kind + 9, 1, 20 * kind + 9, 9, 20 * kind, 9]]
            content["annotations"].append({"image_id": i, "category_id": kind, "segmentation": shape})
    (path / "all.json").write_text(json.dumps(content))


def test_classes_of_another_order_are_refused_and_other_names_said(tmp_path):
    coco_of(tmp_path / "data", ["b", "a"])
    with pytest.raises(
        UserError, match="knows the classes a, b; the data have b, a: give --classes 'a' --classes 'b'"
    ):
        run(tmp_path, model(classes=["a", "b"]), samples=1)
    report, notes = run(tmp_path, model(classes=["a", "b"]), samples=1, classes=("a", "b"))
    assert report.data["pictures"] == ["0", "1", "2"] and not any("are taken for" in note for note in notes)
    _, notes = run(tmp_path, model(classes=["b", "c"]), samples=1)
    assert "the data's b, a are taken for the b, c of toy" in notes
    with pytest.raises(UserError, match="the model rival knows the classes cell; the data have b, a"):
        run(tmp_path, model(classes=["b", "a"]), samples=1, beside=("rival",))


def test_models_of_one_name_are_measured_each(tmp_path, monkeypatch):
    folder(tmp_path / "data", 3)
    monkeypatch.setattr(module.report, "reference", lambda name: "model")
    sources = {row["source"] for row in run(tmp_path, model(), beside=("rival",), samples=1)[0].rows}
    assert {"model (1)", "model (2), first network"} <= sources


def test_a_table_of_pictures_without_objects_has_no_precision(tmp_path):
    folder(tmp_path / "data", 3)
    for i in (0, 1):
        save(np.zeros((48, 48), np.uint8), tmp_path / "data" / "masks" / f"cell_{i}.png")
    (tmp_path / "data" / "index.csv").write_text("name,split\ncell_0,test\ncell_1,test\ncell_2,train\n")
    metrics = {row["metric"] for row in run(tmp_path, model(), samples=1)[0].rows}
    assert "F1 of objects" in metrics and "AP50 of objects" not in metrics
