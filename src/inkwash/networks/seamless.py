"""Pictures whose sides meet: each convolution sees, beyond one side, what lies at the opposite one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from inkwash.errors import unknown

TILINGS = ("", "x", "y", "xy")


@contextmanager
def circular(network: nn.Module, tiling: str) -> Iterator[None]:
    """Within it the padding of the network's convolutions is circular along these axes of a picture (B, C, y, x): a
    shift of what goes in, by what its strides divide, is then a shift of what comes out. UserError for no tiling."""
    if tiling not in TILINGS:
        raise unknown("tiling", tiling, TILINGS)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1]
    before = [conv.padding for conv in convs] if tiling else []
    handles = [conv.register_forward_pre_hook(wrapper(conv, tiling)) for conv in convs] if tiling else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for conv, padding in zip(convs, before, strict=False):
            conv.padding = padding


def wrapper(conv: nn.Conv2d, tiling: str) -> Any:
    """A hook that pads what the convolution is given, which then does not pad it along these axes."""
    height, width = (int(size) for size in conv.padding)
    rows, columns = height * ("y" in tiling), width * ("x" in tiling)
    far = not (height or width)  # its input was padded already, with zeros and at the far sides only
    conv.padding = height - rows, width - columns

    def wrap(_: nn.Module, args: tuple[Tensor]) -> Tensor:
        (x,) = args
        if not far:
            return F.pad(x, (columns, columns, rows, rows), mode="circular")
        x = x.clone()
        if "x" in tiling:
            x[..., -1] = x[..., 0]
        if "y" in tiling:
            x[..., -1, :] = x[..., 0, :]
        return x

    return wrap
