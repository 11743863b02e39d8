"""The upsampler draws where the rest of the model does."""

import numpy as np
import torch

import inkwash
from inkwash.systems.pictures.runtimes import Torch
from tests.accelerator import counting
from tests.models import tiny


def test_it_computes_on_the_models_device(tmp_path, monkeypatch):
    tiny(latent=True, mean=True, upsampler=True, parametrization="flow").save(tmp_path / "m")
    monkeypatch.setattr("inkwash.systems.check_device", lambda device: None)  # the chip's name is unknown
    on_chip, on_cpu = (inkwash.load(tmp_path / "m", device=device, runtime="torch") for device in ("chip", "cpu"))
    assert {p.device.type for p in on_chip.upsampler.unet.parameters()} == {"chip"}
    with counting() as counts:
        found, expected = (model.generate("a fox", seed=1, size=64, steps=2) for model in (on_chip, on_cpu))
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected)).max() <= 1
    assert counts.copies


def test_one_put_in_the_place_of_the_models_own_computes_there_too(tmp_path, monkeypatch):
    model = tiny(latent=True, upsampler=True)
    unet = model.components.pop("upsampler")
    model.save(tmp_path / "m")
    monkeypatch.setattr("inkwash.systems.check_device", lambda device: None)
    on_chip = inkwash.load(tmp_path / "m", device="chip", upsampler=unet)
    assert on_chip.generate("a fox", seed=1, size=64, steps=1).size == (64, 64)
    assert isinstance(on_chip.runtime, Torch) and on_chip.runtime.device == torch.device("chip", 0)
