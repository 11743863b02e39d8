"""Whether there is room for a training, said before the system kills it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from inkwash.errors import UserError
from inkwash.progress import free_memory, peak_memory


def available_memory(device: torch.device, group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that this process may still take on the device; inf where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory(group)


def check_resources(weights: list[Tensor], fresh: bool, device: torch.device, folder: Path) -> int:
    """Bytes still to be taken beside the weights; refuse a run for which there is clearly not enough."""
    size = sum(p.nbytes for p in weights)
    needed = 3 * size if fresh else size  # the gradient of a micro-batch, and moments
    if device.type == "cpu":
        needed += 4 * size  # a checkpoint that is being written
    if needed > (free := available_memory(device)):
        raise UserError(
            f"training needs {needed / 1e9:.1f} GB beside the weights, {free / 1e9:.1f} GB are free: "
            "close other programs or choose a smaller network"
        )
    # A checkpoint holds weights, averages and two moments; a third is written before the first goes.
    if 12 * size > (disk := shutil.disk_usage(folder).free):
        raise UserError(f"checkpoints need {12 * size / 1e9:.1f} GB, {folder} has {disk / 1e9:.1f} GB free")
    return needed


@contextmanager
def memory_guard(weights: list[Tensor], needed: int, enabled: bool) -> Iterator[None]:
    """Add up what the forward pass keeps for the backward pass; stop before the system kills the process."""
    if not enabled:
        yield
        return
    available = available_memory(weights[0].device) - needed
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


def peak_memory_of(device: torch.device) -> float:
    """The most bytes that were taken so far: of a GPU, or of this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()


@contextmanager
def device_errors() -> Iterator[None]:
    """In one line, what a GPU says where a CPU would have raised an error of its own, and what a compiler says."""
    try:
        yield
    except torch.AcceleratorError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the device stopped ({reason:.160}): look at the data; the checkpoint is untouched"
        ) from None
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error):
            raise UserError(
                "training needs more memory than is free on the device: close other programs there, or halve "
                "batch_size and double grad_accumulation"
            ) from None
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):  # slow to import
            reason = str(error).splitlines()[0]
            raise UserError(f'torch cannot compile the network ({reason:.160}): take compile = "none"') from None
        raise
