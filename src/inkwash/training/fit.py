"""One training loop for every system."""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note, duration
from inkwash.training import checkpoint, distributed
from inkwash.training.logger import Logger
from inkwash.training.memory import check_resources, device_errors, memory_guard, peak_memory_of
from inkwash.training.placement import compiled, device_of, place, place_module, prefetch, use_tensor_cores
from inkwash.training.settings import FREE, Settings
from inkwash.training.state import TrainState
from inkwash.weights.files import atomic

Batch = Any
Loss = Callable[[Batch, torch.Generator], Tensor]
Preview = Callable[[nn.Module, int], Image.Image | np.ndarray | str]
Module = TypeVar("Module", bound=nn.Module)


class Stopped(Exception):
    """A training ended when it was asked to: its checkpoint is written, and it can go on from there."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}")
        self.step, self.steps = step, steps


@device_errors()
def fit(
    module: Module,
    loss: Loss,
    batch: Callable[[int], Batch],
    folder: str | Path,
    settings: Settings,
    preview: Preview | None = None,
    save: Callable[[Path], None] | None = None,
    model: Path | None = None,
    monitor: Monitor = CONSOLE,
    until: int | None = None,
    held_out: Sequence[Batch] = (),
) -> Module:
    """Train `module` in place and return it with the averaged (EMA) weights, float32, in eval mode.

    `loss(batch, generator)` is a scalar, the mean over the batch, and closes over the module; all its
    randomness comes from `generator`. `batch(k)` is the k-th batch (any nest of tensors, moved to the device;
    other values pass unchanged) and depends on k alone: micro-step m of step n asks for
    k = n * grad_accumulation + m. `preview(module, step)` draws samples with the averaged weights.
    `save(model)` writes what is of use, with the averaged weights, into the folder `model`: with each
    checkpoint and at the end. How far it is trained lies beside it in training.json: {"step", "steps"}.
    `monitor` is told of steps, samples and notes, and may stop the training; `until`: the step at which it
    is stopped anyway. `held_out` are batches that nothing is learned from: with each checkpoint and preview their
    mean loss under the averaged weights is noted in held_out.csv, and in training.json as "held_out_loss".

    Randomness is seeded anew from (seed, k) in each micro-step and everything else is in the checkpoints, so
    a run that is killed and started again with the same arguments ends with the same bits (float32, 1 thread).
    Only parameters that require a gradient are trained, averaged and kept in checkpoints.

    On an accelerator batches are made ahead in another thread, and nothing waits for the device but every `log_every`
    steps, where losses are read; a loss should draw and make what it needs there. Started by torchrun, each process
    computes its share of the `grad_accumulation` micro-batches of a step and the first one writes; see `distributed`.

    In `folder`: checkpoints/ (the last two), log.csv, tensorboard/, preview-STEP.png. Where lr_decay is "none",
    `steps` may change between starts; set to the steps that a stopped run has done, it returns that run's
    weights at once.

    Raises Stopped, with the module as it would be returned, when `monitor` says so (the console: after SIGINT or
    SIGTERM); UserError for a loss or gradient that is not finite (the last checkpoint stays as it was), for
    settings that contradict the run in `folder`, too little memory or disk, and a device that is not there.
    """
    torch.set_num_threads(settings.threads)
    folder, device, leads = Path(folder), device_of(settings.device), distributed.rank() == 0
    distributed.start(settings.grad_accumulation)
    use_tensor_cores(device)
    folder.mkdir(parents=True, exist_ok=True)
    place_module(module, device, settings.channels_last)
    module.train()
    state = TrainState(module, settings)
    checkpoints = folder / "checkpoints"
    facts = _resume(state, settings, checkpoints, monitor)
    start = done = facts["step"]
    last, eager = min(settings.steps, until or settings.steps), settings.compile == "none"
    held_out = place(list(held_out), device)
    held_out_loss = {start: facts["held_out_loss"]} if "held_out_loss" in facts else dict[int, float]()

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16")

    def write_model() -> None:
        """With the averaged weights, which the module has now."""
        if save is not None and model is not None:
            with torch.no_grad():
                save(model)
            trained = {"step": done, "steps": settings.steps}
            trained |= {"held_out_loss": held_out_loss[done]} if done in held_out_loss else {}
            with atomic(model / "training.json") as file:
                file.write_text(json.dumps(trained) + "\n")

    def measure() -> None:
        """The held-out loss, by the averaged weights, which the module has now."""
        if held_out and done not in held_out_loss:
            with autocast():
                losses = [
                    loss(examples, _randomness(settings, device, k, 1)).float() for k, examples in enumerate(held_out)
                ]
            held_out_loss[done] = torch.stack(losses).mean().item()
            logger.held_out(done, held_out_loss[done])

    if start < last:
        needed = check_resources(state.weights, not state.optimizer.state, device, folder)
        size = settings.batch_size * settings.grad_accumulation
        begun = clock = saved_at = time.monotonic()
        saved_step, stopped = start, distributed.total(monitor.stopped()) > 0
        unread: list[Tensor] = []  # losses and norms of the last steps, on the device

        def gradient(k: int, first: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
            """The loss of micro-step k and its gradient."""
            examples, generator = fetch(k), _randomness(settings, device, k)
            if settings.compile == "reduce-overhead":
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            with autocast(), memory_guard(state.weights, needed, enabled=first and device.type == "cpu" and eager):
                value = loss(examples, generator) / settings.grad_accumulation
            return value.detach(), torch.autograd.grad(value, state.weights, materialize_grads=True)

        def read() -> None:
            """Note the losses of the last steps: the one wait for the device."""
            rows = torch.stack(unread).tolist() if unread else []
            first = done - len(rows)
            _check_finite(rows, first + 1)
            if rows and leads:
                rates = (_learning_rate(settings, step) for step in range(first, done))
                noted = [(value, norm, rate) for (value, norm), rate in zip(rows, rates, strict=True)]
                logger.log_steps(first + 1, noted, (time.monotonic() - clock) / len(rows))
            unread.clear()

        def write_checkpoint() -> None:
            seconds = facts["seconds"] + time.monotonic() - begun
            notes = {"settings": asdict(settings), "log_bytes": logger.log_bytes, "seconds": seconds}
            notes |= {"held_out_loss": held_out_loss[done]} if done in held_out_loss else {}
            writer.save(done, state.tensors(), notes)
            if not any(checkpoints.glob("*.json")):  # a model with no checkpoint beside it would be nobody's
                writer.wait()

        with ExitStack() as stack:
            writer = stack.enter_context(checkpoint.Writer(checkpoints))
            home = folder if leads else Path(stack.enter_context(TemporaryDirectory()))
            logger = stack.enter_context(Logger(home, start, last, size, facts["log_bytes"], monitor))
            stack.enter_context(compiled(module, settings.compile))
            micro_batch_map, fetch = _micro_batches(stack, batch, range(start, last), device, settings)

            while done < last and not stopped:
                first, micro_steps = done == start, distributed.micro_steps(done, settings.grad_accumulation)
                for value, terms in micro_batch_map(lambda k, first=first: gradient(k, first), micro_steps):
                    state.add(value, terms)  # in order: the same bits with any number of threads
                ema_decay = min(settings.ema_decay, (1 + done) / (10 + done))
                unread.append(state.step(_learning_rate(settings, done), settings.max_grad_norm, ema_decay))
                done += 1

                shows = preview is not None and (done % settings.preview_every == 0 or done == settings.steps)
                over = time.monotonic() - saved_at >= settings.checkpoint_minutes * 60
                due = leads and (over or done == settings.steps)
                agreed = done <= start + 2 or done % settings.log_every == 0 or done >= last or shows
                if not (agreed or due):
                    stopped = distributed.world_size() == 1 and monitor.stopped()
                    continue
                read()
                if leads and done == start + 2:  # the first step also plans and allocates
                    left = duration((time.monotonic() - clock) * (last - done))
                    logger.log(f"about {left}; peak memory about {peak_memory_of(device) / 1e9:.1f} GB")
                if leads and (due or shows):
                    with state.averaged():
                        measure()
                if due:
                    write_checkpoint()
                    saved_step, saved_at = done, time.monotonic()
                if leads and (due or shows):
                    with state.averaged():
                        if due and done < settings.steps:
                            write_model()
                        if preview and shows:
                            logger.sample(done, preview(module, done))
                if agreed or distributed.world_size() == 1:  # the clocks of several processes differ
                    stopped = distributed.total(monitor.stopped()) > 0
                clock = time.monotonic()
            read()
            if leads and done > saved_step:
                with state.averaged():
                    measure()
                write_checkpoint()
            writer.wait()

    state.use_averages()
    if leads and done:
        write_model()
    distributed.barrier()  # what the first has written is there for all
    if done < settings.steps:
        raise Stopped(done, settings.steps)
    return module


def _micro_batches(
    stack: ExitStack, batch: Callable[[int], Batch], steps: range, device: torch.device, settings: Settings
) -> tuple[Callable[..., Iterable[Any]], Callable[[int], Batch]]:
    """How a function of micro-steps is mapped over them, and how it gets the batch of one: on an accelerator they are
    made ahead; on a CPU each in its own turn, perhaps several at once."""
    if device.type != "cpu":
        numbers = (k for step in steps for k in distributed.micro_steps(step, settings.grad_accumulation))
        batches = stack.enter_context(closing(prefetch(batch, numbers, device)))
        return map, lambda _: next(batches)
    if settings.micro_batch_threads == 1:
        return map, lambda k: place(batch(k), device)
    # torch counts its threads for every Python thread anew
    set_threads = partial(torch.set_num_threads, settings.threads)
    pool = ThreadPoolExecutor(settings.micro_batch_threads, initializer=set_threads)
    return stack.enter_context(pool).map, lambda k: place(batch(k), device)


def _learning_rate(settings: Settings, step: int) -> float:
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup))
    if settings.lr_decay == "cosine" and step >= settings.warmup:
        passed = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
        rate *= (1 + math.cos(math.pi * passed)) / 2
    return rate


def _randomness(settings: Settings, device: torch.device, *key: int) -> torch.Generator:
    """A generator of the device for what has this key; torch's own are seeded with it, dropout knows no other."""
    seed = int(np.random.SeedSequence((settings.seed, *key)).generate_state(1, np.uint64)[0]) >> 1
    torch.manual_seed(seed)
    return torch.Generator(device).manual_seed(seed)


def _check_finite(rows: list[list[float]], first: int) -> None:
    """UserError for the first step, counted from `first`, whose loss or norm of the gradient is not finite."""
    for step, (value, norm) in enumerate(rows, first):
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise UserError(
                f"step {step}: the loss is {value} and the norm of its gradient {norm}: stopped, the last checkpoint "
                "is untouched; look at the data, or lower learning_rate or max_grad_norm in a new folder"
            )


def _resume(state: TrainState, settings: Settings, checkpoints: Path, monitor: Monitor) -> dict[str, Any]:
    """Takes on the newest checkpoint, if there is one; returns its facts."""
    facts: dict[str, Any] = {"step": 0, "log_bytes": 0, "seconds": 0.0}
    if found := checkpoint.latest(checkpoints, lambda text: monitor.tell(Note(text))):
        path, saved = found
        facts |= saved
        _check_same_run(settings, facts, checkpoints.parent)
        state.restore(path)
    if distributed.total(facts["step"]) != distributed.world_size() * facts["step"]:
        raise UserError(f"{checkpoints}: the processes do not see the same there; it must be one folder for all")
    return facts


def _check_same_run(settings: Settings, facts: dict[str, Any], folder: Path) -> None:
    before = facts["settings"]
    for field in fields(Settings):
        key, new = field.name, getattr(settings, field.name)
        old = before.get(key, new)
        old = tuple(old) if isinstance(old, list) else old  # JSON knows no tuples
        if key not in FREE and new != old:
            raise UserError(f"{folder} holds a run with {key} = {old}, not {new}: choose a new folder for it")
    if settings.steps < facts["step"]:
        raise UserError(f"steps = {settings.steps}, but the run in {folder} has done {facts['step']} already")
    if settings.lr_decay != "none" and settings.steps != before["steps"]:
        raise UserError(
            f"steps cannot change from {before['steps']} to {settings.steps}: the {settings.lr_decay} decay of "
            f"the run in {folder} depends on it; choose a new folder"
        )
