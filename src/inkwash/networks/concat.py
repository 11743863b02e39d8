"""A U-Net with concat conditioning: it sees another picture as further channels beside the state."""

from typing import Any

import torch
from torch import Tensor, nn

from inkwash.networks.unet import UNet


class ConcatUNet(nn.Module):
    """A U-Net of the channels [x; concat], place by place (SR3, Saharia et al. 2021, 2104.07636).

    x (B, C, *spatial) and concat (B, D, *spatial), cast to x's precision, with in_channels = C + D; time and
    the rest of the condition as UNet's. noise_level (B,), 0 to 1, is the time to which concat is noised (noise
    conditioning augmentation, Ho et al. 2021, 2106.15282): a U-Net of class_embed_type "timestep" hears it on
    the scale of time, as the label 1000 noise_level.
    """

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, x: Tensor, time: Tensor, concat: Tensor, noise_level: Tensor | None = None, **condition: Any
    ) -> Tensor:
        x = torch.cat([x, concat.to(x.dtype)], dim=1)
        label = {} if noise_level is None else {"label": 1000 * noise_level}
        output: Tensor = self.unet(x, time, **label, **condition)
        return output
