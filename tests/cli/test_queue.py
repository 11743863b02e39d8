"""A queue of trainings in many short calls ends with what uninterrupted runs end with."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.torch
from PIL import Image
from safetensors import SafetensorError

import inkwash
from inkwash.cli import context, main, queue
from inkwash.systems import train as systems_train
from inkwash.training import fit, logger, run
from inkwash.weights.files import lock

LANGUAGE = """
task = "language"
data = "{folder}/lines.txt"
source = 0
length = 6
min_count = 1
width = 16
layers = 1
heads = 2
[fit]
steps = {steps}
batch_size = 4
warmup = 1
"""
SERIES = """
task = "series"
data = "{folder}/table.csv"
horizon = 3
mode = "faithful"
context = 6
lags = [1]
[fit]
steps = {steps}
batch_size = 4
warmup = 1
"""
PICTURES = """
task = "pictures"
data = "{folder}/pictures"
words = false
[model]
size = 16
steps = 1
[network]
block_out_channels = [8, 8]
down_block_types = ["DownBlock2D", "DownBlock2D"]
up_block_types = ["UpBlock2D", "UpBlock2D"]
mid_block_type = "UNetMidBlock2D"
layers_per_block = 1
norm_num_groups = 4
[fit]
steps = {steps}
batch_size = 4
warmup = 1
"""
ENTRY = '[[train]]\nrecipe = "{name}.toml"\nout = "{out}/{name}"\n'


class FakeTime:
    """A clock that goes on by a second each time it is read."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Time, for all that looks at it in a training."""
    fake = FakeTime()
    for module in (context, queue, systems_train, fit):
        monkeypatch.setattr(module, "time", fake)
    return fake


@pytest.fixture
def recipes(tmp_path):
    """A small recipe of each of three systems, and their data."""
    (tmp_path / "lines.txt").write_text("the cat sat\na dog ran\nno bird sang\n" * 8)
    days = np.datetime64("2024-01-01") + np.arange(60)
    rows = [f"{day},{value:.3f}" for day, value in zip(days, np.random.default_rng(0).normal(size=60), strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["day,tea", *rows]))
    (tmp_path / "pictures").mkdir()
    for i in range(8):
        Image.new("RGB", (16, 16), (30 * i, 99, 0)).save(tmp_path / "pictures" / f"{i}.png")
    for name, text in {"language": LANGUAGE, "series": SERIES, "pictures": PICTURES}.items():
        (tmp_path / f"{name}.toml").write_text(text.format(folder=tmp_path, steps=30))
    return tmp_path


def write_queue(folder, *entries):
    (folder / "queue.toml").write_text("".join(entries))
    return str(folder / "queue.toml")


def entry(folder, name, **more):
    return ENTRY.format(name=name, out=folder) + "".join(f"{key} = {value}\n" for key, value in more.items())


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def network(folder):
    return next((folder / "model").rglob("*.safetensors")).read_bytes()


def test_short_calls_end_with_the_weights_of_uninterrupted_runs(recipes, clock, capsys):
    names = ["language", "series", "pictures"]
    for name in names:
        assert main(["train", str(recipes / f"{name}.toml"), "--out", str(recipes / "whole" / name)]) == 0
    file = write_queue(recipes, *(entry(recipes / "queue", name) for name in names))
    calls, stops = 0, 0
    capsys.readouterr()
    while calls < 40:
        assert main(["train", "--queue", file, "--minutes", "1"]) == 0
        calls += 1
        said = capsys.readouterr().err
        stops += "are over); the same command goes on" in said
        if said.count("is finished") == len(names):
            break
    assert 3 < calls < 40 and stops >= 3
    for name in names:
        assert network(recipes / "queue" / name) == network(recipes / "whole" / name)


def test_a_training_is_passed_once_it_has_used_its_minutes_over_all_calls(recipes, clock, capsys):
    (recipes / "language.toml").write_text(LANGUAGE.format(folder=recipes, steps=2000))
    out = recipes / "queue"
    file = write_queue(recipes, entry(out, "language", minutes=4), entry(out, "series"))
    for _ in range(9):
        assert main(["train", "--queue", file, "--minutes", "1.5"]) == 0
        if "language has used its 4 min" in (said := capsys.readouterr().err):
            break
    used = json.loads(max((out / "language" / "checkpoints").glob("*.json")).read_text())["seconds"]
    assert 240 - queue.LAST < used < 250
    step = json.loads((out / "language" / "model" / "training.json").read_text())["step"]
    assert main(["train", "--queue", file]) == 0
    said = capsys.readouterr().err
    assert "language has used its 4 min" in said and "series: series.toml" in said
    assert json.loads((out / "language" / "model" / "training.json").read_text())["step"] == step
    assert json.loads((out / "series" / "model" / "training.json").read_text())["step"] == 30


def test_what_fails_is_said_and_the_next_is_trained(recipes, capsys):
    (recipes / "pictures.toml").write_text(PICTURES.format(folder=recipes / "nowhere", steps=2))
    out = recipes / "queue"
    file = write_queue(recipes, entry(out, "pictures"), entry(out, "language"))
    assert main(["train", "--queue", file]) == 2
    said = capsys.readouterr().err
    assert f"inkwash: {out / 'pictures'} failed: " in said
    assert weights(out / "language")


@pytest.mark.parametrize("place", ["run.json", "log.csv", "model"])
def test_a_full_disk_is_said_and_the_next_is_trained(recipes, monkeypatch, capsys, place):
    out = recipes / "queue"
    file = write_queue(recipes, entry(out, "language"), entry(out, "series"))
    full = OSError(errno.ENOSPC, "No space left on device")

    def failing(error):
        def once(*_arguments, **_keys):
            monkeypatch.undo()
            raise error

        return once

    if place == "run.json":
        monkeypatch.setattr(run, "_save", failing(full))
    elif place == "log.csv":
        monkeypatch.setattr(logger.Logger, "log_steps", failing(full))
    else:  # the library's own error
        monkeypatch.setattr(safetensors.torch, "save_file", failing(SafetensorError("I/O error: No space left")))
    assert main(["train", "--queue", file]) == 2
    said = capsys.readouterr().err
    assert f"inkwash: {out / 'language'} failed: cannot write " in said and "make room" in said
    assert (out / "series" / "model").exists()


@pytest.mark.parametrize("text", ["", '{"recipe": 3}', '{"recipe": {}, "fin'])
def test_a_damaged_note_of_a_run_is_named(recipes, capsys, text):
    command = ["train", str(recipes / "language.toml"), "--out", str(recipes / "out")]
    assert main(command) == 0
    (recipes / "out" / "run.json").write_text(text)
    assert main(command) == 2
    assert "run.json: broken (" in capsys.readouterr().err
    (recipes / "out" / "run.json").unlink()  # as it says
    assert main(command) == 0


@pytest.mark.parametrize("text", ["", "[]", '{"st'])
def test_a_damaged_note_of_a_model_is_written_anew(recipes, text):
    command = ["train", str(recipes / "language.toml"), "--out", str(recipes / "out")]
    assert main(command) == 0
    note = recipes / "out" / "model" / "training.json"
    before = note.read_text()
    note.write_text(text)
    assert main(command) == 0
    assert note.read_text() == before


def test_what_another_process_trains_is_passed(recipes, capsys):
    out = recipes / "queue"
    file = write_queue(recipes, entry(out, "language"), entry(out, "series"))
    (out / "language").mkdir(parents=True)
    with lock(out / "language" / ".inkwash.lock", "held"):
        assert main(["train", "--queue", file]) == 0
    assert "language: another training works there" in capsys.readouterr().err
    assert not (out / "language" / "checkpoints").exists() and (out / "series" / "model").exists()


def test_nothing_is_begun_in_the_last_seconds(recipes, clock, capsys):
    file = write_queue(recipes, entry(recipes / "queue", "language"))
    assert main(["train", "--queue", file, "--minutes", "0.08"]) == 0
    assert "the time is over; the same command goes on" in capsys.readouterr().err
    assert not (recipes / "queue").exists()


def test_options_of_an_entry_are_those_of_the_command(recipes):
    out = recipes / "queue"
    (recipes / "other.txt").write_text("one two\nthree four\n" * 9)
    other = f'"{recipes}/other.txt"'
    file = write_queue(
        recipes, entry(out, "language", steps=2, data=other, threads=2), entry(out, "series", threads=3)
    )
    assert main(["train", "--queue", file, "--threads", "4"]) == 0  # which is nearer than the file
    assert "three" in inkwash.load(out / "language" / "model").vocabulary.words
    trained = {name: json.loads((out / name / "run.json").read_text())["recipe"] for name in ("language", "series")}
    assert [trained[name]["fit.steps"] for name in trained] == [2, 30]
    assert [trained[name]["fit.threads"] for name in trained] == [4, 4]
    (recipes / "queue.toml").write_text(entry(recipes / "again", "series", threads=3))
    assert main(["train", "--queue", file]) == 0
    assert json.loads((recipes / "again" / "series" / "run.json").read_text())["recipe"]["fit.threads"] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train = 3", "train must be"),
        ("[[train]", "is not valid TOML"),
        ("", "train"),
        ("[[train]]\nout = 'x'", "[train[0]] lacks the key 'recipe'"),
        ("[[train]]\nrecipe = 'language.toml'\nminuts = 3", "minuts"),
        ("[[train]]\nrecipe = 'language.toml'\nminutes = 0", "train[0].minutes must be above 0"),
        ("[[train]]\nrecipe = 'language.toml'\n[[train]]\nrecipe = 'lang'", "train[1].recipe: unknown recipe 'lang'"),
        ("[[train]]\nrecipe = 'language.toml'\n[[train]]\nrecipe = 'queue.toml'", "train[1].recipe: unknown task"),
        ("[[train]]\nrecipe = 'language.toml'\nout = 'a'\n[[train]]\nrecipe = 'series.toml'\nout = './a'",
         "train[1].out"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_refused_before_anything_is_trained(recipes, monkeypatch, capsys, text, said):
    monkeypatch.chdir(recipes)
    assert main(["train", "--queue", write_queue(recipes, text)]) == 2
    error = capsys.readouterr().err
    assert said in error and "queue.toml" in error and error.count("\n") == 1
    assert not (recipes / "runs").exists() and not (recipes / "a").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["emoji"], "leave 'emoji' out"),
        (["--out", "x"], "--out"),
        (["--data", "x"], "--data"),
        (["--steps", "3"], "--steps"),
        (["--minutes", "0"], "minutes = 0.0: choose a number above 0"),
        (["--minutes", "nan"], "minutes = 'nan': a number is needed"),
    ],
)
def test_options_that_a_queue_does_not_have_are_refused(recipes, capsys, more, said):
    file = write_queue(recipes, entry(recipes / "queue", "language"))
    assert main(["train", "--queue", file, *more]) == 2
    assert said in capsys.readouterr().err
    assert not (recipes / "queue").exists()


def test_a_device_that_is_none_is_said_once(recipes, capsys):
    file = write_queue(recipes, entry(recipes / "queue", "language"), entry(recipes / "queue", "series"))
    assert main(["train", "--queue", file, "--device", "gpu"]) == 2
    assert capsys.readouterr().err == "inkwash: unknown device 'gpu': did you mean cpu?\n"


def test_a_queue_is_for_one_process(recipes, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "--queue", write_queue(recipes, entry(recipes / "queue", "language"))]) == 2
    assert "give torchrun its recipes one by one" in capsys.readouterr().err


def test_a_call_that_is_killed_loses_no_more_than_the_steps_since_the_checkpoint(recipes):
    text = LANGUAGE.format(folder=recipes, steps=150) + "checkpoint_minutes = 0.0\n"
    (recipes / "language.toml").write_text(text)
    assert main(["train", str(recipes / "language.toml"), "--out", str(recipes / "whole")]) == 0
    out = recipes / "queue"
    file = write_queue(recipes, entry(out, "language"))
    process = subprocess.Popen(
        [sys.executable, "-m", "inkwash", "train", "--queue", file, "--minutes", "5"], stderr=subprocess.DEVNULL
    )
    checkpoints, deadline = out / "language" / "checkpoints", time.monotonic() + 120
    while not list(checkpoints.glob("step-*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = json.loads(max(checkpoints.glob("step-*.json")).read_text())["step"]
    assert 0 < before < 150
    rows = (out / "language" / "log.csv").read_text().splitlines()[: before + 1]
    assert main(["train", "--queue", file]) == 0
    assert weights(out / "language") == weights(recipes / "whole")
    assert (out / "language" / "log.csv").read_text().splitlines()[: before + 1] == rows  # they were not done again
