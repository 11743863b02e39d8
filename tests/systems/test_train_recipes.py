"""Every recipe that ships trains on an accelerator: the losses of the CPU, and no step waits for the device."""

import csv
import io
import json
import tarfile
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from torch.optim.optimizer import register_optimizer_step_post_hook

from inkwash.networks.autoencoder import Autoencoder, save_autoencoder
from inkwash.progress import Preview
from inkwash.systems.crystals import train as crystals
from inkwash.systems.crystals.data import to_structure
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.model import CrystalModel
from inkwash.systems.crystals.verbs import TASKS as CRYSTALS
from inkwash.systems.detection.verbs import TASKS as DETECTION
from inkwash.systems.language import train as language
from inkwash.systems.language.verbs import TASKS as LANGUAGE
from inkwash.systems.pictures import emoji_data, icons_data, train_autoencoder, train_text_encoder, train_upsampler
from inkwash.systems.pictures.verbs import TASKS as PICTURES
from inkwash.systems.protein.verbs import TASKS as PROTEIN
from inkwash.systems.restoration import cascade_train
from inkwash.systems.restoration import train as restoration
from inkwash.systems.restoration.cascade_verbs import TASKS as CASCADE
from inkwash.systems.restoration.verbs import TASKS as RESTORATION
from inkwash.systems.segmentation import train as segmentation
from inkwash.systems.segmentation.verbs import TASKS as SEGMENTATION
from inkwash.systems.series import train as series
from inkwash.systems.series.verbs import TASKS as SERIES
from inkwash.training.recipe import load_recipe, read_toml
from inkwash.training.settings import Settings
from inkwash.weights.shipped import recipes
from tests.accelerator import counting
from tests.follower import Follower
from tests.models import random
from tests.systems.crystals.perovskites import perovskites
from tests.systems.detection import toy
from tests.systems.pictures.discs import discs
from tests.systems.pictures.shapes import icons
from tests.systems.protein import chains as proteins
from tests.systems.restoration import toy as restored
from tests.systems.segmentation import cells

RECIPES = recipes()
TASKS = PICTURES | LANGUAGE | SERIES | CRYSTALS | PROTEIN | SEGMENTATION | DETECTION | RESTORATION | CASCADE
STEPS = 4  # losses are always read after the first and the second, and after the last

# What is smaller than in the recipes; a table is changed where a recipe has it. All the rest is the recipes' own.
FIT = {
    "steps": STEPS, "batch_size": 4, "preview_every": STEPS, "log_every": 1000, "checkpoint_minutes": 1000,
    "compile": "none",
}  # fmt: skip
SMALLER = {
    "pictures": {"fit": FIT, "mean_predictor": {"hidden": 32, "fit": FIT}},
    "icons": {"fit": FIT, "mean_predictor": {"hidden": 32, "fit": FIT}},
    "autoencoder": {"fit": FIT},
    "upsampler": {"fit": FIT},
    "student": {"fit": FIT, "trajectories": 8, "teacher": "emoji"},
    "text-encoder": {
        "fit": FIT | {"batch_size": 64},
        "corpus": {"patterns": 60, "phrases": 20, "long": 5, "held_out": 10, "pairs": 1000},
        "network": {"embedding": 8, "width": 32},
    },
    "language": {"fit": FIT, "min_count": 1, "width": 48},
    "classifier": {"fit": FIT, "min_count": 1, "width": 48},
    "crystals": {"fit": FIT, "width": 16, "layers": 1},
    "predictor": {"fit": FIT, "width": 16, "layers": 1},
    "backbone": {"fit": FIT | {"batch_size": 1}, "width": 16, "layers": 1},
    "detection": {
        "fit": FIT,
        "size": 48,
        "boxes": 8,
        "widths": [8, 16],
        "levels": 2,
        "dim": 16,
        "stages": 2,
        "pooled": 3,
        "backbone_steps": STEPS,
    },
    "segmentation": {"fit": FIT, "size": 16, "widths": [8, 8], "growth": 4},
    "superresolution": {"fit": FIT, "size": 16, "widths": [16, 16]},
    "editing": {"fit": FIT, "size": 16, "widths": [16, 16]},
    "cascade": {"fit": FIT, "sides": [8, 16], "widths": [[8], [8]], "patches": [1, 2], "lengths": [1, 1]},
    "series": {"fit": FIT, "horizon": 12},  # so that the first part, too, is long enough for early stopping
}
# A student's examples are rounded to float16, bfloat16 has 8 bits, and on another device another coin decides about a
# writer's self-conditioning (whose weights begin at zero); elsewhere it is float32.
TOLERANCES = {"bfloat16": 2e-2, "student": 1e-4, "language": 1e-4}
CHANNELS = 16  # in each block of a U-Net or autoencoder


def smaller(keys, changes):
    out = keys | {key: value for key, value in changes.items() if not isinstance(value, dict)}
    out |= {
        key: smaller(keys[key], value) for key, value in changes.items() if isinstance(value, dict) and key in keys
    }
    if "block_out_channels" in out.get("network", {}):
        out["network"] = out["network"] | {
            "block_out_channels": [CHANNELS] * len(out["network"]["block_out_channels"])
        }
    return out


def emoji(_=None, size=64):
    """Discs that are red apples and cats, in two styles: eight for training, and two of each other split."""
    data = discs(size, train=8)
    rows = np.array([*range(8), 8, 9, 48, 49])
    count = len(rows)
    return emoji_data.Emoji(
        pictures=data.pictures[rows],
        style=np.array(["flat", "noto"] * (count // 2)),
        concept=np.array(["1f34e", "1f34e", "1f408", "1f408"] * (count // 4)),
        name=np.array(["red apple", "red apple", "cat", "cat"] * (count // 4)),
        tags=[["fruit"], ["fruit"], ["pet"], ["pet"]] * (count // 4),
        group=np.array(["food-drink"] * 2 + ["animals-nature"] * 2)[np.arange(count) % 4],
        split=data.split[rows],
        licence=np.array(["MIT"] * count),
        name_zh=np.array(["红苹果", "红苹果", "猫", "猫"] * (count // 4)),
        tags_zh=[["水果"], ["水果"], ["宠物"], ["宠物"]] * (count // 4),
        kinds=[[]] * count,
    )


def autoencoder(folder):
    """One of the recipe's shapes."""
    keys = smaller(read_toml(RECIPES["autoencoder"]), SMALLER["autoencoder"])["network"]
    torch.manual_seed(1)
    save_autoencoder(random(Autoencoder(**keys)), folder)
    return folder


def restaurants(file):
    """Sentences as those of the E2E challenge, of several lengths; every tenth source is held out."""
    names, foods = ["The Punter", "Blue Spice", "Alimentum", "The Mill"], ["Italian", "French", "Fast food"]
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["mr", "ref"])
        for name in names:
            for food in foods:
                for area in ("riverside", "city centre"):
                    mr = f"name[{name}], food[{food}], area[{area}]"
                    rows.writerow([mr, f"{name} serves {food} food."])
                    rows.writerow([mr, f"In the {area} there is a place called {name}, which serves {food} food."])
    return file


def rates(file):
    """An archive of rolling windows, as gluonts writes them."""
    walks = 1 + 0.01 * np.random.default_rng(0).normal(size=(3, 500)).cumsum(1)
    rows = {"train": [(walk, 440) for walk in walks], "test": [(walk, end) for end in (470, 500) for walk in walks]}
    parts = {"metadata/metadata.json": json.dumps({"freq": "B"})}
    for split, members in rows.items():
        lines = [json.dumps({"start": "1990-01-01", "target": walk[:end].tolist()}) for walk, end in members]
        parts[f"{split}/data.json"] = "\n".join(lines)
    with tarfile.open(file, "w:gz") as tar:
        for name, text in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return file


def cubes(folder):
    """A table of CIFs."""
    made = perovskites(20)
    with (folder / "cubes.csv").open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["cif", "size"])
        rows.writerows([to_structure(one).to(fmt="cif"), one.properties["size"]] for one in made)
    return folder / "cubes.csv"


def model_of_cubes(data, folder):
    """As it begins."""
    recipe = crystals.Recipe("crystals", data, Settings(1, 4, 1e-3), width=16, layers=1)
    facts = crystals.describe(recipe, read_crystals(data))
    CrystalModel(crystals.new_network(facts), facts).save(folder)
    return folder


def teacher(*_):
    """A text encoder that knows letters: a table of vectors."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fox", "hat", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    vectors = torch.randn(len(pieces), 8, generator=torch.Generator().manual_seed(0))
    return tokenizer, lambda ids: vectors[ids], vectors


def words(_):
    return [train_text_encoder.Emoji(name, [name[:3]], "狐狸", ["狐"]) for name in ("red fox", "big hat")], []


@pytest.fixture
def small_world(monkeypatch):
    """Small data wherever a training reads some, and nothing measured afterwards."""
    monkeypatch.setattr(emoji_data, "load", emoji)
    monkeypatch.setattr(icons_data, "load", icons)
    monkeypatch.setattr(train_text_encoder, "load_teacher", teacher)
    monkeypatch.setattr(train_text_encoder, "captions", words)
    monkeypatch.setattr(train_text_encoder, "fixed_shapes", lambda _: True)  # the same texts on both devices
    monkeypatch.setattr(series, "FIRST_LOOK", STEPS)
    monkeypatch.setattr(segmentation, "JUDGED_STEPS", 1)
    for name in ("JUDGED", "SHOWN", "SHOWN_STEPS"):
        monkeypatch.setattr(restoration, name, 1)
    for name in ("STEPS", "TRIED"):
        monkeypatch.setattr(cascade_train, name, 2)
    monkeypatch.setattr(segmentation, "DEFAULTS", {"steps": 1, "samples": 2, "sampler": "ddim"})
    search = series.early_stopping_steps  # by which fewer may be of use
    monkeypatch.setattr(series, "early_stopping_steps", lambda *how, **more: max(search(*how, **more), STEPS))
    monkeypatch.setattr(language, "fixed_shapes", lambda _: True)  # dropout draws for each position, padding too
    for module in (train_autoencoder, train_upsampler):
        monkeypatch.setattr(module, "measure", lambda *_: {})


def small_recipe(name, folder):
    """A recipe in small, and with small data."""
    keys = read_toml(RECIPES[name])
    task = keys["task"]
    keys = smaller(keys, SMALLER[task])
    if "autoencoder" in keys:
        keys["autoencoder"] = autoencoder(folder / "vae")
    if task in ("language", "classifier"):
        keys["data"] = restaurants(folder / "e2e.csv")
    if "writer" in keys:
        keys["writer"] = Path(keys["writer"]).parts[1].removeprefix("gpu-")  # which ships
    if task == "series":
        keys["data"] = rates(folder / "rates.tar.gz")
    if task in CRYSTALS:
        keys["data"] = cubes(folder)
    if task == "predictor":
        keys["model"] = model_of_cubes(keys["data"], folder / "cubes")
    if task == "backbone":
        keys["data"] = proteins.save(folder / "chains.npz", proteins.chains(30))
    if task == "detection":
        pytest.importorskip("pycocotools")
        keys["data"] = toy.folder(folder / "shapes", 4)
    if task == "cascade":
        keys["data"] = toy.folder(folder / "shapes", 4)
    if task == "segmentation":
        pytest.importorskip("skimage")
        keys["data"] = cells.folder(folder / "cells", 4)
    if task in RESTORATION:
        keys["data"] = restored.folder(folder / "photos", 4)
    module = import_module(TASKS[task].module)
    return module.train, load_recipe(RECIPES[name], module.Recipe, **keys)


def on(device, recipe):
    """A recipe with this device in each of its [fit] tables."""
    changes = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name == "fit":
            changes["fit"] = replace(value, device=device)
        elif hasattr(value, "fit"):
            changes[field.name] = on(device, value)
    return replace(recipe, **changes)


def losses(folder):
    """By the folder of each of its trainings."""
    return {
        str(log.parent.relative_to(folder)): [
            float(row["loss"]) for row in csv.DictReader(log.read_text().splitlines())
        ]
        for log in sorted(folder.rglob("log.csv"))
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_an_accelerator_as_on_a_cpu(name, small_world, tmp_path):
    """Its own keys but for SMALLER: the first steps, the first preview, a checkpoint and the model."""
    train, recipe = small_recipe(name, tmp_path)
    train(on("cpu", recipe), tmp_path / "cpu", here := Follower())
    steps: dict[torch.optim.Optimizer, list[int]] = {}  # how much was noted when each was done
    with counting() as counts:
        hook = register_optimizer_step_post_hook(
            lambda optimizer, *_: steps.setdefault(optimizer, []).append(len(counts.places))
        )
        try:
            train(on("chip", recipe), tmp_path / "chip", there := Follower())
        finally:
            hook.remove()
    expected, found = losses(tmp_path / "cpu"), losses(tmp_path / "chip")
    assert expected.keys() == found.keys()
    for folder, values in found.items():
        assert len(values) == (STEPS // 2 if folder.endswith("-half") else STEPS)
    tolerance = TOLERANCES.get(recipe.fit.precision, TOLERANCES.get(recipe.task, 1e-5))
    for folder, values in found.items():
        np.testing.assert_allclose(values, expected[folder], rtol=tolerance, err_msg=folder)
    assert len(there.of(Preview)) == len(here.of(Preview))
    models = [
        sorted(p.relative_to(tmp_path / d).as_posix() for p in (tmp_path / d).rglob("*.safetensors"))
        for d in ("cpu", "chip")
    ]
    assert models[0] == models[1]
    steps = {
        optimizer: done for optimizer, done in steps.items() if len(done) <= STEPS
    }  # CDVAE's preview moves z by one
    assert len(steps) == len(found)
    for done in steps.values():
        if len(done) == 2:  # half as many steps, whose losses are all read
            continue
        step = counts.places[done[-2] : done[-1]]
        waits = [f"{kind} at {place}" for kind, place in step if kind != "async copy"]
        assert not waits, f"a step waits for the device: {waits}"
