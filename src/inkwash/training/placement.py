"""Where a training computes: the one place that knows devices."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inkwash.errors import UserError

AHEAD = 2  # batches that wait to be asked for


def device_of(name: str) -> torch.device:
    """The device of this name; "cuda" is that of this process where torchrun started several. UserError for one that
    is not there."""
    try:
        if name == "cuda" and "LOCAL_RANK" in os.environ:
            name = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(name)
        torch.Generator(name)  # "meta", where nothing is computed, has none
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, ImportError, AttributeError) as error:  # without CUDA, no set_device
        raise UserError(f"device '{name}' is not available here: choose cpu, cuda or mps") from error


def fixed_shapes(device: torch.device) -> bool:
    """Whether every batch should have the same shapes, for which texts are padded to the longest there is: an
    accelerator plans anew for each shape; a CPU has less to do with shorter ones."""
    return device.type != "cpu"


def place(value: Any, device: torch.device, non_blocking: bool = False) -> Any:
    """A nest (dict, list, tuple) of tensors and arrays as tensors on the device; what else is in it as it is."""
    return _each(value, lambda tensor: tensor.to(device, non_blocking=non_blocking))


def place_module(module: nn.Module, device: torch.device, channels_last: bool) -> None:
    """A module on the device in float32, its convolutions' kernels perhaps in another memory format."""
    module.to(device=device, dtype=torch.float32)
    for parameter in module.parameters() if channels_last else ():
        if parameter.ndim in (4, 5):
            layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)


def use_tensor_cores(device: torch.device) -> None:
    """Lets a GPU multiply float32 as TF32, with 10 bits of mantissa, and choose its convolutions by trial."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


@contextmanager
def compiled(module: nn.Module, mode: str) -> Iterator[None]:
    """The module's forward by torch.compile, for as long as the block lasts; of one without a forward of its own,
    those of its outermost parts that have one. UserError where there is none."""
    parts = [] if mode == "none" else _with_forward(module)
    if mode != "none" and not parts:
        raise UserError(f'compile = "{mode}": a {type(module).__name__} has no forward of its own: take "none"')
    for part in parts:
        part.compile(mode=mode)
    try:
        yield
    finally:
        for part in parts:
            part._compiled_call_impl = None


def _with_forward(module: nn.Module) -> list[nn.Module]:
    if type(module).forward is nn.Module.forward or type(module).__module__.startswith("torch."):  # which are skipped
        return [part for child in module.children() for part in _with_forward(child)]
    return [module]


def prefetch(batch: Callable[[int], Any], numbers: Iterable[int], device: torch.device) -> Generator[Any, None, None]:
    """batch(k) on the device for each of the numbers: made ahead in a thread of its own, in pinned memory, from which
    they are copied while the device computes."""

    def make(k: int) -> Any:
        made = batch(k)
        return _each(made, Tensor.pin_memory) if device.type == "cuda" else made

    asynchronous = device.type != "mps"  # which may copy what is gone by then
    with ThreadPoolExecutor(1) as pool:
        made: deque[Future[Any]] = deque()
        for k in numbers:
            made.append(pool.submit(make, k))
            if len(made) > AHEAD:
                yield place(made.popleft().result(), device, non_blocking=asynchronous)
        while made:
            yield place(made.popleft().result(), device, non_blocking=asynchronous)


def _each(value: Any, f: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor | np.ndarray):
        return f(torch.as_tensor(value))
    if isinstance(value, dict):
        return {key: _each(inner, f) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(inner, f) for inner in value)
    return value
