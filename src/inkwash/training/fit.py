"""One training loop for every system."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Monitor, Note, duration, peak_memory
from inkwash.training import checkpoint
from inkwash.training.logger import Logger
from inkwash.training.placement import device_of, place
from inkwash.training.settings import FREE, Settings
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
    is stopped anyway. `held_out` are batches that nothing is learned from: with each checkpoint their mean loss
    under the averaged weights is noted in held_out.csv.

    Randomness is seeded anew from (seed, k) in each micro-step and everything else is in the checkpoints, so
    a run that is killed and started again with the same arguments ends with the same bits (float32, 1 thread).
    Only parameters that require a gradient are trained, averaged and kept in checkpoints.

    In `folder`: checkpoints/ (the last two), log.csv, tensorboard/, preview-STEP.png. Where lr_decay is "none",
    `steps` may change between starts; set to the steps that a stopped run has done, it returns that run's
    weights at once.

    Raises Stopped, with the module as it would be returned, when `monitor` says so (the console: after SIGINT or
    SIGTERM); UserError for a loss or gradient that is not finite (the last checkpoint stays as it was), for
    settings that contradict the run in `folder`, too little memory or disk, and a device that is not there.
    """
    torch.set_num_threads(settings.threads)
    folder, device = Path(folder), device_of(settings.device)
    folder.mkdir(parents=True, exist_ok=True)
    module.to(device=device, dtype=torch.float32).train()
    if settings.channels_last:
        for parameter in module.parameters():
            if parameter.ndim in (4, 5):
                layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
                parameter.data = parameter.data.contiguous(memory_format=layout)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("the module has no parameter that requires a gradient")
    weights: list[Tensor] = list(trained.values())
    averages = {name: p.detach().clone() for name, p in trained.items()}
    kernels, vectors = [p for p in weights if p.ndim > 1], [p for p in weights if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": kernels}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)
    optimizer.zero_grad()  # the caller may have left gradients

    checkpoints = folder / "checkpoints"
    facts: dict[str, Any] = {"step": 0, "log_bytes": 0}
    if found := checkpoint.latest(checkpoints, lambda text: monitor.tell(Note(text))):
        path, facts = found
        _check_same_run(settings, facts, folder)
        _restore(path, module, trained, averages, optimizer)
    start = done = facts["step"]
    last = min(settings.steps, until or settings.steps)

    def write_model() -> None:
        if save is not None and model is not None:
            with torch.no_grad():
                save(model)
            with atomic(model / "training.json") as file:
                file.write_text(json.dumps({"step": done, "steps": settings.steps}) + "\n")

    if start < last:
        needed = _check_resources(weights, optimizer, device, folder)
        size = settings.batch_size * settings.grad_accumulation

        def gradient(k: int, first: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
            """The loss of micro-step k and its gradient."""
            seed = int(np.random.SeedSequence((settings.seed, k)).generate_state(1, np.uint64)[0]) >> 1
            generator = torch.Generator(device).manual_seed(seed)
            torch.manual_seed(seed)  # dropout knows no other generator
            with (
                torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"),
                _memory_guard(weights, needed, enabled=first),
            ):
                value = loss(place(batch(k), device), generator) / settings.grad_accumulation
            return value.detach(), torch.autograd.grad(value, weights, materialize_grads=True)

        with (
            _micro_batch_map(settings) as micro_batch_map,
            Logger(folder, start, last, size, facts["log_bytes"], monitor) as logger,
        ):

            def write_checkpoint() -> None:
                notes = {"settings": asdict(settings), "log_bytes": logger.log_bytes}
                checkpoint.save(checkpoints, done, _state(module, trained, averages, optimizer), notes)

            saved_step, saved_at = start, (clock := time.monotonic())
            while done < last and not monitor.stopped():
                micro = range(done * settings.grad_accumulation, (done + 1) * settings.grad_accumulation)
                total, gradients = torch.zeros((), device=device), list[Tensor]()
                for value, terms in micro_batch_map(lambda k, first=done == start: gradient(k, first), micro):
                    total += value  # in order: the same bits with any number of threads
                    gradients = list(torch._foreach_add(gradients, terms) if gradients else terms)
                # as the parameter lies in memory: the fused kernel walks both alike
                gradients = [
                    g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
                    for p, g in zip(weights, gradients, strict=True)
                ]
                norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
                mean_loss, gradient_norm = torch.stack((total, norm)).tolist()  # the one wait for the device
                if not (math.isfinite(mean_loss) and math.isfinite(gradient_norm)):
                    raise UserError(
                        f"step {done + 1}: the loss is {mean_loss} and the norm of its gradient "
                        f"{gradient_norm}: stopped, the last checkpoint is untouched; look at the data, or "
                        "lower learning_rate or max_grad_norm in a new folder"
                    )
                if gradient_norm > settings.max_grad_norm:
                    torch._foreach_mul_(gradients, settings.max_grad_norm / gradient_norm)
                for p, g in zip(weights, gradients, strict=True):
                    p.grad = g
                rate = _learning_rate(settings, done)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad()
                decay = min(settings.ema_decay, (1 + done) / (10 + done))
                with torch.no_grad():
                    torch._foreach_lerp_(list(averages.values()), weights, 1 - decay)

                done, now = done + 1, time.monotonic()
                logger.step(done, mean_loss, gradient_norm, rate, now - clock)
                if done == start + 2:  # the first step also plans and allocates
                    left = duration((now - clock) * (last - done))
                    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
                    logger.log(f"about {left}; peak memory about {peak / 1e9:.1f} GB")
                if done == settings.steps or time.monotonic() - saved_at >= settings.checkpoint_minutes * 60:
                    write_checkpoint()
                    if done < settings.steps:
                        with _averaged(module, trained, averages):
                            write_model()
                    saved_step, saved_at = done, time.monotonic()
                if preview and (done % settings.preview_every == 0 or done == settings.steps):
                    with _averaged(module, trained, averages):
                        logger.sample(done, preview(module, done))
                clock = time.monotonic()
            if done > saved_step:
                write_checkpoint()

    for name, parameter in trained.items():
        parameter.data = averages[name]
    module.eval()
    if done:
        write_model()
    if done < settings.steps:
        raise Stopped(done, settings.steps)
    return module


@contextmanager
def _micro_batch_map(settings: Settings) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, in this thread or spread over `settings.micro_batch_threads`."""
    if settings.micro_batch_threads == 1:
        yield map
        return
    # torch counts its threads for every Python thread anew
    set_threads = partial(torch.set_num_threads, settings.threads)
    with ThreadPoolExecutor(settings.micro_batch_threads, initializer=set_threads) as pool:
        yield pool.map


def _learning_rate(settings: Settings, step: int) -> float:
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup))
    if settings.lr_decay == "cosine" and step >= settings.warmup:
        passed = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
        rate *= (1 + math.cos(math.pi * passed)) / 2
    return rate


def _state(
    module: nn.Module, trained: dict[str, nn.Parameter], averages: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {f"weights/{name}": p for name, p in trained.items()}
    state |= {f"buffers/{name}": b for name, b in module.named_buffers()}
    state |= {f"ema/{name}": average for name, average in averages.items()}
    for name, p in trained.items():
        state |= {f"{kind}/{name}": value for kind, value in optimizer.state[p].items()}
    return state


def _restore(
    path: Path,
    module: nn.Module,
    trained: dict[str, nn.Parameter],
    averages: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    kinds = checkpoint.load(path)
    current: dict[str, Mapping[str, Tensor]]
    current = {"weights": trained, "ema": averages, "buffers": dict(module.named_buffers())}
    for kind, tensors in current.items():
        saved = kinds.pop(kind, {})
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in tensors.items()}:
            raise UserError(f"{path} holds the weights of another network: choose a new folder for this run")
        for name, tensor in saved.items():
            tensors[name].data.copy_(tensor)
    for kind, saved in kinds.items():
        for name, tensor in saved.items():
            p = trained[name]
            # Moments must lie in memory as their parameter does: the fused kernel walks both alike.
            like = p if tensor.shape == p.shape else tensor
            optimizer.state[p][kind] = torch.empty_like(like, device=p.device, requires_grad=False).copy_(tensor)


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


@contextmanager
def _averaged(module: nn.Module, trained: dict[str, nn.Parameter], averages: dict[str, Tensor]) -> Iterator[None]:
    """The module with its averaged weights, for as long as the block lasts; no copies."""
    weights = {name: p.data for name, p in trained.items()}
    for name, p in trained.items():
        p.data = averages[name]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for name, p in trained.items():
            p.data = weights[name]
        module.train()


def _available_memory(device: torch.device, group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that this process may still take on the device; inf where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = math.inf
    if os.path.exists("/proc/meminfo"):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, int(limit) - used + int(stat["inactive_file"]))  # files that were read make room when asked
    return free


def _check_resources(
    weights: list[Tensor], optimizer: torch.optim.Optimizer, device: torch.device, folder: Path
) -> int:
    """Bytes still to be taken by gradients and moments; refuse a run for which there is clearly not enough."""
    size = sum(p.nbytes for p in weights)
    needed = size if optimizer.state else 3 * size
    if needed > (free := _available_memory(device)):
        raise UserError(
            f"training needs {needed / 1e9:.1f} GB beside the weights, {free / 1e9:.1f} GB are free: "
            "close other programs or choose a smaller network"
        )
    # A checkpoint holds weights, averages and two moments; a third is written before the first goes.
    if 12 * size > (disk := shutil.disk_usage(folder).free):
        raise UserError(f"checkpoints need {12 * size / 1e9:.1f} GB, {folder} has {disk / 1e9:.1f} GB free")
    return needed


@contextmanager
def _memory_guard(weights: list[Tensor], needed: int, enabled: bool) -> Iterator[None]:
    """Add up what the forward pass keeps for the backward pass; stop before the system kills the process."""
    if not enabled:
        yield
        return
    available = _available_memory(weights[0].device) - needed
    seen = {p.untyped_storage().data_ptr() for p in weights}
    activations = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal activations
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            activations += storage.nbytes()
        if activations > available:
            raise UserError(
                f"a batch needs more than the {available / 1e9:.1f} GB of free memory: halve batch_size and "
                "double grad_accumulation"
            )
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield
