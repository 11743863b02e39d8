"""The recipes that ship: each is one, and those for an accelerator build networks as large as they say."""

import json
import re
from importlib import import_module

import pytest
import torch

from inkwash.cli.queue import load_queue
from inkwash.networks.autoencoder import Autoencoder
from inkwash.networks.text import TextEncoder
from inkwash.networks.unet import UNet
from inkwash.systems import of_task
from inkwash.systems.crystals.model import new_network as crystal_network
from inkwash.systems.detection.networks import DetectionNetwork
from inkwash.systems.language import train as language
from inkwash.systems.language.networks import ClassifierNetwork
from inkwash.systems.pictures.icon_sets import DEFAULT
from inkwash.systems.pictures.upsampler import CHANNELS, FACTOR
from inkwash.systems.protein import model as protein
from inkwash.systems.restoration.networks import RestorationNetwork
from inkwash.systems.segmentation.networks import SegmentationNetwork
from inkwash.systems.train import task_of
from inkwash.training.recipe import load_recipe
from inkwash.weights.shipped import find_recipe, queues, recipes, reference, shipped

ACCELERATOR = [name for name in recipes() if name.startswith("gpu/")]


def load(name):
    file = find_recipe(name)
    tasks = import_module(of_task(task_of(file)).verbs["train"].run.partition(":")[0]).TASKS
    return load_recipe(file, import_module(tasks[task_of(file)].module).Recipe)


def config(model, part="", file="config.json"):
    return json.loads((shipped()[model] / part / file).read_text())


def unet_of(recipe, like, *keys):
    """With what follows from the rest of the recipe, as the shipped model has it."""
    return UNet(**{key: like[key] for key in keys} | recipe.network)


def pictures(recipe):
    derived = "sample_size", "in_channels", "out_channels", "cross_attention_dim", "class_embed_type"
    return unet_of(recipe, config("emoji", "unet"), *derived, "projection_class_embeddings_input_dim")


def icons(recipe):
    states, styles = recipe.model.patch**2, len(DEFAULT)
    derived = {"in_channels": 3 * states, "out_channels": states, "class_embed_type": "projection"}
    width = config("emoji", "unet")["cross_attention_dim"]
    derived |= {"cross_attention_dim": width, "projection_class_embeddings_input_dim": width + styles}
    return UNet(**derived, **recipe.network)


def upsampler(recipe):
    states = CHANNELS * FACTOR**2
    derived = {"in_channels": states + CHANNELS, "out_channels": states, "cross_attention_dim": None}
    return UNet(**derived, class_embed_type="timestep", **recipe.network)


def text_encoder(recipe):
    shape = json.loads((shipped()["emoji"].parent / "text-encoder" / "config.json").read_text())
    return TextEncoder(shape["vocabulary"], output=shape["output"], **vars(recipe.network))


def writer(recipe):
    return language.new_network(recipe, range(config("e2e", file="system.json")["network"]["symbols"]), True)


def classifier(recipe):
    like = config("e2e", file="classifier.json")["network"]
    dim = load(str(recipe.writer.parent.name).replace("gpu-", "gpu/"))
    dim = dim.dim if dim.engine == "continuous" else dim.width
    return ClassifierNetwork(**like | {"dim": dim, "width": recipe.width, "layers": recipe.layers})


def backbone(recipe):
    like = config("backbone", file="system.json")["network"]
    return protein.NETWORKS[recipe.engine](
        **like | {"width": recipe.width, "layers": [recipe.layers - 1, recipe.layers]}
    )


def crystals(recipe):
    facts = config("carbon", file="system.json")
    return crystal_network(facts | {"network": {"width": recipe.width, "layers": recipe.layers}})


def segmentation(recipe):
    like = config("nuclei", file="system.json")["network"]
    return SegmentationNetwork(
        **like | {name: getattr(recipe, name) for name in ("widths", "layers", "blocks", "growth")}
    )


def detection(recipe):
    kinds = len(config("bccd", file="system.json")["classes"])
    return DetectionNetwork(
        kinds, **{name: getattr(recipe, name) for name in ("widths", "levels", "dim", "stages", "pooled")}
    )


def editing(recipe):
    shape = {name: getattr(recipe, name) for name in ("widths", "layers", "patch", "attention")}
    return RestorationNetwork(missing=True, **shape)


def superresolution(recipe):
    shape = {name: getattr(recipe, name) for name in ("widths", "layers", "patch", "attention")}
    return RestorationNetwork(augmented=recipe.engine == "diffusion", **shape)


NETWORKS = {
    "autoencoder": lambda recipe: Autoencoder(**recipe.network),
    "pictures": pictures,
    "icons": icons,
    "student": pictures,
    "upsampler": upsampler,
    "text-encoder": text_encoder,
    "language": writer,
    "classifier": classifier,
    "backbone": backbone,
    "crystals": crystals,
    "segmentation": segmentation,
    "detection": detection,
    "editing": editing,
    "superresolution": superresolution,
}
EXACT = ("backbone", "crystals")  # places are known better than to the 8 bits of bfloat16


@pytest.mark.parametrize("name", ACCELERATOR)
def test_a_recipe_for_an_accelerator_is_as_large_as_it_says(name):
    recipe = load(name)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in NETWORKS[recipe.task](recipe).parameters()) / 1e6
    said = float(re.search(r"([\d.]+) million parameters", find_recipe(name).read_text())[1])
    assert said == round(size, 1)
    if name == "gpu/emoji":
        assert 60 < size < 130
    assert recipe.fit.precision == ("float32" if recipe.task in EXACT else "bfloat16")
    assert recipe.fit.grad_accumulation == 1
    assert recipe.fit.log_every == 50 and recipe.fit.checkpoint_minutes == 5


def test_there_is_one_for_each_kind():
    kinds = {load(name).task for name in ACCELERATOR}
    assert kinds == NETWORKS.keys()
    assert {load(f"gpu/{name}").engine for name in ("e2e", "e2e-masked", "e2e-autoregressive")} == {
        "continuous", "masked", "autoregressive"
    }  # fmt: skip


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_loads(name):
    assert load(name).fit.steps > 0


@pytest.mark.parametrize("name", queues())
def test_a_queue_trains_every_recipe_for_an_accelerator_after_what_it_needs(name):
    trainings = load_queue(name)
    folders = [training.out.as_posix() for training in trainings]
    assert sorted(training.entry.recipe for training in trainings) == sorted(ACCELERATOR)
    for i, training in enumerate(trainings):
        assert training.entry.minutes % 30 == 0
        needed = re.findall(r'"(runs/[^/"]+)', training.recipe.read_text())
        assert set(needed) <= set(folders[:i])
        assert f"train {training.entry.recipe} --out {training.out.as_posix()}" in training.recipe.read_text()


@pytest.mark.parametrize(
    ("here", "name"),
    [("home/ann/work", "runs/fox/model"), ("home/ann/work/runs", "fox/model"), ("home/ann", "work/runs/fox/model"),
     ("home", "model"), ("", "model"), ("home/ann/work/runs/fox/model", "model"), ("elsewhere", "model")],
)  # fmt: skip
def test_a_reference_says_nothing_of_whose_home_a_model_lies_in(here, name, tmp_path, monkeypatch):
    model = tmp_path / "home/ann/work/runs/fox/model"
    model.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home/ann"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home/ann"))
    monkeypatch.chdir(tmp_path / here)
    assert reference(model) == name
    monkeypatch.chdir(tmp_path.anchor)
    assert reference(model) == "model"
    assert reference("emoji") == "emoji"
