"""The table of cascades: a classifier of real pictures judges, and what a model has seen is not in it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.systems.base import File
from inkwash.systems.detection.data import read_data
from inkwash.systems.report import Report
from inkwash.systems.restoration import cascade_evaluate as module
from inkwash.systems.restoration.cascade_data import crops_of
from inkwash.systems.restoration.cascade_request import Evaluate
from tests.systems.detection import toy
from tests.systems.restoration.toy import Notes, cascade, upscaler

pytest.importorskip("skimage")
DATA = (File("0" * 64, "a.png"),)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(
        module, "LEARNING", replace(module.LEARNING, steps=40, batch_size=16, warmup=5, ema_decay=0.8)
    )
    monkeypatch.setattr(module, "LEVELS", (0.0, 0.1))
    monkeypatch.setattr(module, "COMPARED", 2)


@pytest.fixture
def data(tmp_path):
    return toy.folder(tmp_path / "data", 12)


def run(tmp_path, data, models, **options):
    (tmp_path / "out").mkdir(exist_ok=True)
    context = Notes(tmp_path / "out", **models)
    context.paths[DATA] = data
    (result,) = module.evaluate([Evaluate(model="toy", data=DATA, per_kind=3, steps=1, **options)], context)
    return Report.load(result.files["report.json"]), context.notes


def known(data, count=6):
    """What a model says of the first pictures that it learned from, and of one that it was chosen by."""
    digests = [one.digest for one in read_data(data).examples]
    return {"train": digests[:count], "choices": {digests[count]: "p6"}}


def values(report, metric, **keys):
    return [
        row["value"] for row in report.rows
        if row["metric"] == metric and all(row.get(key) == value for key, value in keys.items())
    ]  # fmt: skip


def test_every_level_of_noise_on_real_and_generated_pictures_beside_one_without(tmp_path, data):
    plain = cascade(augmentation=False, noise_level=0.0, **known(data))
    models = {"toy": cascade(**known(data)), "plain": plain}
    report, _ = run(tmp_path, data, models, beside=("plain",))
    found = {(row["source"], row["small"], row["noise"]) for row in report.rows if row["metric"] == module.FOUND}
    expected = {("toy", "generated", noise) for noise in ("0", "0.1", "0.1, truncated")}
    expected |= {("toy", "real", "0"), ("toy", "real", "0.1"), ("plain", "real", "0"), ("plain", "generated", "0")}
    expected |= {(f"{name}, bicubic", "generated", "") for name in models} | {("bicubic", "real", "")}
    assert found == expected | {(module.REAL, "", ""), ("pictures to learn from", "", "")}
    assert {row["n"] for row in report.rows} == {6}
    stages = {(row["source"], row["stage"]) for row in report.rows if row["metric"] == "PSNR"}
    assert stages == {
        (name, stage) for name in ("toy", "plain", "bicubic") for stage in ("8 to 16 pixels", "16 to 32 pixels")
    }
    assert values(report, module.FOUND, source=module.REAL) == [1.0]  # red discs, blue squares
    assert values(report, module.DISTANCE, source=module.REAL) == [pytest.approx(0, abs=1e-4)]
    assert values(report, module.DISTANCE, source="toy", small="generated", noise="0")[0] > 0.01  # which is random
    for psnr in values(report, "PSNR", source="bicubic"):
        assert psnr > values(report, "PSNR", source="toy")[0]
    assert "accuracy is 1.000" in report.title and report.data["chosen_by"] == ["p6"]


def test_what_a_model_has_seen_is_in_no_table_and_what_it_learned_from_is_needed(tmp_path, data):
    report, notes = run(tmp_path, data, {"toy": cascade(**known(data))})
    assert report.data["pictures"] == [one.name for one in read_data(data).examples][7:]
    assert "7 of 12 pictures are left out" in " ".join(notes)
    for model, says in (
        (cascade(), "none of the pictures that the model learned from"),
        (cascade(**known(data), classes=["disc", "star"]), "data: boxes of disc, square; the model knows disc, star"),
    ):
        with pytest.raises(UserError, match=says):
            run(tmp_path, data, {"toy": model})


def test_models_that_draw_something_else_are_one_line(data, tmp_path):
    for other, says in (
        (upscaler(), "beside: a model of superresolution, not a cascade"),
        (cascade(classes=["a", "b"]), "beside: a cascade of other kinds or sides"),
    ):
        with pytest.raises(UserError, match=says):
            run(tmp_path, data, {"toy": cascade(**known(data)), "other": other}, beside=("other",))


def test_the_classifier_tells_kinds_apart_and_swapped_kinds_are_all_wrong(tmp_path, data):
    crops = crops_of(read_data(data).examples, 32)
    network = module.classifier(crops[:20], 2, 32, 0, Notes(tmp_path))
    assert module.accuracy(network, crops[20:]) == 1
    pictures, kinds = np.stack([crop.picture for crop in crops[20:]]), np.array([crop.kind for crop in crops[20:]])
    real = module.seen_by(network, pictures)[0]
    right, wrong = (module.Judge(network, real, own).rows(pictures) for own in (kinds, 1 - kinds))
    assert (right[0]["value"], wrong[0]["value"]) == (1.0, 0.0) and right[1]["value"] == pytest.approx(0, abs=1e-4)


def test_a_classifier_is_the_same_of_one_seed(tmp_path, data):
    crops = crops_of(read_data(data).examples, 32)
    one, other = (module.classifier(crops, 2, 32, 3, Notes(tmp_path)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_nearness_of_the_truth_itself_is_perfect():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    assert module.psnr_row(module.smaller(pictures, 16), pictures, "truth", 8, "")["value"] == 100
    grey = np.full_like(pictures, 128)
    assert module.psnr_row(grey, pictures, "grey", 16, "")["value"] < 12
