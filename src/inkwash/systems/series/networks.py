"""The networks of TimeGrad (Rasul et al. 2021, 2101.12072): a recurrent network over the past, and a noise
network for the vector of one time step, conditioned on its state."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.4  # of the leaky ReLUs


class TimeGrad(nn.Module):
    """`encode` turns the inputs of successive steps into states; the forward pass predicts the noise in x given one.

    dims     D, how many series there are
    inputs   numbers that the recurrent network is given at each step
    cells    of each of its `layers`; `hidden`: numbers of the state that conditions the noise network
    noise    "dilated", the paper's stack of dilated convolutions along the D series, or "dense", a perceptron
    """

    location: Tensor
    root: Tensor
    typical: Tensor
    middle: Tensor

    def __init__(
        self,
        dims: int,
        inputs: int,
        cells: int = 40,
        layers: int = 2,
        hidden: int = 100,
        dropout: float = 0.1,
        noise: str = "dilated",
    ) -> None:
        super().__init__()
        self.config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        # what is taken off before diffusion and what the rest is divided by; see systems/series/transforms.py
        self.register_buffer("location", torch.zeros(inputs, dims))
        self.register_buffer("root", torch.eye(dims))
        self.register_buffer("typical", torch.ones(dims))
        self.register_buffer("middle", torch.zeros(dims))
        self.rnn = nn.GRU(inputs, cells, layers, dropout=dropout, batch_first=True)
        self.projection = nn.Linear(cells, hidden)
        self.noise: nn.Module = Dilated(dims, hidden) if noise == "dilated" else Dense(dims, hidden)

    def encode(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """inputs (B, L, inputs) and the state before them -> hidden (B, L, hidden) and the state after them."""
        states, state = self.rnn(inputs, state)
        return self.projection(states), state

    def forward(self, x: Tensor, time: Tensor, hidden: Tensor, **condition: Any) -> Tensor:
        """x (N, D), time (N,), hidden (N, hidden) -> (N, D)."""
        output: Tensor = self.noise(x, time, hidden, **condition)
        return output


class Dilated(nn.Module):
    """The paper's noise network: `blocks` gated convolutions with dilations 1, 2, 1, 2, ... along the series.

    The convolutions wind around, as if the last series stood beside the first. Time is the index of the noise level.
    States are (channels, series, N), the batch last, and a convolution is one product of a matrix with what stands
    beside each other: for 8 channels and a dozen series that takes a third of the time of torch's own.
    """

    def __init__(self, dims: int, hidden: int, channels: int = 8, blocks: int = 8, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        half = max(dims // 2, 1)
        self.condition = nn.Sequential(
            nn.Linear(hidden, half), nn.LeakyReLU(SLOPE), nn.Linear(half, dims), nn.LeakyReLU(SLOPE)
        )
        self.enter = nn.Linear(1, channels)
        self.blocks = nn.ModuleList([Block(channels, width, 2 ** (i % 2)) for i in range(blocks)])
        self.skip = nn.Linear(3 * channels, channels)
        self.leave = nn.Linear(3 * channels, 1)
        for layer in (self.enter, self.skip):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, time: Tensor, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        # as published, the network is not told which series were observed: only its loss looks at the mask
        steps = 10 ** (torch.arange(16, device=x.device)[:, None] / 4) * time
        embedded = self.embed(torch.cat([steps.sin(), steps.cos()]).T).T
        # two series more at either end, which the two last convolutions take away again
        size = x.shape[1]
        wrapped = torch.arange(-2, size + 2, device=x.device) % size
        condition = self.condition(hidden).T[None, wrapped]
        x = F.leaky_relu(pointwise(self.enter, x.T[None, wrapped]), SLOPE)
        total: Any = 0.0
        for block in self.blocks:
            x, skip = block(x, embedded, condition)
            total = total + skip
        x = F.leaky_relu(pointwise(self.skip, neighbours(total / math.sqrt(len(self.blocks)), 1)[:, 1:-1]), SLOPE)
        output: Tensor = pointwise(self.leave, neighbours(x, 1)[:, 1:-1])[0].T
        return output


class Block(nn.Module):
    """A gated dilated convolution: (x + residual) / sqrt 2, and a skip for the sum of all blocks."""

    def __init__(self, channels: int, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.time = nn.Linear(width, channels)
        self.condition = nn.Linear(1, 2 * channels)
        self.conv = nn.Linear(3 * channels, 2 * channels)
        self.out = nn.Linear(channels, 2 * channels)
        for layer in (self.condition, self.out):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor, embedded: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        y = pointwise(self.conv, neighbours(x + pointwise(self.time, embedded)[:, None], self.dilation)) + pointwise(
            self.condition, condition
        )
        gate, value = y.chunk(2)
        residual, skip = F.leaky_relu(pointwise(self.out, gate.sigmoid() * value.tanh()), SLOPE).chunk(2)
        return (x + residual) / math.sqrt(2), skip


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """A linear layer on the channels of (channels, ...); one in its place (an adapter) sees them last."""
    columns = x.flatten(1)
    if type(layer) is nn.Linear:  # the matrix from the left, for the same in two thirds of the time or less
        mixed = torch.addmm(layer.bias[:, None], layer.weight, columns)
    else:
        mixed = layer(columns.T).T
    return mixed.reshape(len(mixed), *x.shape[1:])


def neighbours(x: Tensor, offset: int) -> Tensor:
    """(C, L, N) -> (3 C, L, N): the values `offset` series before, at, and after each, around the end."""
    return torch.cat([x.roll(offset, 1), x, x.roll(-offset, 1)])


class Dense(nn.Module):
    """A perceptron with residual layers on the whole vector of a step: every series may lean on every other.

    Time runs from 0 to 1. `mask` (N, D) says which of the series there are; all where it is not given.
    """

    def __init__(self, dims: int, hidden: int, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * dims + 16 + hidden, width)
        self.layers = nn.ModuleList([nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(layers)])
        self.leave = nn.Linear(width, dims)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, time: Tensor, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = torch.ones_like(x) if mask is None else mask.to(x)
        steps = time[:, None] * (torch.pi / 2) * 2.0 ** torch.arange(8, device=x.device)
        x = self.enter(torch.cat([x, mask, steps.sin(), steps.cos(), hidden], dim=1))
        for layer in self.layers:
            x = x + layer(x)
        output: Tensor = self.leave(F.silu(x))
        return output
