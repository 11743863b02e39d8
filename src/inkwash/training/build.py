"""Networks by what a recipe says of them: a mistake is one line, and nothing is allocated that cannot be trained."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from inkwash.errors import UserError

Module = TypeVar("Module", bound=nn.Module)
LARGEST = 2 * 10**9  # parameters
WIDEST, DEEPEST = 2**20, 256
SMALL = ("downsample_padding", "freq_shift")  # keys whose numbers may be 0


def build(make: Callable[[], Module], config: Mapping[str, Any], table: str = "[network]") -> Module:
    """What `make` makes of a recipe's table. UserError for numbers that make no network, or too large a one."""
    for key, value in config.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            _check(number, key, table)
    try:
        with torch.device("meta"):  # where tensors have a shape alone
            size = sum(parameter.numel() for parameter in make().parameters())
        if size > LARGEST:
            raise UserError(f"{table}: {size / 1e9:.0f} billion parameters; at most {LARGEST / 1e9:.0f} are possible")
        return make()
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(table) else f"{table} {error}") from None
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{table} makes no network: {error}") from error


def _check(number: Any, key: str, table: str) -> None:
    if isinstance(number, str) and key.endswith(("channels", "layers_per_block", "groups", "dim")):
        raise UserError(f"{table} {key} = {number!r}: a whole number is needed")
    if key == "dropout" and isinstance(number, int | float) and not 0 <= number < 1:
        raise UserError(f"{table} dropout = {number}: choose a number from 0 to below 1")
    if key != "dropout" and isinstance(number, int) and not isinstance(number, bool):
        low, high = int(key not in SMALL), DEEPEST if "layers" in key else WIDEST
        if not low <= number <= high:
            raise UserError(f"{table} {key} = {number}: choose a whole number from {low} to {high}")
