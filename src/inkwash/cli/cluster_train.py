"""`--on ray`: the processes of a training on the machines of a Ray cluster."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer

from inkwash.cli.cluster import command_node, connected, resources
from inkwash.errors import UserError
from inkwash.progress import say
from inkwash.training.distributed import ProcessGone, rank
from inkwash.training.recipe import read_toml

RESTARTS = 10  # of a training whose processes die


def processor(recipe: Path | None, machine: dict[str, Any]) -> tuple[str | None, int]:
    """The device and the cores of a process of a training: what the command says, else its recipe. What is wrong
    there the training itself says."""
    table = {} if recipe is None else read_toml(recipe).get("fit")
    said = {key: value for key, value in machine.items() if value is not None}
    fit = (table if isinstance(table, dict) else {}) | said
    counts = [fit.get(key) for key in ("threads", "micro_batch_threads")]
    return fit.get("device"), max(1, math.prod(count for count in counts if isinstance(count, int)))


def train(
    on: str, workers: int, device: str | None, threads: int, run: Callable[..., None], folder: Path, begun: float
) -> None:  # fmt: skip
    """Runs the training in so many processes, which meet as under torchrun. Where one dies, Ray starts all again, and
    they go on from the checkpoint in the folder, which all machines must see. Its time counts from `begun`."""
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")  # importing torch may take a minute
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # which says every line twice
    with connected(on, log=True) as ray, TemporaryDirectory(prefix=".ray-", dir=folder) as storage:
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer

        wanted = resources(ray, device, threads)
        room = sum(node["Resources"].get(name, 0) // count for node in ray.nodes() for name, count in wanted.items())
        if workers > room:
            raise UserError(f"--workers {workers}: this cluster has room for {room:.0f} such processes")
        if any(ray.available_resources().get(name, 0) < workers * count for name, count in wanted.items()):
            say("the cluster is busy: the training begins when there is room for it")
        gpu, end = "GPU" in wanted, Path(storage, "end.json").absolute()
        clock = command_node(ray)(_now)  # those of other machines are others
        trainer = TorchTrainer(
            partial(_process, run, os.getcwd(), end, lambda: ray.get(clock.remote()) - begun),
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo", timeout_s=2 * 86_400),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=wanted),
            run_config=RunConfig(
                name="train", storage_path=str(end.parent), failure_config=FailureConfig(max_failures=RESTARTS)
            ),
        )
        try:
            ThreadPoolExecutor(1).submit(trainer.fit).result()  # in the main one it takes Ctrl-C for itself
        except TrainingFailedError as error:
            why = str(error).strip().splitlines()[-1]
            raise UserError(
                f"the processes died more than {RESTARTS} times ({why:.160}): the same command goes on"
            ) from None
        facts = json.loads(end.read_text(encoding="utf-8"))
    if "mistake" in facts:
        raise UserError(facts["mistake"])
    print(facts["text"], end="")
    if facts["code"]:
        raise typer.Exit(facts["code"])


def _now() -> float:
    return time.monotonic()


def _process(run: Callable[..., None], here: str, end: Path, elapsed: Callable[[], float]) -> None:
    """One process of a training. After a mistake of the user's Ray starts all again: then there is nothing to do."""
    from inkwash.cli import message
    from inkwash.weights.files import save_json

    if end.exists():
        return
    os.chdir(here)
    text, code = io.StringIO(), 0
    try:
        with redirect_stdout(text):
            run(started=time.monotonic() - elapsed())
    except typer.Exit as stop:
        code = stop.exit_code
    except Exception as error:
        if not isinstance(error, ProcessGone) and (said := message(error)) is not None:
            save_json(end, {"mistake": said})
        raise
    if rank() == 0:
        save_json(end, {"text": text.getvalue(), "code": code})
