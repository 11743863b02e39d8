"""On a real device, when one is named: `INKWASH_DEVICE=cuda pytest tests/training/test_fit_device.py`."""

import csv
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from inkwash.training.fit import Stopped, fit
from inkwash.training.settings import Settings

DEVICE = os.environ.get("INKWASH_DEVICE", "")
pytestmark = pytest.mark.skipif(not DEVICE, reason="INKWASH_DEVICE names no device to train on (cuda, mps, cpu)")
SETTINGS = Settings(steps=12, batch_size=8, learning_rate=1e-2, warmup=4, ema_decay=0.9, preview_every=6)
DATA = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(2))


class Network(nn.Sequential):
    def forward(self, x):  # torch.compile skips torch's own
        return super().forward(x)


def run(folder, device, until=None, **keys):
    """A small network that learns to tell noise from data; its weights, and the losses."""
    torch.manual_seed(0)
    module = Network(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3, padding=1))

    def loss(batch, generator):
        return (module(batch["x"] + batch["noise"]).float() - batch["noise"]).square().mean()

    def preview(network, step):
        return np.full((2, 2, 3), 255 * network(DATA.to(device)).sigmoid().mean().item(), np.uint8)

    settings = replace(SETTINGS, device=device, **keys)
    fit(module, loss, lambda k: {"x": DATA, "noise": NOISE}, folder, settings, preview, until=until)
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return {name: tensor.cpu() for name, tensor in module.state_dict().items()}, [float(row["loss"]) for row in rows]


def test_the_loss_falls_as_on_the_cpu_and_previews_come(tmp_path):
    _, expected = run(tmp_path / "cpu", "cpu")
    _, found = run(tmp_path / "device", DEVICE)
    np.testing.assert_allclose(found, expected, rtol=0.02)  # a GPU multiplies with ten bits
    assert found[-1] < 0.8 * found[0]
    assert len(list((tmp_path / "device").glob("preview-*.png"))) == 2


def test_a_stopped_run_ends_with_the_same_weights(tmp_path):
    whole, _ = run(tmp_path / "whole", DEVICE)
    with pytest.raises(Stopped):
        run(tmp_path / "parts", DEVICE, until=5)
    parts, _ = run(tmp_path / "parts", DEVICE)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch.compile about itself
@pytest.mark.parametrize("keys", [{"precision": "bfloat16"}, {"compile": "default"}], ids=["bfloat16", "compiled"])
def test_faster_ways_learn_the_same(tmp_path, keys):
    _, expected = run(tmp_path / "plain", DEVICE)
    _, found = run(tmp_path / "fast", DEVICE, **keys)
    np.testing.assert_allclose(found, expected, rtol=0.05)
