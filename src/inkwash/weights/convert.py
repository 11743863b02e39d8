"""Third-party weights in other formats."""

from pathlib import Path

import torch
from torch import Tensor

from inkwash.errors import UserError


def read_pth(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a .pth file of a third party.

    The only place that opens a pickle. `weights_only=True` admits tensors and plain containers and runs no
    code from the file; anything else is a UserError.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch raises many kinds for a foreign, truncated or unsafe file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a file of plain tensors ({reason}); it was not loaded") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: not a state dict (names of tensors); it was not loaded")
    return dict(state)
