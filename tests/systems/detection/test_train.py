"""Training: the best is kept, one batch is learned by heart, a stopped run ends with the same bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.progress import Note, Preview
from inkwash.systems.base import File
from inkwash.systems.detection import train as module
from inkwash.systems.detection.boxes import to_centres, to_state
from inkwash.systems.detection.data import read_data, split
from inkwash.systems.detection.model import DetectionModel
from inkwash.systems.detection.request import Evaluate
from inkwash.systems.detection.train import Recipe, default_recipe, finish, loss_of, new_model, train
from inkwash.training.settings import Settings
from inkwash.weights.files import WEIGHTS, digest
from inkwash.weights.shipped import describe
from tests.follower import Follower
from tests.systems.detection.toy import folder, shapes

pytest.importorskip("pycocotools")
FILE = File("0" * 64, "a.png")
SMALL = {"size": 48, "boxes": 8, "widths": [8, 16], "levels": 2, "dim": 16, "stages": 2, "pooled": 3}


def recipe(data, steps=4, **changes):
    settings = Settings(steps, 2, 3e-3, warmup=2, ema_decay=0.9, preview_every=2, checkpoint_minutes=1000)
    return Recipe("detection", data, settings, **(SMALL | changes))


def said(follower):
    return [event.text for event in follower.of(Note)]


@pytest.mark.parametrize("engine", ["diffusiondet", "fcos"])
def test_a_training_from_files_to_a_model_that_detects(engine, tmp_path):
    data = folder(tmp_path / "data", 8)
    train(recipe(data, engine=engine), tmp_path / "run", follower := Follower())
    model = DetectionModel.load(tmp_path / "run" / "model")
    notes = " / ".join(said(follower))
    assert "8 pictures: " in notes and "5 pictures to learn from, 1 for choices, 2 for the table" in notes
    assert "pictures are seen at 48 x 40 pixels" in notes and "step 2: AP50 0.0" in notes
    assert len(follower.of(Preview)) == 2
    parts = split(read_data(data), data)
    assert model.config["train"] == sorted(one.digest for one in parts[0])
    assert model.config["choices"] == {one.digest: one.name for one in parts[1]}
    assert model.config["engine"] == engine and model.config["best"]["step"] in (2, 4)
    assert model.config["classes"] == ["disc", "square"] and model.config["ids"] == [1, 2]
    assert np.isfinite(model.detect(shapes(99)[0]).boxes).all()


def test_the_backbone_learns_first_with_another_head(tmp_path, monkeypatch):
    begun = {}
    trained = module.fit

    def fitted(network, loss, batch, folder, settings, *args):
        begun[settings.steps] = [value.clone() for value in network.backbone.parameters()]
        return trained(network, loss, batch, folder, settings, *args)

    monkeypatch.setattr(module, "fit", fitted)
    train(recipe(folder(tmp_path / "data", 8), backbone_steps=6), tmp_path / "run", follower := Follower())
    first = DetectionModel.load(tmp_path / "run" / "backbone" / "model")
    assert first.config["engine"] == "fcos" and [*begun] == [6, 4]
    for own, given in zip(begun[4], first.network.backbone.parameters(), strict=True):
        assert (own == given).all()
    assert DetectionModel.load(tmp_path / "run" / "model").config["engine"] == "diffusiondet"
    assert any("the backbone learns first, for 6 steps" in text for text in said(follower))


def test_what_is_kept_is_the_best_on_the_pictures_for_choices(tmp_path, monkeypatch):
    scores = iter([0.1, 0.5, 0.3])
    judged = module.judge
    monkeypatch.setattr(
        module, "judge", lambda *args: ({"AP50": next(scores), "AP": 0.0}, (2.0, 0.5), judged(*args)[2])
    )
    monkeypatch.setattr(module, "finish", lambda *args: None)
    train(recipe(folder(tmp_path / "data", 4), steps=6), tmp_path / "run", Follower())
    facts = describe(tmp_path / "run" / "model")
    assert facts["best"] == {"step": 4, "AP50": 0.5} and facts["calibration"] == [2.0, 0.5]
    assert digest(tmp_path / "run" / "model" / WEIGHTS) == digest(tmp_path / "run" / "best" / WEIGHTS)


def test_scores_are_calibrated_by_the_pictures_for_choices(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fit_calibration", lambda scores, right: (float(len(scores)), float(right.sum())))
    data = folder(tmp_path / "data", 4)
    parts = split(read_data(data), data)
    model = new_model(recipe(data), read_data(data), *parts[:2])
    model.save(tmp_path / "model")
    finish(tmp_path / "model", parts[1])
    count, right = describe(tmp_path / "model")["calibration"]
    found = DetectionModel.load(tmp_path / "model").detect(shapes(int(parts[1][0].name[1:]))[0])
    assert 0 < count <= len(found.scores) and right <= count


@pytest.mark.parametrize("engine", ["diffusiondet", "fcos"])
def test_a_run_that_is_stopped_ends_with_the_same_bits(engine, tmp_path):
    from inkwash.training.fit import Stopped

    data = folder(tmp_path / "data", 4)
    train(recipe(data, engine=engine), tmp_path / "whole", Follower())
    follower = Follower(stop_after=2)
    for _ in range(5):
        try:
            train(recipe(data, engine=engine), tmp_path / "parts", follower)
            break
        except Stopped:
            assert DetectionModel.load(tmp_path / "parts" / "model").config["calibration"]  # used at any time
    one, other = (DetectionModel.load(tmp_path / name / "model") for name in ("whole", "parts"))
    assert one.hash == other.hash and one.config == other.config


@pytest.mark.parametrize(("engine", "steps"), [("diffusiondet", 250), ("fcos", 80)])
def test_one_picture_is_learned_by_heart(engine, steps, tmp_path):
    from inkwash.systems.detection.metrics import Judge

    data = read_data(folder(tmp_path, 4))
    made = recipe(tmp_path, engine=engine, dim=32, boxes=12)
    torch.manual_seed(0)
    model = new_model(made, data, data.examples[:1], data.examples[:1])
    (example, *_) = data.examples
    picture = torch.from_numpy(shapes(0)[0].transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
    corners = torch.from_numpy(example.boxes / [48, 40, 48, 40]).float()
    kinds = torch.cat([torch.from_numpy(example.kinds), torch.full((9,), -1)])[None]
    loss, optimizer = loss_of(made, model), torch.optim.AdamW(model.network.parameters(), 2e-3)
    model.network.train()
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        others = 0.5 + torch.randn(9, 4, generator=generator) / 6
        state = to_state(torch.cat([to_centres(corners), others.clamp(min=1e-4)]))[None]
        optimizer.zero_grad()
        batch = {"picture": picture.repeat(2, 1, 1, 1), "x": state.repeat(2, 1, 1), "kinds": kinds.repeat(2, 1)}
        loss(batch | {"most": 3}, generator).backward()
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
        optimizer.step()
    model.network.eval()
    found = model.detect(shapes(0)[0], steps=4)
    assert Judge([found], [example], 2).figures()["AP50"] > (0.4 if engine == "diffusiondet" else 0.8)


def test_more_objects_than_boxes_is_said_and_learned(tmp_path):
    train(recipe(folder(tmp_path / "data", 4), steps=2, boxes=2), tmp_path / "run", follower := Follower())
    assert any("have more than 2 objects, up to 3" in note for note in said(follower))


def test_fcos_learns_all_objects_of_a_picture(tmp_path, monkeypatch):
    seen = []
    loss = module.fcos_loss
    monkeypatch.setattr(module, "fcos_loss", lambda *args: seen.append(args[3]) or loss(*args))
    train(recipe(folder(tmp_path / "data", 4), steps=2, boxes=1, engine="fcos"), tmp_path / "run", Follower())
    assert max(int((kinds >= 0).sum(1).max()) for kinds in seen) > 1


def test_crowds_are_said_and_pictures_without_objects_are_learned_from(tmp_path):
    head = "image,label,xmin,ymin,xmax,ymax,crowd\n"
    folder(tmp_path / "data", 6)
    rows = (tmp_path / "data" / "boxes.csv").read_text().splitlines()[1:]
    first = split(read_data(tmp_path / "data"), tmp_path / "data")[0][0].name
    rows = [f"{row},0" for row in rows if not row.startswith(f"{first},")] + [f"{first},,,,,,"]
    second = split(read_data(tmp_path / "data"), tmp_path / "data")[0][1].name
    rows.append(f"{second},disc,1,1,40,40,1")
    (tmp_path / "data" / "boxes.csv").write_text(head + "\n".join(rows))
    train(recipe(tmp_path / "data", steps=4), tmp_path / "run", follower := Follower())
    notes = " / ".join(said(follower))
    assert "1 crowds, which are no single objects, are not learned from" in notes
    assert "6 pictures, 1 of them without objects" in notes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"levels": 3}, "levels = 3: at most 2, the number of widths"),
        ({"widths": [8, 12]}, "a width of 12: multiples of 8 are needed"),
    ],
)
def test_recipes_that_make_no_network_are_one_line(changes, says, tmp_path):
    with pytest.raises(UserError, match=says):
        train(recipe(folder(tmp_path / "data", 4), **changes), tmp_path / "run", Follower())


def test_a_loss_that_is_not_finite_stops_with_a_line(tmp_path):
    made = recipe(folder(tmp_path / "data", 4))
    wild = replace(made.fit, learning_rate=1e3, max_grad_norm=float("inf"), steps=60, warmup=0, preview_every=50)
    with pytest.raises(UserError, match=r"the loss is|the norm of its gradient|samples are not finite"):
        train(replace(made, fit=replace(wild, learning_rate=1000.0)), tmp_path / "run", Follower())


def test_a_model_looks_for_no_more_boxes_than_can_be_asked_for(tmp_path):
    data = folder(tmp_path, 4)
    made, (training, choices, _) = read_data(data), split(read_data(data), data)
    for boxes, looked_for in ((8, 40), (1000, 2000)):
        model = new_model(recipe(data, boxes=boxes), made, training, choices)
        assert Evaluate(data=FILE, boxes=model.config["boxes"]).boxes == looked_for


def test_data_without_a_recipe_are_learned_from_by_that_of_blood_cells(tmp_path):
    made = default_recipe(tmp_path)
    assert made.data == tmp_path and made.engine == "diffusiondet" and made.fit.lr_decay == "none"
