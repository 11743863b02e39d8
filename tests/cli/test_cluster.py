"""`--on ray`, on a cluster whose nodes die."""

import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import torch

from inkwash.cli import cluster, cluster_train, main, verbs
from inkwash.errors import UserError
from inkwash.systems import systems
from inkwash.systems.base import Result
from tests.house import path_with_points

missing = find_spec("ray") is None or sys.platform != "linux"
needs_ray = pytest.mark.skipif(missing, reason="no Ray, or a system on which it has no clusters of several nodes")
RECIPE = """
task = "points"
[fit]
steps = 30
learning_rate = 3e-3
batch_size = 8
grad_accumulation = 2
checkpoint_minutes = 0
"""
MORTAL = '''
import os
from dataclasses import dataclass
from typing import Annotated
from inkwash.systems.base import Help, Request, Result, System, Verb


@dataclass(frozen=True, kw_only=True)
class Live(Request):
    """Write a seed, or die."""

    dies: Annotated[bool, Help("The process ends.")] = False
    seed: Annotated[int | None, Help("What is written.")] = None


def live(requests, context):
    for of, request in enumerate(requests):
        if request.dies:
            os._exit(7)
        file = context.folder / f"{of}.csv"
        file.write_text(str(request.seed))
        yield Result(of, 0, {".csv": file}, recipe=request.facts())


LIVE = Verb(Live, "mortal:live", endings=(".csv",))
SYSTEM = System("mortal", "Rows that may kill their process.", {"live": LIVE}, "")
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def start(tmp_path_factory, place):
    """Starts a command, where packages with toy systems are installed."""
    site = tmp_path_factory.mktemp("site")
    about = site / "mortal-1.0.dist-info"
    about.mkdir()
    (site / "mortal.py").write_text(MORTAL)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[inkwash.systems]\nmortal = mortal:SYSTEM\n")
    environment = os.environ | {
        "PYTHONPATH": path_with_points(site),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",  # its ports are open to the network
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",  # as the tests beside them
        "TMPDIR": "/tmp",  # a socket's path has 107 bytes at most
    }

    def start(*command, **more):
        how = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | {"env": environment | more}
        return subprocess.Popen([sys.executable, *map(str, command)], cwd=place, text=True, **how)

    return start


@pytest.fixture(scope="module")
def inkwash(start):
    """Runs inkwash; what it prints."""

    def run(*arguments, code=0):
        process = start("-m", "inkwash", *arguments)
        out, error = process.communicate()
        assert process.returncode == code, error
        return out, error

    return run


@pytest.fixture(scope="module")
def model(inkwash, place):
    (place / "ring.toml").write_text(RECIPE)
    return inkwash("train", "ring.toml")[0].strip()


@pytest.fixture(scope="module")
def nodes(start):
    """A function that makes a cluster's node die, or adds one; and the cluster's address."""
    process = start(Path(__file__).with_name("cluster_nodes.py"))
    address = process.stdout.readline().strip()
    assert address, process.communicate()[1]

    def obey(line):
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{line}\n"

    obey.address = f"ray://{address}"
    yield obey
    process.communicate()


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "results.jsonl"}


@needs_ray
def test_rows_are_those_of_one_process_and_are_not_made_again(inkwash, model, nodes, place):
    (place / "shift.csv").write_text("5,0\n")
    (place / "rows.csv").write_text("count,seed,shift,name\n20,1,shift.csv,\n30,,,a\n0,2,,\n9,2,,b\n")
    command = ["scatter", "--model", model, "--csv", "rows.csv"]
    inkwash(*command, "-o", "alone", code=2)
    out, said = inkwash(*command, "-o", "many", "--on", nodes.address, "--json", code=2)
    assert "rows.csv, line 4: count = 0" in said and "3 made, 0 there already, 1 broken" in said
    assert files(place / "many") == files(place / "alone") and len(files(place / "many")) == 6
    results = {result["of"]: result for result in map(json.loads, out.splitlines())}
    assert sorted(results) == [0, 1, 3] and results[0]["row"]["radius"] > 4
    assert results[0]["files"] == ["many/scatter-1.png", "many/scatter-1.csv"]
    (place / "many" / "b.csv").unlink()
    shutil.rmtree(place / "alone")
    assert "1 made, 2 there already, 1 broken" in inkwash(*command, "-o", "many", "--on", nodes.address, code=2)[1]


@needs_ray
def test_a_ray_of_ones_own_makes_the_same_and_ends(inkwash, model, place):
    (place / "own.csv").write_text("count,seed\n20,1\n30,2\n")
    command = ["scatter", "--model", model, "--csv", "own.csv"]
    inkwash(*command, "-o", "by itself")
    out, said = inkwash(*command, "-o", "on its own", "--on", "ray")
    assert files(place / "on its own") == files(place / "by itself") and len(out.splitlines()) == 4
    assert "2 made, 0 there already, 0 broken" in said and "Warning" not in said and "Traceback" not in said


@needs_ray
def test_a_ray_of_ones_own_that_is_stopped_leaves_what_is_made_and_nothing_else(start, model, place):
    (place / "stop.csv").write_text("count,seed,steps\n" + "".join(f"300,{seed},300\n" for seed in range(2000)))
    with TemporaryDirectory(dir="/tmp") as folder:
        command = ["scatter", "--model", model, "--csv", "stop.csv", "-o", "stopped", "--on", "ray"]
        process = start("-m", "inkwash", *command, RAY_TMPDIR=folder)
        while not (place / "stopped" / "results.jsonl").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        assert os.listdir(folder)
        process.terminate()
        said = process.communicate()[1]
        assert process.returncode == 128 + signal.SIGTERM and "SIGTERM" not in said
        assert os.listdir(folder) == []


@needs_ray
def test_a_node_that_dies_loses_nothing(start, inkwash, model, nodes, place):
    rows = 60
    (place / "slow.csv").write_text("count,seed,steps\n" + "".join(f"300,{seed},300\n" for seed in range(rows)))
    command = ["scatter", "--model", model, "--csv", "slow.csv"]
    process = start("-m", "inkwash", *command, "-o", "killed", "--on", nodes.address)
    record = place / "killed" / "results.jsonl"
    while not record.exists() or record.read_bytes().count(b"\n") < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    nodes("kill")
    out, said = process.communicate()
    nodes("add")
    assert process.returncode == 0 and f"{rows} made, 0 there already, 0 broken" in said, said
    assert len(out.splitlines()) == 2 * rows and record.read_bytes().count(b"\n") == rows
    inkwash(*command, "-o", "whole")
    assert files(place / "killed") == files(place / "whole")


@needs_ray
def test_a_row_that_kills_its_process_is_said_and_the_others_are_made(inkwash, nodes, place):
    """The one of its block among them."""
    rows = 17
    (place / "mortal.csv").write_text("seed,dies\n" + "".join(f"{i},{'yes' * (i == 5)}\n" for i in range(rows)))
    command = ["mortal", "live", "--csv", "mortal.csv", "-o", "dead", "--on", nodes.address]
    out, said = inkwash(*command, code=2)
    (line, counts) = (line for line in said.splitlines() if "mortal.csv" in line or "broken" in line)
    assert line == "inkwash: mortal.csv, line 7: its process died 3 times, for want of memory perhaps"
    assert counts == f"{rows - 1} made, 0 there already, 1 broken"
    written = {f"live-{i}.csv": str(i).encode() for i in range(rows) if i != 5}
    assert files(place / "dead") == written and len(out.splitlines()) == rows - 1


@needs_ray
def test_an_evaluation_is_that_of_one_process(inkwash, model, nodes, place):
    inkwash("evaluate", model, "--count", 60, "-o", "alone")
    inkwash("evaluate", model, "--count", 60, "-o", "many", "--on", nodes.address)
    alone, many = (json.loads((place / folder / "report.json").read_text()) for folder in ("alone", "many"))
    assert many["rows"] == alone["rows"] and {row["n"] for row in many["rows"]} == {60}
    out, said = inkwash("evaluate", model, "-o", "many", "--on", "ray://127.0.0.1:1", code=2)
    assert (
        not out
        and "--on ray://127.0.0.1:1: " in said
        and json.loads((place / "many/report.json").read_text()) == many
    )


@needs_ray
def test_a_case_of_a_process_that_dies_is_begun_again_but_not_for_ever(start, nodes):
    squares = Path(__file__).with_name("cluster_map.py")
    assert start(squares, nodes.address, 1).communicate()[0] == "True False\n"
    assert "UserError: its process died 3 times" in start(squares, nodes.address, 9).communicate()[1]


@needs_ray
def test_a_training_is_that_of_torchrun_though_a_node_dies(start, nodes, place):
    (place / "long.toml").write_text(RECIPE.replace("steps = 30", "steps = 100"))
    process = start("-m", "inkwash", "train", "long.toml", "--out", "on-ray", "--on", nodes.address, "--workers", 2)
    while len(list((place / "on-ray").glob("checkpoints/*.json"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    nodes("kill")
    assert process.poll() is None
    nodes("add")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "inkwash"]
    peer = start(*torchrun, "train", "long.toml", "--out", "by-torchrun")
    assert peer.communicate()[0] == "by-torchrun/model\n"
    out, said = process.communicate()
    assert (process.returncode, out) == (0, "on-ray/model\n"), said
    weights = [(place / run / "model" / "model.safetensors").read_bytes() for run in ("on-ray", "by-torchrun")]
    assert weights[0] == weights[1]
    assert not list((place / "on-ray").glob(".ray-*"))


@needs_ray
def test_a_training_that_is_stopped_leaves_its_checkpoint_and_nothing_else(start, nodes, place):
    (place / "endless.toml").write_text(RECIPE.replace("steps = 30", "steps = 1000000"))
    process = start("-m", "inkwash", "train", "endless.toml", "--out", "endless", "--on", nodes.address)
    while not list((place / "endless").glob("checkpoints/*.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in said, said
    assert list((place / "endless").glob("checkpoints/*.json")) and not list((place / "endless").glob(".ray-*"))


@needs_ray
def test_a_mistake_in_a_training_is_one_line(inkwash, nodes, place):
    (place / "odd.toml").write_text(RECIPE.replace("accumulation = 2", "accumulation = 3"))
    said = inkwash("train", "odd.toml", "--on", nodes.address, "--workers", 2, code=2)[1].splitlines()
    assert "grad_accumulation = 3: so many micro-batches cannot be spread evenly over 2" in said[-1]
    said = inkwash("train", "odd.toml", "--on", nodes.address, "--workers", 9, code=2)[1].splitlines()
    assert "--workers 9: this cluster has room for 2 such processes" in said[-1]
    (place / "odd.toml").write_text(RECIPE.replace("[fit]", "[fit]\ndevice = 'cuda'"))
    said = inkwash("train", "odd.toml", "--on", nodes.address, code=2)[1].splitlines()
    assert "no machine of this cluster has 1 GPU" in said[-1]


@pytest.mark.parametrize(
    ("fit", "options", "processor"),
    [
        ("", {}, (None, 1)),
        ("device = 'cuda'\nthreads = 2\nmicro_batch_threads = 3", {}, ("cuda", 6)),
        ("device = 'cuda'\nthreads = 2", {"device": "cpu", "threads": 4}, ("cpu", 4)),
        ("threads = 'two'", {}, (None, 1)),
    ],
)
def test_a_process_of_a_training_has_what_the_command_says_or_the_recipe(fit, options, processor, tmp_path):
    (tmp_path / "ring.toml").write_text(f"task = 'points'\n[fit]\n{fit}\n")
    given = dict.fromkeys(("device", "precision", "runtime", "threads")) | options
    assert cluster_train.processor(tmp_path / "ring.toml", given) == processor


def test_a_recipe_without_settings_takes_one_core(tmp_path):
    (tmp_path / "odd.toml").write_text("task = 'points'\nfit = 'none'\n")
    assert cluster_train.processor(tmp_path / "odd.toml", {"device": None}) == (None, 1)
    assert cluster_train.processor(None, {"device": "cuda"}) == ("cuda", 1)


@pytest.mark.parametrize(("device", "says"), [("cuda:1", "device cuda:1 means nothing"), ("mps", "device mps means")])
def test_a_device_of_a_recipe_that_ray_does_not_give_is_refused(device, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text(f"task = 'series'\n[fit]\nsteps = 5\ndevice = '{device}'\n")
    assert main(["train", "a.toml", "--on", "ray"]) == 2
    assert says in capsys.readouterr().err and os.listdir() == ["a.toml"]


def test_the_time_of_a_training_counts_from_the_commands_start(tmp_path, monkeypatch):
    """By the clock of its machine, however often its processes begin anew."""
    contexts, series = [], systems()["series"]
    monkeypatch.setattr(verbs, "run_one", lambda *arguments: contexts.append(arguments[4]))
    options = {"out": None, "as_json": False, "timings": False, "only_plan": None}
    run, before = partial(verbs.perform, series, series.verbs["train"], {}, **options), time.monotonic()
    cluster_train._process(run, os.getcwd(), tmp_path / "end.json", lambda: 500.0)
    assert before - 500 <= contexts[0].started <= time.monotonic() - 500


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--on", "spark"], "--on spark: give ray, or ray://HOST:PORT"),
        (["--on", "ray://host"], "give ray, or ray://HOST:PORT"),
        (["--on", "ray", "--plan"], "--plan means nothing with --on"),
        (["--on", "ray", "--sprite"], "--sprite means nothing with --on"),
        (["--on", "ray", "--device", "cuda:1"], "device cuda:1 means nothing with --on"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("prompt\na fox\n")
    assert main(["generate", "--csv", "rows.csv", *arguments]) == 2
    assert says in capsys.readouterr().err and os.listdir() == ["rows.csv"]


def test_there_must_be_rows_to_spread_and_a_cluster_to_train_on(capsys):
    assert main(["generate", "a fox", "--on", "ray"]) == 2
    assert "--on spreads the rows of a table over machines: give one with --csv" in capsys.readouterr().err
    assert main(["train", "emoji", "--workers", "2"]) == 2
    assert "--workers means nothing without --on" in capsys.readouterr().err


@needs_ray
def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("prompt\na fox\n")
    assert main(["generate", "--csv", "rows.csv", "--on", "ray://127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert "--on ray://127.0.0.1:1: " in said and "ray start" in said and os.listdir() == ["rows.csv"]


def test_models_go_by_name_and_must_be_the_same_there(tmp_path):
    pytest.importorskip("ray")
    here, there, other = (SimpleNamespace(hash=hash, scale=scale) for hash, scale in (("a", 1), ("a", 2), ("b", 3)))
    content = cluster.by_name(lambda x: x * here.scale, {"mine": here})
    assert cluster.Unpickler(content, SimpleNamespace(model={"mine": there}.get)).load()(5) == 10
    with pytest.raises(UserError, match="mine: another model of this name lies on one of the machines"):
        cluster.Unpickler(content, SimpleNamespace(model={"mine": other}.get)).load()


def test_results_go_from_one_folder_to_another(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "model").mkdir(parents=True), there.mkdir()
    (here / "a.png").write_bytes(b"a"), (here / "model" / "w").write_bytes(b"w")
    (there / "left").mkdir(), (there / "left" / "over").touch()
    results = [Result(0, 0, {".png": here / "a.png"}), Result(0, None, {}, model=here / "model")]
    packed, contents = cluster.pack(results, here)
    assert contents == {"a.png": b"a", "model/w": b"w"}
    one, other = cluster.unpack(packed, contents, there)
    assert one.files == {".png": there / "a.png"} and one.files[".png"].read_bytes() == b"a"
    assert other.model == there / "model" and sorted(path.name for path in there.iterdir()) == ["a.png", "model"]
    assert cluster.pack(None, here) == (None, {}) and cluster.unpack(None, {}, there) is None


def test_of_what_processes_say_our_own_lines_are_shown():
    out, error = io.StringIO(), io.StringIO()
    stream = cluster._Ours(out, error)
    print("a result", file=stream)
    foreign = "(Worker pid=7) inkwash: 3 of 9\n(Worker pid=7) a warning of somebody's\n"
    thread = threading.Thread(target=print, args=(foreign,), kwargs={"file": stream}, name="any")
    thread.start(), thread.join()
    assert (out.getvalue(), error.getvalue()) == ("a result\n", "inkwash: 3 of 9\n")


@needs_ray
@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there, which this test goes without")
def test_rows_go_to_a_gpu_whose_want_is_one_line(inkwash, nodes, place):
    """On a machine that says it has one. It is the last test on these nodes: others count on their having none."""
    nodes("add a GPU")
    (place / "gpu.csv").write_text("seed\n1\n2\n")
    said = inkwash("mortal", "live", "--csv", "gpu.csv", "--on", nodes.address, "--device", "cuda", code=2)[1]
    assert "device 'cuda' is not available here" in said and "Traceback" not in said
