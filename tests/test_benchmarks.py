"""Every program under benchmarks/ still runs: with --quick it prints figures and leaves nothing anywhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = [file for file in sorted((ROOT / "benchmarks").glob("*.py")) if file.name != "common.py"]


def saved():
    return {file: file.stat().st_mtime_ns for file in (ROOT / "docs").rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda file: file.stem)
def test_a_quick_run_prints_figures_and_leaves_nothing(program, tmp_path):
    before, environment = saved(), os.environ | {"TMPDIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, program, "--quick"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    last = run.stderr.rstrip().rpartition("\n")[2]
    if last.startswith("not installed: "):
        pytest.skip(last)
    assert run.returncode == 0, run.stderr
    assert re.search(r"\b\d", run.stdout)
    assert saved() == before and list(tmp_path.iterdir()) == []
