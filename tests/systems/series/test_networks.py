"""The noise network of TimeGrad against torch's own circular convolutions, and what it must not see."""

import math

import pytest
import torch
from torch.nn import functional as F

from inkwash.systems.series.networks import Dense, Dilated, TimeGrad, neighbours


def by_convolutions(net, x, time, hidden):
    """The paper's network written with conv1d: x (N, D), wound by two places, dilations 1 and 2 by turns."""

    def conv(layer, x, dilation=0):
        taps = 3 if dilation else 1
        out = layer.out_features
        # channels of `neighbours` are tap by tap; of conv1d channel by channel
        kernel = layer.weight.reshape(out, taps, -1).permute(0, 2, 1)
        if dilation:
            x = F.pad(x, (dilation, dilation), mode="circular")
        return F.conv1d(x, kernel, layer.bias, dilation=max(dilation, 1))

    steps = time[:, None] * torch.tensor([10 ** (4 * j / 16) for j in range(16)])
    embedded = net.embed(torch.cat([steps.sin(), steps.cos()], dim=1))
    condition = F.pad(net.condition(hidden)[:, None], (2, 2), mode="circular")
    x = F.leaky_relu(conv(net.enter, F.pad(x[:, None], (2, 2), mode="circular")), 0.4)
    total = 0
    for i, block in enumerate(net.blocks):
        y = conv(block.conv, x + block.time(embedded)[..., None], 2 ** (i % 2)) + conv(block.condition, condition)
        gate, value = y.chunk(2, dim=1)
        part, skip = F.leaky_relu(conv(block.out, torch.sigmoid(gate) * torch.tanh(value)), 0.4).chunk(2, dim=1)
        x, total = (x + part) / math.sqrt(2), total + skip

    def narrow(layer, x):
        kernel = layer.weight.reshape(layer.out_features, 3, -1).permute(0, 2, 1)
        return F.conv1d(x, kernel, layer.bias)

    x = F.leaky_relu(narrow(net.skip, total / math.sqrt(8)), 0.4)
    return narrow(net.leave, x)[:, 0]


@pytest.mark.parametrize("dims", [2, 5, 8])
def test_the_noise_network_is_that_of_the_paper(dims):
    torch.manual_seed(0)
    net = Dilated(dims, 7)
    torch.nn.init.normal_(net.leave.weight)  # zero at first
    x, time, hidden = torch.randn(6, dims), torch.randint(0, 100, (6,)).float(), torch.randn(6, 7)
    # the two narrow convolutions drop the starts, so wound and unwound neighbours agree
    torch.testing.assert_close(net(x, time, hidden), by_convolutions(net, x, time, hidden), rtol=1e-4, atol=1e-5)


def test_neighbours_wind_around():
    x = torch.arange(5.0).reshape(1, 5, 1)
    assert neighbours(x, 1)[:, :, 0].tolist() == [[4, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 0]]


def test_encoding_on_is_encoding_at_once():
    torch.manual_seed(0)
    net = TimeGrad(3, 4).eval()
    inputs = torch.randn(2, 9, 4)
    whole, _ = net.encode(inputs)
    first, state = net.encode(inputs[:, :5])
    rest, _ = net.encode(inputs[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)


def test_an_untrained_dense_network_answers_zero():
    net = Dense(4, 3)
    assert not net(torch.randn(5, 4), torch.rand(5), torch.randn(5, 3)).any()
