"""Several devices or machines that train together, as torchrun starts them: one process for each device.

The micro-batches of a step are spread over the processes, so a run on many is the run on one, in less time.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from inkwash.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


class ProcessGone(UserError):
    """Another process of this training died: all must be started again."""


def rank() -> int:
    """The number of this process; 0 leads: it alone writes."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0  # others too use that name


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start(grad_accumulation: int | None = None) -> None:
    """Meets the other processes, once. UserError where they do not come, or the micro-batches of a step cannot be
    spread over them."""
    if world_size() == 1:
        return
    if grad_accumulation is not None and grad_accumulation % world_size():
        raise UserError(
            f"grad_accumulation = {grad_accumulation}: so many micro-batches cannot be spread evenly over "
            f"{world_size()} processes; make it a multiple of them"
        )
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:  # a long time, since who leads may prepare data for hours, and torchrun ends all when one ends
            distributed.init_process_group(backend, timeout=timedelta(days=2))
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the processes of this training do not meet ({error}): start it by torchrun") from None


def micro_steps(step: int, grad_accumulation: int) -> range:
    """Those of a step, counted from the first of the training, that this process computes."""
    return range(step * grad_accumulation + rank(), (step + 1) * grad_accumulation, world_size())


def all_reduce(tensor: "Tensor") -> None:
    """Its sum over all processes, in place. ProcessGone where one of them is."""
    if world_size() > 1:
        from torch import distributed

        with _together():
            distributed.all_reduce(tensor)


def broadcast(tensors: Iterable["Tensor"]) -> None:
    """Gives all processes what the tensors are where rank is 0, in place."""
    if world_size() > 1:
        from torch import distributed

        with _together():
            for tensor in tensors:
                distributed.broadcast(tensor.data, 0)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        gone = "another process of this training is gone: start all again, and they go on from the checkpoint"
        raise ProcessGone(f"{gone} ({str(error).splitlines()[0]:.160})") from None


def total(number: float) -> float:
    """The sum over all processes of a number of each."""
    if world_size() == 1:
        return number
    import torch

    start()
    value = torch.tensor(number, dtype=torch.float64)
    all_reduce(value)
    return value.item()


def barrier() -> None:
    """Until all processes are here."""
    total(0)


@contextmanager
def leader_first() -> Iterator[None]:
    """The block runs where rank is 0, then everywhere else: what the first writes into a file, the others read."""
    try:
        if rank() > 0:
            barrier()
        yield
    finally:
        if rank() == 0:
            barrier()
