"""What a training gives the one loop, without training."""

from types import SimpleNamespace

import pytest
import torch

from inkwash.training.fit import Stopped
from inkwash.training.placement import place


def fits_of(module, train):
    """The arguments of each call of `fit` in a module while `train()` runs; the last one ends it."""
    calls = []

    def fit(net, loss, batch, folder, settings, preview=None, save=None, model=None, monitor=None, held_out=()):
        calls.append(SimpleNamespace(**locals()))
        if type(net).__name__ != "MeanPredictor":
            raise Stopped(0, 1)
        return net.eval()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit", fit)
        with pytest.raises(Stopped):
            train()
    return calls


def loss_of(call, batch, seed=0):
    """The loss of a batch, with noise of this seed."""
    with torch.no_grad():
        return call.loss(place(batch, torch.device("cpu")), torch.Generator().manual_seed(seed))


def numbers_of(batches, key="rows"):
    return {int(number) for batch in batches for number in batch[key]}
