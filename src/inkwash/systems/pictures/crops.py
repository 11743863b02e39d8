"""Parts of pictures, cut out on the device where the pictures lie, uint8 (N, H, W, C)."""

import torch
from torch import Tensor


def gather(pictures: Tensor, rows: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The pixels (B, h, w, C) of pictures `rows` (B,) at the places `y` (B, h) and `x` (B, w)."""
    return pictures[rows[:, None, None], y[:, :, None], x[:, None, :]]


def crop(pictures: Tensor, rows: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Squares (B, side, side, C) of pictures `rows` from the places `top` and `left` (B,)."""
    offsets = torch.arange(side, device=rows.device)
    return gather(pictures, rows, top[:, None] + offsets, left[:, None] + offsets)


def augment(pictures: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures `rows` (B, H, H, 4), half of them mirrored, moved by up to four pixels with their edges repeated, and
    a quarter of them in other colours.

    A prompt may ask for any colour, so the autoencoder must know them all.
    """
    count, side, device = len(rows), pictures.shape[1], rows.device

    def uniform(columns: int) -> Tensor:
        return torch.rand(count, columns, generator=generator, device=device)

    places = torch.arange(side, device=device)
    y, x = (
        (torch.randint(-4, 5, (count, 1), generator=generator, device=device) + places).clamp(0, side - 1)
        for _ in range(2)
    )
    x = torch.where(uniform(1) < 0.5, x.flip(1), x)
    channels = torch.where(uniform(1) < 0.25, uniform(3).argsort(1), torch.arange(3, device=device))
    moved = gather(pictures, rows, y, x)
    colours = moved[..., :3].gather(3, channels[:, None, None].expand(-1, side, side, -1))
    return torch.cat([colours, moved[..., 3:]], dim=-1)


def on_white(pictures: Tensor) -> Tensor:
    """(..., 4) with straight alpha -> colours on white and the opacity, both from 0 to 255: as `codecs.pixels`."""
    colours, alpha = pictures[..., :3].int(), pictures[..., 3:].int()
    return torch.cat([(colours * alpha + 255 * (255 - alpha) + 127) // 255, alpha], dim=-1)


def normalize(pictures: Tensor) -> Tensor:
    """(B, h, w, C) from 0 to 255 -> float32 (B, C, h, w) in [-1, 1]: as `codecs.pixels`."""
    return pictures.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
