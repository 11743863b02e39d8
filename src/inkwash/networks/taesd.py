"""The decoder of TAESD, the tiny autoencoder of Stable Diffusion's latents (Ollin Boer Bohan, MIT; its weights do not
ship), by which previews are shown."""

import os
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.weights.files import fill, load_tensors

WIDTH, BLOCKS, LEVELS = 64, 3, 3


class Block(nn.Module):
    """relu(x + three convolutions)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv(x))


class TinyDecoder(nn.Module):
    """States (N, C, h, w), in the units of diffusion -> pictures in [0, 1], (N, 3, 8 h, 8 w).

    Its parameters are called as in diffusers' AutoencoderTiny, without "decoder.".
    """

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, WIDTH, 3, padding=1), nn.ReLU()]
        for _ in range(LEVELS):
            layers += [Block(WIDTH) for _ in range(BLOCKS)]
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers, Block(WIDTH), nn.Conv2d(WIDTH, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(3 * torch.tanh(x / 3))
        return x.clamp(0, 1)


def load_tiny_decoder(path: str | os.PathLike[str], channels: int = 4) -> TinyDecoder:
    """From taesd_decoder.safetensors (or taesdxl_...), or diffusion_pytorch_model.safetensors of an AutoencoderTiny,
    in float32 and set to evaluate. UserError for another file, and for one of states of other channels."""
    path = Path(path)
    tensors = load_tensors(path)[0]
    own = {name.removeprefix("decoder."): tensor for name, tensor in tensors.items() if name.startswith("decoder.")}
    if not own:  # in the file of the decoder alone the bound of the states is number 0
        own = {re.sub(r"^\d+", lambda match: f"layers.{int(match[0]) - 1}", name): t for name, t in tensors.items()}
    if "layers.0.weight" not in own:
        raise UserError(f"{path}: no decoder of TAESD: name its taesd_decoder.safetensors, or taesdxl_decoder")
    network = TinyDecoder(channels)
    fill(network, own, str(path))
    return network.eval()
