"""Somebody adds a system: a folder and an entry point. What systems have in common it then has, with no edit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inkwash.systems.report import Report
from inkwash.weights.files import digest
from tests.house import path_with_points

HERE = Path(__file__).parent
RECIPE = 'task = "points"\n[fit]\nsteps = 400\nlearning_rate = 3e-3\nwarmup = 10\nema_decay = 0.9\n'


@pytest.fixture(scope="module")
def inkwash(tmp_path_factory):
    """The command line, where a package with the toy is installed."""
    path = path_with_points(tmp_path_factory.mktemp("site"))
    place = tmp_path_factory.mktemp("work")
    (place / "ring.toml").write_text(RECIPE)

    def start(*arguments):
        command, pipe = [sys.executable, "-m", "inkwash", *map(str, arguments)], subprocess.PIPE
        environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}
        return subprocess.Popen(command, cwd=place, env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(*arguments, code=0):
        process = start(*arguments)
        out, error = process.communicate()
        assert process.returncode == code, error
        return out if code == 0 else error

    run.place, run.start = place, start
    return run


@pytest.fixture(scope="module")
def model(inkwash):
    return inkwash("train", "ring.toml").strip()


def test_its_folder_is_small():
    assert sum(len(file.read_text().splitlines()) for file in (HERE / "points").glob("*.py")) < 150


def test_its_commands_have_help_with_bounds(inkwash):
    assert "Clouds of points in the plane." in inkwash("--help")
    for words in (["points", "scatter"], ["scatter"]):
        shown = " ".join(inkwash(*words, "--help").split())
        assert "Scatter points as a model has learned them." in shown and "[from 1 to 5000]" in shown
        assert "One of heun, ddim, ancestral, tuned." in shown and "--csv" in shown and "--device" in shown
    assert "evaluate" in inkwash("points", "--help")


def test_a_training_by_its_recipe_goes_on_where_it_was(inkwash, model):
    assert model == "runs/ring/model" and (inkwash.place / model / "system.json").is_file()
    before = (inkwash.place / model / "model.safetensors").read_bytes()
    assert inkwash("points", "train", "ring.toml").strip() == model
    assert (inkwash.place / model / "model.safetensors").read_bytes() == before


def test_a_run_holds_to_its_recipe(inkwash, model):
    """Once it is finished nothing is done; more steps train on; another recipe needs another folder."""
    command = ["train", "ring.toml", "--out", "runs/short"]
    inkwash(*command, "--steps", 5)
    before = {file: file.stat().st_mtime_ns for file in (inkwash.place / "runs/short").rglob("*") if file.is_file()}
    done = inkwash.start(*command, "--steps", 5, "--threads", 1)
    assert done.communicate() == (
        "runs/short/model\n",
        "inkwash: runs/short/model is finished: more --steps train it on, another --out begins another run\n",
    )
    assert {file: file.stat().st_mtime_ns for file in before} == before
    (inkwash.place / "wide.toml").write_text(RECIPE.replace("[fit]", "radius = 2.0\n[fit]\nseed = 1"))
    says = "runs/short holds a finished run with fit.seed = 0, not 1, radius = 1.0, not 2.0: choose another folder"
    assert says in inkwash("train", "wide.toml", "--out", "runs/short", code=2)
    inkwash(*command)
    weights = [inkwash.place / "runs" / name / "model/model.safetensors" for name in ("short", "ring")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_mistake_leaves_no_run_behind(inkwash):
    (inkwash.place / "bad.toml").write_text(RECIPE.replace("steps = 400", "steps = 400\ndevice = 'warp'"))
    assert "device 'warp' is not available" in inkwash("train", "bad.toml", code=2)
    inkwash("train", "ring.toml", "--out", "runs/bad", "--steps", 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_is_stopped_or_killed_goes_on(inkwash, number):
    """Its model is of use meanwhile; in the end it is the same as of a run that nothing befell."""
    (inkwash.place / "long.toml").write_text(RECIPE.replace("400", "1200") + "checkpoint_minutes = 1e-3\n")
    out = f"runs/{number.name}"
    process = inkwash.start("train", "long.toml", "--out", out)
    while len(list((inkwash.place / out).glob("checkpoints/*.json"))) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    shown, said = process.communicate()
    facts = json.loads((inkwash.place / out / "model/training.json").read_text())
    assert 0 < facts["step"] < facts["steps"] == 1200
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number and shown == f"{out}/model\n"
        assert f"stopped after step {facts['step']} of 1200; the model so far can be used\n" in said
        assert said.endswith("inkwash: run the same command to go on\n")
        drawn = inkwash.start("scatter", "--model", f"{out}/model", "-o", out)
        assert f"{out}/model is not finished: {facts['step']} of 1200 steps" in drawn.communicate()[1]
        assert drawn.returncode == 0
    assert inkwash("train", "long.toml", "--out", out) == f"{out}/model\n"
    if not (inkwash.place / "runs/long").exists():
        inkwash("train", "long.toml")
    weights = [inkwash.place / folder / "model/model.safetensors" for folder in (out, "runs/long")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_two_files_an_upload_and_the_same_again(inkwash, model):
    (inkwash.place / "shift.csv").write_text("5,0\n")
    lines = inkwash("scatter", "--model", model, "--seed", 3, "--count", 50, "-o", "o").splitlines()
    assert lines == ["o/scatter-3.png", "o/scatter-3.csv"]
    moved = inkwash(
        "scatter", "--model", model, "--seed", 3, "--count", 50, "--shift", "shift.csv", "-o", "m", "--json"
    )
    result = json.loads(moved)
    assert result["files"] == ["m/scatter-3.png", "m/scatter-3.csv"] and result["row"]["radius"] > 4
    assert result["recipe"]["shift"]["name"] == "shift.csv"
    assert "the same pixels" in inkwash("again", "o/scatter-3.png")
    rows = [(inkwash.place / name).read_text().splitlines() for name in ("o/scatter-3.csv", "m/scatter-3.csv")]
    for one, other in zip(*rows, strict=True):
        assert float(other.split(",")[0]) == pytest.approx(float(one.split(",")[0]) + 5)
    assert inkwash("scatter", "--model", model, "--seed", 3, "-o", "one.png").splitlines()[0] == "one.png"
    with Image.open(inkwash.place / "one.png") as picture:
        assert picture.size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--count", "0"], "count = 0: choose a whole number from 1 to 5000"),
        (["--count", "5001"], "count = 5001: choose a whole number"),
        (["--sampler", "ancestral"], "unknown sampler 'ancestral': choose from: ddim, heun, tuned"),
        (["--sampler", "huen"], "unknown sampler 'huen': did you mean heun?"),
        (["--shift", "none.csv"], "none.csv: no such file"),
        (["--size", "3"], "No such option: --size"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["-o", "a.jpg"], "give a .png file or a folder"),
    ],
)
def test_mistakes_are_one_line(inkwash, model, arguments, says):
    shown = inkwash("scatter", "--model", model, *arguments, code=2)
    assert says in shown and shown.count("\n") == 1
    assert "is a model of pictures: inkwash generate" in inkwash("scatter", "--model", "emoji", code=2)


def test_a_table_of_requests_goes_on_where_it_was(inkwash, model):
    (inkwash.place / "rows.csv").write_text("count,seed,name\n20,1,\n30,,a\n0,2,\n")
    command = ["scatter", "--model", model, "--csv", "rows.csv", "-o", "many"]
    first = inkwash(*command, code=2)
    assert "rows.csv, line 4: count = 0" in first and "2 made, 0 there already, 1 broken" in first
    assert sorted(path.name for path in (inkwash.place / "many").iterdir()) == [
        "a.csv", "a.png", "results.jsonl", "scatter-1.csv", "scatter-1.png",
    ]  # fmt: skip
    assert "0 made, 2 there already, 1 broken" in inkwash(*command, code=2)
    (inkwash.place / "many" / "a.csv").unlink()
    with (inkwash.place / "many" / "results.jsonl").open("a") as lines:
        lines.write('{"inkwash": "0.1.0", "name": "scatter-1", "req')  # a process that was killed
    assert "1 made, 1 there already, 1 broken" in inkwash(*command, code=2)
    assert (inkwash.place / "many" / "a.csv").is_file()
    assert "0 made, 2 there already, 1 broken" in inkwash(*command, code=2)


def test_a_report_beside_the_simplest_baseline(inkwash, model):
    shown = inkwash("evaluate", "--count", 300, model)
    report = Report.load(inkwash.place / "out/evaluate/report.json")
    assert report.markdown() in shown and report.cpu_seconds["in all"] > 0
    assert report.model == {"name": model, "sha256": digest(inkwash.place / model / "model.safetensors")}
    ours, noise = report.rows
    assert ours["n"] == 300 and ours["low"] < ours["value"] < ours["high"] < noise["low"] / 2


def test_it_is_tuned_by_the_verb_that_all_share(inkwash, model):
    assert "make one: inkwash tune" in inkwash("scatter", "--model", model, "--sampler", "tuned", code=2)
    *_, plain, tuned, file = inkwash("tune", model, "--steps", 4, "--samples", 64).splitlines()
    assert file == f"{model}/tables.json" and "the best untuned" in plain
    before, after = (float(line.split("|")[-2]) for line in (plain, tuned))
    assert after < before
    drawn = {}
    for sampler, steps in (("heun", 100), ("ddim", 4), ("tuned", 4)):
        how = ["--sampler", sampler, "--steps", steps, "--seed", 5, "-o", f"{sampler}-{steps}"]
        inkwash("scatter", "--model", model, *how)
        drawn[sampler] = np.loadtxt(inkwash.place / f"{sampler}-{steps}" / "scatter-5.csv", delimiter=",")
    tuned, plain = (np.abs(drawn[sampler] - drawn["heun"]).mean() for sampler in ("tuned", "ddim"))
    assert tuned < plain


def test_models_and_doctor_know_it(inkwash, model):
    shown = inkwash("models")
    assert f"{model} " in shown and "Clouds of points in the plane." in shown and "emoji" in shown
    (inkwash.place / "elsewhere").symlink_to(inkwash.place / "runs/ring")
    assert "elsewhere/model" in inkwash("models", "elsewhere")
    (inkwash.place / "empty").mkdir()
    assert "empty: no model in it" in inkwash("models", "empty", code=2)
    lines = inkwash("doctor").splitlines()
    (ready,) = (line for line in lines if "Clouds of points" in line)
    (missing,) = (line for line in lines if "no_such_module" in line)
    assert "ready" in ready and "missing" in missing and "scatter in space" in missing and "pip install" in missing


def test_a_plan_says_what_is_not_known_and_does_nothing(inkwash, model):
    before = sorted(inkwash.place.rglob("*"))
    assert inkwash("train", "ring.toml", "--out", "runs/new", "--plan") == (
        "how long it takes shows after its first steps\n"
    )
    # the run that is there has no steps left
    assert inkwash("train", "ring.toml", "--plan") == "about 1 s\n"
    assert inkwash("train", "ring.toml", "--plan", "--steps", 10**7).startswith("about ")
    assert "No such option: --plan" in inkwash("scatter", "--model", model, "--plan", code=2)
    assert sorted(inkwash.place.rglob("*")) == before
