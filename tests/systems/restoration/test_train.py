"""Training: one batch is learned by heart, the best is kept, a stopped run ends with the same bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.progress import Note, Preview
from inkwash.systems.restoration import train as module
from inkwash.systems.restoration import train_editing as editing
from inkwash.systems.restoration import train_superresolution as superresolution
from inkwash.systems.restoration.data import for_editing, for_upscaling, loader, read_pictures, split
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.train import capped, judge, loss_of, new_model, residual_of
from inkwash.systems.restoration.upscaler import Upscaler
from inkwash.training.fit import Stopped
from inkwash.training.settings import Settings
from inkwash.weights.files import WEIGHTS, digest
from inkwash.weights.shipped import describe
from tests.follower import Follower
from tests.systems.restoration.toy import editor, folder, upscaler

ROOMS = {"superresolution": superresolution, "editing": editing}
KINDS = {"superresolution": Upscaler, "editing": Editor}


def recipe(task, data, steps=4, **changes):
    settings = Settings(steps, 2, 3e-3, warmup=2, ema_decay=0.9, preview_every=2, checkpoint_minutes=1000)
    return ROOMS[task].Recipe(task=task, data=data, fit=settings, **({"size": 16, "widths": [8, 8]} | changes))


@pytest.fixture
def quick(monkeypatch):
    for name in ("JUDGED", "SHOWN_STEPS", "SHOWN"):
        monkeypatch.setattr(module, name, 1)


def notes(follower):
    return [event.text for event in follower.of(Note)]


@pytest.mark.parametrize("task", ROOMS)
def test_a_training_from_files_to_a_model_that_answers(task, tmp_path, quick):
    data = folder(tmp_path / "data", 8)
    ROOMS[task].train(recipe(task, data), tmp_path / "run", follower := Follower())
    model = KINDS[task].load(tmp_path / "run" / "model")
    said = " / ".join(notes(follower))
    assert "5 pictures to learn from, 1 for choices, 2 for the table" in said and "it learns to undo: " in said
    assert model.config["degradation"] in said and "step 2: loss" in said and len(follower.of(Preview)) == 2
    parts = split(read_pictures(data), data)
    assert model.config["train"] == sorted(one.digest for one in parts[0])
    assert model.config["choices"] == {one.digest: one.name for one in parts[1]}
    assert model.config["best"]["step"] in (2, 4)
    low = parts[2][0].picture
    made = model.upscale(low, 1) if task == "superresolution" else model.edit(low, "restore", samples=1).samples
    assert made.shape[1:] == ((96, 120, 3) if task == "superresolution" else low.shape)


def test_what_is_kept_is_the_best_on_the_pictures_for_choices(tmp_path, quick, monkeypatch):
    scores = iter([0.5, 0.1, 0.3])
    monkeypatch.setattr(module, "judge", lambda *args: next(scores))
    data = folder(tmp_path / "data", 4)
    superresolution.train(recipe("superresolution", data, steps=6), tmp_path / "run", Follower())
    assert describe(tmp_path / "run" / "model")["best"] == {"step": 4, "loss": 0.1}
    assert digest(tmp_path / "run" / "model" / WEIGHTS) == digest(tmp_path / "run" / "best" / WEIGHTS)


@pytest.mark.parametrize(("task", "engine"), [("superresolution", "diffusion"), ("editing", "plain")])
def test_a_run_that_is_stopped_ends_with_the_same_bits(task, engine, tmp_path, quick):
    made = recipe(task, folder(tmp_path / "data", 4), engine=engine)
    ROOMS[task].train(made, tmp_path / "whole", Follower())
    follower = Follower(stop_after=2)
    for _ in range(5):
        try:
            ROOMS[task].train(made, tmp_path / "parts", follower)
            break
        except Stopped:
            KINDS[task].load(tmp_path / "parts" / "model")  # may be used at any time
    one, other = (KINDS[task].load(tmp_path / name / "model") for name in ("whole", "parts"))
    assert one.hash == other.hash and one.config == other.config


@pytest.mark.parametrize("engine", ["diffusion", "plain"])
@pytest.mark.parametrize("task", ROOMS)
def test_one_batch_is_learned_by_heart(task, engine, tmp_path):
    """The answer is much nearer to the truth than the source is."""
    data = folder(tmp_path / "data", 4, height=16, width=16)
    made = recipe(task, data, engine=engine, widths=[16, 16])
    degrade = for_upscaling(4, ["area"]) if task == "superresolution" else for_editing({"colourise": 1.0})
    facts = {"factor": 4, "noise_level": 0.0} if task == "superresolution" else {"tasks": ["colourise"]}
    torch.manual_seed(0)
    network = {"augmented": True} if task == "superresolution" else {"missing": True}
    model = new_model(made, KINDS[task], network, facts | {"degradation": ""}, [], [])
    batch = loader(read_pictures(data).examples, 16, 1, 0, degrade)
    model.config["residual"] = residual_of(model, lambda _: batch(0))
    loss, optimizer = loss_of(made, model), torch.optim.Adam(model.network.parameters(), 1e-2)
    for step in range(240 if (task, engine) == ("superresolution", "diffusion") else 60):
        optimizer.zero_grad()
        many = {key: value.expand(4, *value.shape[1:]) for key, value in batch(0).items()}
        loss(many, torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    model.network.eval()
    truth, source = batch(0)["x"], model.base(batch(0))
    errors = [float(((picture - truth) ** 2).mean()) for picture in (model.answer(batch(0), 0, 5), source)]
    assert errors[0] < 0.5 * errors[1]


def test_the_residual_is_measured_where_something_is_drawn(tmp_path):
    batch = {"x": torch.full((2, 3, 8, 8), 0.5), "source": torch.full((2, 3, 8, 8), 0.5)}
    hole = torch.zeros(2, 1, 8, 8)
    hole[..., :2] = 1
    holes = batch | {"missing": hole, "drawn": hole > 0}
    assert residual_of(editor(), lambda _: holes) == pytest.approx(0.5)  # from nothing, which is grey
    whole = batch | {"missing": 0 * hole, "drawn": hole < 2, "x": torch.full((2, 3, 8, 8), 0.3)}
    assert residual_of(editor(), lambda _: whole) == pytest.approx(0.3)  # all of it is drawn, whatever the source
    same = {"x": torch.zeros(1, 3, 4, 4), "low": torch.zeros(1, 3, 2, 2)}
    assert residual_of(upscaler(), lambda _: same) == 1e-3  # never a division by 0


def test_weights_of_times():
    """Of v that of its own squared error, 1; of x_0 the same as a weight on its error, with a cap."""
    process = diffusion.Gaussian(diffusion.cosine())
    t = process.at(torch.tensor([0.01, 0.3, 0.9]))
    v, x0 = (diffusion.PARAMETRIZATIONS[name] for name in ("v", "x0"))
    assert torch.allclose(capped(t, v), torch.ones(3, dtype=t.t.dtype), atol=1e-4)
    assert torch.allclose(capped(t, x0), torch.clip(1 / t.sigma**2, max=5.0))


def test_the_plain_loss_is_the_mean_absolute_error_where_something_is_drawn(tmp_path):
    made = replace(recipe("editing", tmp_path), engine="plain")
    model = editor(engine="plain", residual=0.5)
    for parameter in model.network.parameters():
        torch.nn.init.zeros_(parameter)
    hole = torch.zeros(2, 1, 8, 8)
    hole[0, :, :4], hole[1, :, :1] = 1, 1
    batch = {"x": torch.full((2, 3, 8, 8), 0.2), "source": torch.ones(2, 3, 8, 8), "missing": hole, "drawn": hole > 0}
    batch["x"][1] = 0.4
    value = float(loss_of(made, model)(batch, torch.Generator()).detach())
    assert value == pytest.approx((0.2 + 0.4) / 2 / 0.5)  # each sample counts alike, whatever its hole


def test_the_objective_is_of_squares_or_of_absolute_errors(tmp_path):
    """Of a network that has learned nothing, and says 0: its error is the state, here 0.25 everywhere."""
    batch = {
        "x": torch.full((4, 3, 8, 8), 0.05),
        "source": torch.zeros(4, 3, 8, 8),
        "missing": torch.zeros(4, 1, 8, 8),
    }
    batch["drawn"] = batch["missing"] == 0
    of = {}
    for objective in ("l2", "l1"):
        made = recipe("editing", tmp_path, objective=objective)
        model = new_model(
            made, Editor, {"missing": True}, {"tasks": ["restore"], "samples": 1, "degradation": ""}, [], []
        )
        model.config["residual"] = 0.2
        of[objective] = float(loss_of(made, model)(batch, torch.Generator().manual_seed(0)).detach())
    assert of["l2"] == pytest.approx(0.25 * of["l1"], rel=1e-4)


def test_choices_are_always_judged_alike(tmp_path, quick):
    data = folder(tmp_path / "data", 3)
    loss = loss_of(recipe("superresolution", data), upscaler(factor=4))
    batch = loader(read_pictures(data).examples, 16, 2, 0, for_upscaling(4, ["area"]))
    assert judge(loss, batch, torch.device("cpu")) == judge(loss, batch, torch.device("cpu"))


@pytest.mark.parametrize(
    ("task", "changes", "says"),
    [
        ("superresolution", {"size": 16, "factor": 7, "patch": 5}, "size = 16: patch and factor need 35 at least"),
        (
            "superresolution",
            {"degradation": ["blur"]},
            "how pictures are made small is missing; name area or bicubic",
        ),
        ("superresolution", {"degradation": ["aera"]}, "unknown degradation 'aera': did you mean area"),
        ("editing", {"tasks": ["color"]}, "unknown task 'color'"),
        ("editing", {"tasks": []}, "tasks: one at least is needed"),
        ("editing", {"weights": {"restore": 0.0}}, "weights above 0"),
        ("editing", {"weights": {"resore": 1.0}}, "unknown task 'resore': did you mean restore"),
        ("editing", {"widths": [9, 9]}, "norm_num_groups 8 does not divide channels 9"),
    ],
)
def test_recipes_that_contradict_themselves_are_one_line(task, changes, says, tmp_path):
    with pytest.raises(UserError, match=says):
        ROOMS[task].train(recipe(task, folder(tmp_path / "data", 4), **changes), tmp_path / "run", Follower())


def test_weights_of_tasks_are_their_shares():
    made = recipe("editing", None, tasks=["inpaint", "colourise"], weights={"inpaint": 3.0, "restore": 5.0})
    assert editing.weights_of(made) == {"colourise": 1.0, "inpaint": 3.0}


def test_a_loss_that_is_not_finite_stops_with_a_line(tmp_path, quick):
    made = recipe("superresolution", folder(tmp_path / "data", 4))
    wild = replace(made.fit, learning_rate=1e3, max_grad_norm=float("inf"), steps=60, warmup=0)
    with pytest.raises(UserError, match=r"the loss is nan|the norm of its gradient|samples are not finite"):
        superresolution.train(replace(made, fit=wild), tmp_path / "run", Follower())


def test_recipes_that_ship_are_for_data_of_ones_own(tmp_path):
    for room in ROOMS.values():
        made = room.default_recipe(tmp_path)
        assert made.data == tmp_path and np.prod(made.widths) > 0
        assert module.side_of(made, getattr(made, "factor", 1)) == made.size


@pytest.mark.parametrize(("factor", "side"), [(2, 64), (3, 60), (5, 60), (7, 56), (8, 64)])
def test_squares_are_as_large_as_the_factor_divides(factor, side, tmp_path):
    assert module.side_of(replace(superresolution.default_recipe(tmp_path), factor=factor), factor) == side
