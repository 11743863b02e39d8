"""One process of a training, as torchrun starts it."""

import sys
import time
from pathlib import Path

import torch
from torch import nn

from inkwash.errors import UserError
from inkwash.training import distributed
from inkwash.training.fit import Stopped, fit
from inkwash.training.settings import Settings
from tests.follower import Follower

DATA = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def train(folder, steps=3, grad_accumulation=4, stop_after=None, slowly=0.0):
    torch.manual_seed(distributed.rank())  # what only the first begins with must reach the others
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.2), nn.SiLU(), nn.Conv2d(8, 3, 3))
    settings = Settings(steps, 4, 1e-2, 4, grad_accumulation=grad_accumulation, ema_decay=0.9, checkpoint_minutes=0)

    def loss(x, generator):
        time.sleep(slowly)
        noise = torch.randn(x.shape, generator=generator)
        return (module(x + noise) - x[..., 2:-2, 2:-2]).square().mean()

    def save(path):
        path.mkdir(exist_ok=True)
        with (path / "writers").open("a") as file:
            file.write(f"{distributed.rank()}\n")

    monitor = Follower(stop_after=stop_after if distributed.rank() else None)
    how = {"save": save, "model": Path(folder) / "model", "monitor": monitor, "held_out": [DATA[::10]]}
    return fit(module, loss, lambda k: DATA[k % 7 :: 7], folder, settings, **how)


if __name__ == "__main__":
    folder, steps, grad_accumulation, stop_after, slowly = sys.argv[1:]
    try:
        train(folder, int(steps), int(grad_accumulation), int(stop_after) or None, float(slowly))
    except (UserError, Stopped) as error:
        sys.exit(f"{type(error).__name__}: {error}")
