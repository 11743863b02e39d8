"""Real processes that meet over gloo, as torchrun starts them."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import torch

from inkwash.errors import UserError
from inkwash.training import checkpoint, distributed
from inkwash.training.placement import device_of
from tests.conftest import ROOT
from tests.training import worker

WORKER = [sys.executable, "-m", "tests.training.worker"]


def start(folder, rank, port, steps=3, grad_accumulation=4, stop_after=0, slowly=0.0):
    """One of two processes."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    arguments = map(str, (folder, steps, grad_accumulation, stop_after, slowly))
    return subprocess.Popen(
        [*WORKER, *arguments], env=os.environ | where, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def both(folder, **how):
    """Runs two processes; what each wrote to standard error, and how it ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(folder, rank, port, **how) for rank in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    return errors, [process.returncode for process in processes]


def newest(folder):
    return checkpoint.load(max((folder / "checkpoints").glob("*.safetensors")))


def test_two_processes_compute_the_gradient_of_one_and_the_first_alone_writes(tmp_path):
    worker.train(tmp_path / "one", steps=1)
    errors, codes = both(tmp_path / "two", steps=1)
    assert codes == [0, 0], errors
    one, two = newest(tmp_path / "one"), newest(tmp_path / "two")
    for name, moment in one["exp_avg"].items():  # after a step, a tenth of the gradient
        assert (two["exp_avg"][name] - moment).abs().max() <= 1e-5 * moment.abs().max()
    assert set((tmp_path / "two" / "model" / "writers").read_text().split()) == {"0"}
    rows = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) == 2
    numbers = [[float(value) for value in lines[1].split(",")[:4]] for lines in rows]
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-5)


def test_a_run_whose_process_was_killed_goes_on_from_its_checkpoint(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert both(whole, steps=6)[1] == [0, 0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = (start(killed, rank, port, steps=6, slowly=0.2) for rank in range(2))
    while not list(killed.glob("checkpoints/step-*2.json")):
        time.sleep(0.01)
        assert first.poll() is None, first.communicate()
    second.kill()
    second.communicate()
    message = first.communicate(timeout=60)[1]
    assert first.returncode == 1 and "ProcessGone: another process of this training is gone" in message
    begun = json.loads(max((killed / "checkpoints").glob("*.json")).read_text())["step"]
    assert 2 <= begun < 6
    errors, codes = both(killed, steps=6)
    assert codes == [0, 0], errors
    expected = newest(whole)
    for kind, tensors in newest(killed).items():
        assert all(torch.equal(tensor, expected[kind][name]) for name, tensor in tensors.items())


def test_all_stop_where_one_is_told_to(tmp_path):
    errors, codes = both(tmp_path, steps=6, stop_after=2)
    assert codes == [1, 1]
    assert all("Stopped: stopped after step 2 of 6" in text for text in errors)
    assert json.loads(max((tmp_path / "checkpoints").glob("*.json")).read_text())["step"] == 2


def test_micro_batches_that_cannot_be_spread_are_refused(tmp_path):
    errors, codes = both(tmp_path, grad_accumulation=3)
    assert codes == [1, 1]
    assert all(
        "grad_accumulation = 3: so many micro-batches cannot be spread evenly over 2" in text for text in errors
    )


def test_a_process_that_is_alone_leads_whatever_its_environment_says(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (distributed.rank(), distributed.world_size()) == (3, 4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_said_to_each_of_many_processes(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match="device 'cuda:1' is not available here"):
        device_of("cuda")


def test_torchrun_starts_them(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    subprocess.run([*command, "tests.training.worker", tmp_path, "2", "2", "0", "0"], cwd=ROOT, check=True)
    assert json.loads((tmp_path / "model" / "training.json").read_text())["step"] == 2
