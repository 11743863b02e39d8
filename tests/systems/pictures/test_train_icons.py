import numpy as np
import pytest
import torch

import inkwash
from inkwash.errors import UserError
from inkwash.systems.pictures import icons_data, training_pictures
from inkwash.systems.pictures import train_icons as train_module
from inkwash.systems.pictures.distance_fields import draw
from inkwash.systems.pictures.icons import captioned_icons
from inkwash.systems.pictures.model import Config
from inkwash.systems.pictures.train import MeanPrediction
from inkwash.systems.pictures.train_icons import Recipe, train
from inkwash.training.settings import Settings
from tests.systems.pictures.fits import fits_of, loss_of, numbers_of
from tests.systems.pictures.shapes import icons

NETWORK = {
    "block_out_channels": [32, 32],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(icons_data, "load", icons)
    settings = Settings(steps=500, batch_size=16, learning_rate=2e-3, warmup=20, ema_decay=0.9)
    mean = MeanPrediction(Settings(steps=200, batch_size=16, learning_rate=2e-3, warmup=20, ema_decay=0.9), hidden=64)
    aliases = {"filled": "solid"}
    model = Config(
        size=32, distance_field=True, reference=True, parametrization="flow", steps=8, guidance=2.0,
        style_aliases=aliases,
    )  # fmt: skip
    return Recipe("icons", tmp_path, settings, NETWORK, mean, model=model)


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.slow
def test_icons_are_learned_from_words_and_from_a_picture_to_draw_alike(recipe, tmp_path):
    train(recipe, tmp_path / "run")
    model, data = inkwash.load(tmp_path / "run" / "model"), icons(size=32)
    true = draw(data.fields.clip(-2, 2), 128)[..., 3] > 127
    own, others = [], []
    for row in range(6):
        style = {"line": "line", "solid": "filled"}[str(data.style[row])]
        picture = model.generate(str(data.name[row]), style=style, seed=0, size=128)
        assert picture.mode == "RGBA" and picture.size == (128, 128)
        found = [overlap(np.asarray(picture)[..., 3] > 127, shape) for shape in true[:6]]
        own.append(found.pop(row))
        others += found
    assert np.mean(own) > 0.55 > 0.4 > np.mean(others)
    shown = model.generate("disc", style="solid", seed=0)
    alike = model.generate("", style="line", seed=0, like=shown, size=128)
    assert alike.info["inkwash"]["like"].keys() == {"sha256"}
    found = [overlap(np.asarray(alike)[..., 3] > 127, shape) for shape in true[:3]]
    assert int(np.argmax(found)) == 0


def test_nothing_is_learned_from_what_is_held_out(recipe, tmp_path):
    dataset = captioned_icons(icons(), 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "train_mean_predictors", lambda *_: None)
        (call,) = fits_of(train_module, lambda: train(recipe, tmp_path / "run"))
    batches = [call.batch(k) for k in range(40)]
    assert numbers_of(call.held_out) == {*dataset.held_out.tolist()}
    for key in ("rows", "reference"):
        assert numbers_of(batches, key) == {*range(dataset.n_originals)}
    assert {*np.concatenate([batch["mirror"] for batch in batches]).tolist()} == {True, False}
    assert all(torch.isfinite(loss_of(call, batch)) for batch in (*batches[:3], *call.held_out))
    call.save(tmp_path / "model")
    named = [one.icon for one in training_pictures.load(tmp_path / "model").credits]
    assert sorted(named) == sorted(icons().icon[icons().split == "train"])


def test_a_reference_is_of_distance_fields_alone():
    with pytest.raises(UserError, match="reference = true: only models of distance fields"):
        Config(reference=True)
    with pytest.raises(UserError, match="unknown style 'ball'"):
        Config(styles=["pen"], style_aliases={"round": "ball"})
