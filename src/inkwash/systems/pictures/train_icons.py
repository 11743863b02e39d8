"""Training of a model of icons: distance fields from words, a style, and a picture to draw alike."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt
from torch import Tensor

from inkwash import diffusion
from inkwash.networks.unet import UNet
from inkwash.progress import CONSOLE, Monitor
from inkwash.systems.pictures import icons_data, training_pictures
from inkwash.systems.pictures.conditions import Conditions
from inkwash.systems.pictures.icons import (
    References,
    captioned_icons,
    clean_and_concat,
    draw_augmentation,
    has_no_side,
    to_state,
)
from inkwash.systems.pictures.model import Config, state_shape
from inkwash.systems.pictures.networks import MeanPredictor
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.pictures.runtimes import Torch
from inkwash.systems.pictures.train import (
    MeanPrediction,
    capped_weight,
    held_out_batches,
    preview,
    train_mean_predictors,
    unet_config,
)
from inkwash.training.build import build
from inkwash.training.data import batches
from inkwash.training.fit import fit
from inkwash.training.placement import place
from inkwash.training.recipe import Share
from inkwash.training.settings import Settings
from inkwash.weights.shipped import TEXT_ENCODER

PREVIEW = ["rocket", "coffee cup", "shopping cart with a heart", "cloud crossed out", "smiling face", "fish", "house"]


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "icons".

    data         the folder of `inkwash data icons`
    network, mean_predictor, chinese, weight, model   as in a recipe of task "pictures"
    """

    task: Literal["icons"]
    data: Path
    fit: Settings
    network: dict[str, Any]
    mean_predictor: MeanPrediction
    chinese: Share = 0.0
    weight: Annotated[float, Gt(0)] = 5.0
    model: Config = field(default_factory=lambda: Config(size=32, distance_field=True, reference=True))


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> Pipeline:
    """Trains (or goes on with) the model of a recipe in `folder`; it lies in `folder`/model."""
    torch.manual_seed(recipe.fit.seed)
    icons, runtime = icons_data.load(recipe.data), Torch(recipe.fit.device)
    styles = sorted(set(icons.style.tolist()))
    aliases = {alias: style for alias, style in recipe.model.style_aliases.items() if style in styles}
    widths = {style: width for style, width in recipe.model.stroke_widths.items() if style in styles}
    config = replace(recipe.model, styles=styles, style_aliases=aliases, stroke_widths=widths, distance_field=True)
    dataset, references = captioned_icons(icons, config.size), References(icons)
    may_mirror = np.array([has_no_side(name) for name in icons.name[icons.split == "train"]])
    rows, shape, mean, patch = (
        np.arange(dataset.n_originals),
        state_shape(config, None),
        recipe.mean_predictor,
        config.patch,
    )
    text_encoder = runtime.load("TextCodec", TEXT_ENCODER)
    keys = unet_config(recipe.network, config, shape, 1 + config.reference, text_encoder)
    unet = build(partial(UNet, **keys), recipe.network)
    label = unet.config["projection_class_embeddings_input_dim"]
    predictor, half = (MeanPredictor(label, *shape[:2], mean.hidden) for _ in range(2))
    components = {"unet": unet, "text_encoder": text_encoder, "mean_predictor": predictor}
    stored, pictures = {"text_encoder": TEXT_ENCODER}, training_pictures.index(icons, min(32, config.size))
    model = Pipeline(config, components, runtime, folders=stored, training_pictures=pictures)
    fields = place(torch.from_numpy(dataset.pictures).half(), runtime.device)
    conditions = Conditions(model, dataset, recipe.chinese)
    train_mean_predictors(
        mean, recipe.fit, lambda rows: to_state(fields[rows].float(), patch), conditions, (predictor, half), rows,
        model, folder, monitor, PREVIEW,
    )  # fmt: skip
    order, denoiser = batches(len(rows), recipe.fit.batch_size, recipe.fit.seed), model.denoiser

    def batch(k: int) -> dict[str, np.ndarray]:
        chosen, rng = rows[order(k)], np.random.default_rng([recipe.fit.seed, k])
        drawn = {"rows": chosen, **conditions.draw(chosen, rng), **draw_augmentation(may_mirror[chosen], rng)}
        drawn["unseen"] = (chosen % 2 == 1) & (rng.random(len(chosen)) < 2 * mean.unseen)
        if config.reference:
            drawn |= references.draw(chosen, rng)
            drawn["text"] = np.where(drawn.pop("wordless"), conditions.unconditional, drawn["text"])
        return drawn

    def loss(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        condition = conditions(batch)
        with torch.no_grad():
            predicted = predictor(condition["label"])
            if "unseen" in batch:
                predicted = torch.where(batch["unseen"][:, None, None, None], half(condition["label"]), predicted)
        x0, condition["concat"] = clean_and_concat(fields, batch, predicted, patch, config.reference)
        times, weight = diffusion.logit_normal(), capped_weight(recipe.weight)
        return denoiser.loss(x0, condition, weight=weight, times=times, generator=generator)

    fit(
        unet, loss, batch, folder, recipe.fit, lambda *_: preview(model, PREVIEW), model.save, folder / "model",
        monitor, held_out=held_out_batches(dataset.held_out, conditions, recipe.fit.batch_size),
    )  # fmt: skip
    return model
