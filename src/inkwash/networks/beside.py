"""A U-Net that is shown something beside the state."""

import torch
from torch import Tensor, nn

from inkwash.networks.unet import UNet


class Beside(nn.Module):
    """A U-Net that sees the small picture beside the state, place by place, and hears how noisy it is."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, small: Tensor, level: Tensor) -> Tensor:
        output: Tensor = self.unet(torch.cat([x, small.to(x.dtype)], dim=1), time, label=1000 * level)
        return output
