"""Training of a cascade: every stage, in one run that may be stopped anywhere; and which noise is chosen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.progress import Note
from inkwash.systems.detection.data import read_data, split
from inkwash.systems.restoration import cascade_train as module
from inkwash.systems.restoration import train as shared
from inkwash.systems.restoration.cascade import Cascade
from inkwash.systems.restoration.cascade_data import Crop, loader
from inkwash.systems.restoration.train import loss_of, residual_of
from inkwash.systems.train import trained_of
from inkwash.training.fit import Stopped
from inkwash.training.settings import Settings
from tests.follower import Follower
from tests.systems.detection import toy
from tests.systems.restoration.toy import cascade


def recipe(data, steps=2, **changes):
    settings = Settings(steps, 4, 3e-3, warmup=1, ema_decay=0.9, preview_every=2, checkpoint_minutes=1000)
    own = {"sides": [8, 16], "widths": [[8], [8]], "patches": [1, 2], "lengths": [1, 1]} | changes
    return module.Recipe(task="cascade", data=data, fit=settings, **own)


@pytest.fixture
def quick(monkeypatch):
    for name in ("JUDGED", "SHOWN_STEPS", "SHOWN"):
        monkeypatch.setattr(shared, name, 1)
    monkeypatch.setattr(module, "TRIED", 3)
    monkeypatch.setattr(module, "STEPS", 1)


def test_a_training_from_files_to_a_model_that_draws(tmp_path, quick):
    data = toy.folder(tmp_path / "data", 8)
    module.train(recipe(data), tmp_path / "run", follower := Follower())
    said = " / ".join(event.text for event in follower.of(Note))
    for text in ("stage 1 of 2: from noise to 8 pixels", "stage 2 of 2: 8 to 16 pixels", "noise between stages: "):
        assert text in said
    model = Cascade.load(tmp_path / "run" / "model")
    parts = split(read_data(data), data)
    assert model.config["train"] == sorted(one.digest for one in parts[0])
    assert model.config["choices"] == {one.digest: one.name for one in parts[1]}
    assert model.config["classes"] == ["disc", "square"] and model.sides == [8, 16]
    levels = model.config["levels"]
    assert min(levels, key=levels.get) == str(model.config["noise_level"]) and len(levels) == len(module.LEVELS)
    assert model.generate("disc", 2, seed=1).shape == (2, 16, 16, 3)
    assert trained_of(tmp_path / "run" / "model") == {"step": 2, "steps": 2}


def test_a_run_that_is_stopped_ends_with_the_same_bits(tmp_path, quick):
    made, stops = recipe(toy.folder(tmp_path / "data", 6), steps=4), []
    module.train(made, tmp_path / "whole", Follower())
    follower = Follower(stop_after=2)
    for _ in range(9):
        try:
            module.train(made, tmp_path / "parts", follower)
            break
        except Stopped:
            stops.append((tmp_path / "parts" / "model" / "system.json").exists())
    assert stops[0] is False and stops[-1] is True  # once the last stage has begun it can be used
    one, other = (Cascade.load(tmp_path / name / "model") for name in ("whole", "parts"))
    assert one.hash == other.hash and one.config == other.config


def test_what_is_trained_is_of_use_while_the_noise_is_chosen(tmp_path, quick, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "choose_level", killed)
    with pytest.raises(KeyboardInterrupt):
        module.train(recipe(toy.folder(tmp_path / "data", 6)), tmp_path / "run", Follower())
    assert Cascade.load(tmp_path / "run" / "model").config["noise_level"] == 0.0


def test_without_augmentation_a_stage_sees_clean_pictures_and_no_noise_is_chosen(tmp_path, quick):
    data = toy.folder(tmp_path / "data", 6)
    module.train(recipe(data, augmentation=False), tmp_path / "run", Follower())
    model = Cascade.load(tmp_path / "run" / "model")
    assert model.config["noise_level"] == 0 and "levels" not in model.config
    batch = {"x": torch.zeros(64, 3, 16, 16), "low": torch.zeros(64, 3, 8, 8), "label": torch.zeros(64, 2)}
    levels = [
        made.stages[1].example(batch, torch.Generator().manual_seed(0))[1]["noise_level"]
        for made in (model, cascade())
    ]
    assert not levels[0].any() and 0.16 < float(levels[1].max()) < 0.2


def test_half_of_the_last_stages_small_pictures_are_blurred(tmp_path, quick, monkeypatch):
    asked, real = [], module.loader

    def spied(crops, side, *rest):
        asked.append((side, rest[-1]))
        return real(crops, side, *rest)

    monkeypatch.setattr(module, "loader", spied)
    made = recipe(
        toy.folder(tmp_path / "data", 4),
        steps=1,
        sides=[8, 16, 32],
        widths=[[8]] * 3,
        patches=[2] * 3,
        lengths=[1] * 3,
    )
    module.train(made, tmp_path / "run", Follower())
    assert {*asked} == {(8, False), (16, False), (32, True)}


def test_the_first_stage_learns_which_kind_has_which_colour(tmp_path):
    """Red of one kind, blue of the other."""
    colours = np.array([[220, 40, 40], [40, 60, 220]])
    crops = [Crop(np.broadcast_to(colour, (8, 8, 3)).astype(np.uint8), kind) for kind, colour in enumerate(colours)]
    made = recipe(tmp_path, sides=[8, 16], widths=[[16], [16]], patches=[2, 2])
    base = module.new_stages(made, 2)[0]
    batch = loader(crops, 8, 1, 2, 8, 0)
    base.config["residual"] = residual_of(base, batch)
    loss, optimizer = loss_of(module.part_of(made, 0), base), torch.optim.Adam(base.network.parameters(), 1e-2)
    for step in range(80):
        optimizer.zero_grad()
        loss(batch(step), torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    base.network.eval()
    drawn = base.make(torch.eye(2).repeat(3, 1), range(6), steps=8)
    found = ((drawn.mean((2, 3)) + 1) * 127.5).numpy()
    assert np.abs(found - np.tile(colours, (3, 1))).max() < 40


def test_the_noise_is_chosen_whose_pictures_look_like_real_ones(monkeypatch):
    rng = np.random.default_rng(0)
    real = [Crop(rng.integers(100, 120, (32, 32, 3)).astype(np.uint8), i % 2) for i in range(24)]

    def pictures(model, per_kind, level):
        spread = 10 if level == 0.05 else 60
        return rng.integers(110 - spread, 110 + spread, (24, 32, 32, 3)).astype(np.uint8)

    monkeypatch.setattr(module, "pictures_of_all_kinds", pictures)
    model = cascade()
    module.choose_level(model, real, Follower())
    assert model.config["noise_level"] == 0.05


def test_waves_are_found_in_their_band():
    x = np.arange(32)
    for wave, band in ((1, 0), (7, 3), (15, 7)):
        grey = 127 + 100 * np.cos(2 * np.pi * wave * x / 32)
        picture = np.broadcast_to(grey[None, :, None], (32, 32, 3)).round().astype(np.uint8)
        found = module.appearance(picture[None])[0]
        assert found[6:].argmax() == band
        assert found[:3] == pytest.approx(127 / 255, abs=0.01) and found[3:6] == pytest.approx(0.277, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sides": [16]}, "one for each stage is needed, two stages at least"),
        ({"sides": [8, 16, 32]}, "one for each stage is needed"),
        ({"lengths": [1]}, "one for each stage is needed"),
        ({"sides": [8, 12]}, "sides: 12 is not 2 to 8 times 8"),
        ({"sides": [16, 8]}, "sides: 8 is not 2 to 8 times 16"),
        ({"patches": [3, 2]}, "patches: 3 does not divide the side 8"),
        ({"widths": [[9], [8]]}, "norm_num_groups 8 does not divide channels 9"),
    ],
)
def test_recipes_that_contradict_themselves_are_one_line(changes, says, tmp_path):
    data = toy.folder(tmp_path / "data", 4)
    with pytest.raises(UserError, match=says):
        module.train(recipe(data, **changes), tmp_path / "run", Follower())
    assert not (tmp_path / "run").exists()


def test_boxes_that_are_all_too_small_are_one_line(tmp_path):
    rows = [[f"p{i}", kind, 1, 1, 1 + size, 1 + size] for i in range(6) for kind, size in (("disc", 20), ("dot", 4))]
    data = toy.folder(tmp_path / "data", 6, rows=rows)
    with pytest.raises(UserError, match="two large enough boxes of 'dot' to learn from are needed"):
        module.train(recipe(data), tmp_path / "run", Follower())


def test_the_recipe_that_ships_is_sound(tmp_path):
    made = module.default_recipe(tmp_path)
    module.check(made)
    stages = module.new_stages(made, 3)
    assert sum(p.numel() for stage in stages for p in stage.network.parameters()) <= 500_000  # 1 MB of float16
    assert replace(made, augmentation=False) != made
