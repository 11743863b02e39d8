"""The report: what is left out, what stands beside, and what each row says."""

import numpy as np
import pytest

from inkwash.cli.context import Local
from inkwash.errors import UserError
from inkwash.systems import report
from inkwash.systems.base import options
from inkwash.systems.detection import evaluate as module
from inkwash.systems.detection.data import read_data
from inkwash.systems.detection.evaluate import measure, regions
from inkwash.systems.detection.request import Evaluate
from tests.spread import spread
from tests.systems.detection.toy import Notes, folder, model

pytest.importorskip("pycocotools")
pytest.importorskip("skimage")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 5)


def run(tmp_path, data, made, other=None, **asked):
    models = {"toy": made} | ({"other": other} if other else {})
    context = Notes(tmp_path / "out", **models)
    (tmp_path / "out").mkdir(exist_ok=True)
    try:
        file = context.file(data, options(Evaluate)["data"])
        beside = ("other",) if other else ()
        request = Evaluate(model="toy", data=file, beside=beside, **asked)
        return measure(request, made, context), context.notes
    finally:
        context.close()


def test_sources_and_rows(tmp_path):
    data = folder(tmp_path / "data", 4)
    report, _ = run(tmp_path, data, model(), model(engine="fcos"), steps=2)
    assert {row["source"] for row in report.rows} == {"toy", "toy, 1 step", "other", "Otsu's regions"}
    assert {row["metric"] for row in report.rows} >= {
        "AP", "AP50", "AP75", "AR", "AP50 of disc", "AP50 of square", "calibration error", "count off by",
    }  # fmt: skip
    sure = {row["source"] for row in report.rows if row["metric"] == "calibration error"}
    assert "Otsu's regions" not in sure and "toy" in sure
    assert (
        "maxDets 100" in report.title and report.model["steps"] == 2 and report.data["split"].startswith("4 pictures")
    )


def test_the_report_is_the_same_wherever_a_picture_is_searched(tmp_path, monkeypatch):
    data, made, other = folder(tmp_path / "data", 4), model(), model(engine="fcos")
    alone, _ = run(tmp_path, data, made, other, steps=2)
    monkeypatch.setattr(Local, "map", spread)
    assert run(tmp_path, data, made, other, steps=2)[0].rows == alone.rows


def test_max_dets_grow_with_the_boxes_that_are_asked_for(tmp_path):
    report, _ = run(tmp_path, folder(tmp_path / "data", 3), model(), boxes=120, steps=1)
    assert "maxDets 120" in report.title and {row["source"] for row in report.rows} == {"toy", "Otsu's regions"}


def test_what_a_model_has_seen_is_left_out_and_said(tmp_path):
    data = folder(tmp_path / "data", 4)
    seen = [one.digest for one in read_data(data).examples]
    report, notes = run(tmp_path, data, model(train=seen[:1], choices={seen[1]: "p1"}), steps=1)
    assert report.data["pictures"] == ["p2", "p3"] and report.data["chosen_by"] == ["p1"]
    assert any("2 of 4 pictures are left out" in note for note in notes)
    with pytest.raises(UserError, match="have seen all of these"):
        run(tmp_path, data, model(train=seen))


def test_a_list_says_which_are_measured(tmp_path):
    data = folder(tmp_path / "data", 4)
    (data / "val.txt").write_text("p3\n")
    assert run(tmp_path, data, model(), steps=1)[0].data["pictures"] == ["p3"]


def test_other_classes_are_refused(tmp_path):
    data = folder(tmp_path / "data", 3)
    with pytest.raises(UserError, match="knows the classes disc, ring; the data have square, too"):
        run(tmp_path, data, model(classes=["disc", "ring"]))
    with pytest.raises(UserError, match="other knows other classes: a, b"):
        run(tmp_path, data, model(), model(classes=["a", "b"]))


def test_classes_are_told_by_their_names(tmp_path):
    report, _ = run(tmp_path, folder(tmp_path / "data", 3), model(), steps=1)
    turned, notes = run(tmp_path, folder(tmp_path / "data", 3), model(classes=["square", "ring", "disc"]), steps=1)
    regions = [
        {row["metric"]: row["value"] for row in one.rows if row["source"] == "Otsu's regions"}
        for one in (report, turned)
    ]
    # all regions are of the class `common`, which is the disc of the one and the square of the other
    assert regions[0]["AP50 of disc"] > 0 == regions[0]["AP50 of square"]
    assert regions[1]["AP50 of square"] > 0 == regions[1]["AP50 of disc"]
    assert "AP50 of ring" not in regions[1]
    assert any("of ring the data have none" in note for note in notes)


def test_an_option_of_noise_means_nothing_without_it(tmp_path):
    with pytest.raises(UserError, match="steps means nothing with models without diffusion"):
        run(tmp_path, folder(tmp_path / "data", 3), model(engine="fcos"), steps=3)


def test_otsu_s_regions_are_boxes_of_what_stands_out():
    page = np.full((40, 60), 30, np.uint8)
    page[5:15, 10:30], page[20:24, 40:44] = 200, 220
    for picture in (page, 255 - page):
        found = regions(picture, 1)
        assert found.boxes.tolist() == [[10, 5, 30, 15], [40, 20, 44, 24]] and found.kinds.tolist() == [1, 1]
        assert found.scores.tolist() == pytest.approx([200 / 2400, 16 / 2400])
    assert len(regions(np.full((9, 9), 7, np.uint8), 0).boxes) == 0


def test_models_of_one_name_are_measured_each(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "reference", lambda name: "model")
    made, _ = run(tmp_path, folder(tmp_path / "data", 3), model(engine="fcos"), model(engine="fcos"))
    assert {row["source"] for row in made.rows} == {"model (1)", "model (2)", "Otsu's regions"}
