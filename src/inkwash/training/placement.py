"""Where a training computes: the one place that knows devices."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from inkwash.errors import UserError


def device_of(name: str) -> torch.device:
    """The device of this name. UserError for one that is not there."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' is not available here: choose cpu, cuda or mps") from error


def fixed_shapes(device: torch.device) -> bool:
    """Whether every batch should have the same shapes, for which texts are padded to the longest there is: an
    accelerator plans anew for each shape; a CPU has less to do with shorter ones."""
    return device.type != "cpu"


def place(value: Any, device: torch.device) -> Any:
    """A nest (dict, list, tuple) of tensors with these on the device, arrays as tensors; else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value).to(device)
    if isinstance(value, dict):
        return {key: place(inner, device) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(place(inner, device) for inner in value)
    return value
