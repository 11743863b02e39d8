"""Every program under benchmarks/ still runs: with --quick it prints figures and leaves nothing anywhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ("common.py", "fleet.py", "training_device.py", "training_peer.py")
PROGRAMS = [
    [file.name]
    for file in sorted((ROOT / "benchmarks").glob("*.py"))
    if file.name not in SHARED and not file.name.startswith("test_")
]
PROGRAMS.append(["training.py", "--device", "cpu"])


def saved():
    return {file: file.stat().st_mtime_ns for file in (ROOT / "docs").rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_a_quick_run_prints_figures_and_leaves_nothing(program, tmp_path):
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir(), temporary.mkdir()
    before, environment = saved(), os.environ | {"TMPDIR": str(temporary)}
    command = [sys.executable, ROOT / "benchmarks" / program[0], *program[1:], "--quick"]
    run = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    last = run.stderr.rstrip().rpartition("\n")[2]
    if last.startswith("not installed: "):
        pytest.skip(last)
    assert run.returncode == 0, run.stderr
    assert re.search(r"\b\d", run.stdout)
    assert saved() == before and [*here.iterdir(), *temporary.glob("benchmark-*")] == []


@pytest.mark.slow
def test_what_an_accelerator_is_measured_with_has_a_loss():
    """Each network's, on this machine's CPU; they need no peer."""
    code = "import training_device as t; print(*(t.describe(name) for name in t.names('cuda') if name != t.PEER))"
    command = [sys.executable, "-c", code, "--quick"]
    run = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("parameters") > 10
