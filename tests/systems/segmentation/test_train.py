"""Training: the best is kept, one batch is learned by heart, a stopped run ends with the same bits."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.progress import Note, Preview
from inkwash.systems.segmentation import train as module
from inkwash.systems.segmentation.data import read_data, split
from inkwash.systems.segmentation.metrics import iou
from inkwash.systems.segmentation.model import SegmentationModel
from inkwash.systems.segmentation.objects import class_map, distances
from inkwash.systems.segmentation.train import Recipe, dice_loss, finish, loss_of, new_model, train
from inkwash.training.settings import Settings
from inkwash.weights.files import WEIGHTS, digest
from inkwash.weights.shipped import describe
from tests.follower import Follower
from tests.systems.segmentation.cells import folder

pytest.importorskip("skimage")


def recipe(data, steps=4, **changes):
    settings = Settings(steps, 2, 3e-3, warmup=2, ema_decay=0.9, preview_every=2, checkpoint_minutes=1000)
    small = {"size": 16, "widths": [8, 8], "growth": 4, "scale": 1.0}
    return Recipe("segmentation", data, settings, **(small | changes))


@pytest.fixture
def quick(monkeypatch):
    """Few samples in few steps wherever some are drawn."""
    monkeypatch.setattr(module, "DEFAULTS", {"steps": 2, "samples": 2, "sampler": "ddim"})
    monkeypatch.setattr(module, "JUDGED_STEPS", 1)
    monkeypatch.setattr(module, "JUDGED_SAMPLES", 2)


def notes(follower):
    return [event.text for event in follower.of(Note)]


def test_a_training_from_files_to_a_model_that_segments(tmp_path, quick):
    data = folder(tmp_path / "data", 8)
    train(recipe(data), tmp_path / "run", follower := Follower())
    model = SegmentationModel.load(tmp_path / "run" / "model")
    said = " / ".join(notes(follower))
    assert (
        "8 masks with a number for each object" in said
        and "5 pictures to learn from, 1 for choices, 2 for the table" in said
    )
    assert "objects of a usual radius of" in said and "step 2: IoU" in said
    assert len(follower.of(Preview)) == 2
    parts = split(read_data(data), data)
    assert model.config["train"] == sorted(one.digest for one in parts[0])
    assert model.config["choices"] == {one.digest: one.name for one in parts[1]}
    assert model.config["best"]["step"] in (2, 4) and model.config["counts"] is None
    assert model.segment(parts[2][0].picture).labels.shape == (48, 48)


def test_objects_are_parted_by_what_finds_more_of_them(tmp_path, monkeypatch):
    """The map of one disc that the network sees as two, and the other way round."""
    data = read_data(folder(tmp_path / "data", 4, size=32))
    parts = split(data, tmp_path)
    model = new_model(recipe(tmp_path / "data"), data, parts[0], parts[1])
    for halves in (False, True):
        planes = []
        for example in parts[1]:
            truth = example.labels > 0
            planes.append(np.stack([truth, distances(example.labels)]).astype(np.float32))
            if halves:  # a distance that sees nothing but two middles at the corners
                planes[-1][1] = 0.01 * truth
                planes[-1][1, ::4, ::4] = truth[::4, ::4]
        drawn = iter([plane[None] for plane in planes])
        monkeypatch.setattr(SegmentationModel, "draw", lambda *args, drawn=drawn: next(drawn))
        model.save(tmp_path / f"model-{halves}")
        finish(tmp_path / f"model-{halves}", parts[1])
        found = describe(tmp_path / f"model-{halves}")
        assert (found["parting"] == "mask") or not halves
        assert found["temperature"] < 0.5  # the samples are right: surer than they say


def test_what_is_kept_is_the_best_on_the_pictures_for_choices(tmp_path, quick, monkeypatch):
    scores = iter([0.1, 0.5, 0.3])
    judged = module.judge
    monkeypatch.setattr(module, "judge", lambda *args: (next(scores), *judged(*args)[1:]))
    monkeypatch.setattr(module, "finish", lambda *args: None)
    train(recipe(folder(tmp_path / "data", 4), steps=6), tmp_path / "run", Follower())
    assert describe(tmp_path / "run" / "model")["best"] == {"step": 4, "iou": 0.5}
    assert digest(tmp_path / "run" / "model" / WEIGHTS) == digest(tmp_path / "run" / "best" / WEIGHTS)


@pytest.mark.parametrize("options", [{}, {"engine": "plain", "members": 2}], ids=["segdiff", "plain"])
def test_a_run_that_is_stopped_ends_with_the_same_bits(tmp_path, quick, options):
    data = folder(tmp_path / "data", 4)
    train(recipe(data, **options), tmp_path / "whole", Follower())
    follower = Follower(stop_after=2)
    from inkwash.training.fit import Stopped

    for _ in range(5):
        try:
            train(recipe(data, **options), tmp_path / "parts", follower)
            break
        except Stopped:
            assert SegmentationModel.load(tmp_path / "parts" / "model").config["temperature"] > 0  # used at any time
    one, other = (SegmentationModel.load(tmp_path / name / "model") for name in ("whole", "parts"))
    assert one.hash == other.hash and one.config == other.config


@pytest.mark.parametrize(
    "options", [{}, {"engine": "plain"}, {"condition": "concat"}], ids=["segdiff", "plain", "concat"]
)
def test_one_batch_is_learned_by_heart(tmp_path, options):
    data = folder(tmp_path / "data", 4, size=24)
    made = recipe(data, **options)
    parts = split(read_data(data), data)
    torch.manual_seed(0)
    model = new_model(made, read_data(data), parts[0], parts[1])
    (example, *_) = parts[0]
    from inkwash.systems.segmentation.targets import prepare

    prepared = prepare(example, 1, True, 1.0)
    batch = {"picture": prepared.picture[None].float() / 127.5 - 1, "x": prepared.target[None].float() / 127.5 - 1}
    loss, optimizer = loss_of(made, model), torch.optim.Adam(model.network.parameters(), 1e-2)
    model.network.train()
    for step in range(120):
        optimizer.zero_grad()
        value = loss(batch, torch.Generator().manual_seed(step))
        value.backward()
        optimizer.step()
    model.network.eval()
    mean = model.draw(example.picture, 3, steps=5).mean(0)[:1]
    assert iou(class_map(mean), (example.labels > 0).astype(np.uint8), 1) > 0.9


def test_the_loss_does_not_depend_on_the_size_of_the_picture(tmp_path):
    """A mean, not a sum: of a network that says nothing it is that of the noise, 1."""
    data = folder(tmp_path / "data", 4)
    parts = split(read_data(data), data)
    made = recipe(data, parametrization="eps", schedule="linear")
    model = new_model(made, read_data(data), parts[0], parts[1])
    for size in (16, 64):
        batch = {"picture": torch.zeros(8, 3, size, size), "x": torch.ones(8, 2, size, size)}
        value = loss_of(made, model)(batch, torch.Generator().manual_seed(0)).detach()
        assert float(value) == pytest.approx(1, abs=0.05)


def test_dice_is_nothing_for_the_truth_and_one_for_its_opposite():
    target = torch.zeros(2, 1, 8, 8)
    target[..., :4] = 1
    assert float(dice_loss(100 * (2 * target - 1), target)) == pytest.approx(0, abs=1e-5)
    assert float(dice_loss(-100 * (2 * target - 1), target)) == pytest.approx(1, abs=0.02)


def test_a_scale_is_chosen_by_the_size_of_objects(tmp_path):
    data = folder(tmp_path / "data", 4)
    parts = split(read_data(data), data)
    made = replace(recipe(data), scale=None)
    assert new_model(made, read_data(data), parts[0], parts[1]).config["scale"] == 1.0  # they are small
    big = [one._replace(labels=np.kron(one.labels, np.ones((4, 4), np.int32))) for one in parts[0]]
    model = new_model(made, read_data(data), big, parts[1])
    assert model.config["scale"] * model.config["radius"] == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"members": 2}, "members: of the engine plain"),
        ({"parametrization": "eps"}, "eps needs the schedule linear"),
        ({"size": 18}, "size = 18: 2 widths need a multiple of 4"),
        ({"widths": [9, 9]}, "norm_num_groups 8 does not divide channels 9"),
    ],
)
def test_recipes_that_contradict_themselves_are_one_line(changes, says, tmp_path):
    with pytest.raises(UserError, match=says):
        train(recipe(folder(tmp_path / "data", 4), **changes), tmp_path / "run", Follower())


def test_a_loss_that_is_not_finite_stops_with_a_line(tmp_path, quick):
    made = recipe(folder(tmp_path / "data", 4))
    with pytest.raises(UserError, match=r"the loss is nan|the norm of its gradient|samples are not finite"):
        train(
            replace(made, fit=replace(made.fit, learning_rate=1e3, max_grad_norm=float("inf"), steps=60, warmup=0)),
            tmp_path / "run",
            Follower(),
        )


def test_the_log_has_every_step(tmp_path, quick):
    train(recipe(folder(tmp_path / "data", 4)), tmp_path / "run", Follower())
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4] and all(float(row["loss"]) > 0 for row in rows)


def test_pictures_of_huge_objects_keep_a_size(tmp_path, monkeypatch):
    data = read_data(folder(tmp_path / "data", 4, size=32))
    parts = split(data, tmp_path)
    monkeypatch.setattr(module, "typical", lambda labels: (20_000.0, 9.0))
    made = new_model(recipe(tmp_path / "data", scale=None), data, parts[0], parts[1])
    assert made.config["scale"] * 20_000 == pytest.approx(module.USUAL)
