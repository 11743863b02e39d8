"""Training of a student: a U-Net that needs one to four steps where its teacher needs twenty.

It is a consistency model (Song et al. 2023, 2303.01469): from any point of a trajectory of the teacher it says where
that ends. The ends are not guessed by the student itself, as in that paper, but sampled once by the teacher, as in
Luhman & Luhman 2021 (2101.02388), with its guidance, which the student then needs no more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from inkwash import diffusion
from inkwash.errors import UserError, unknown
from inkwash.networks.unet import UNet
from inkwash.progress import CONSOLE, Monitor, Progress
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures.conditions import Texts, captioned
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.pictures.train import cached_states, preview, with_derived
from inkwash.training.build import build
from inkwash.training.data import batches, whole_batches
from inkwash.training.fit import Stopped, fit
from inkwash.training.placement import fixed_shapes, place
from inkwash.training.recipe import Count, Share
from inkwash.training.settings import Settings
from inkwash.training.tune import roll_out

BATCH_SIZE = 64  # trajectories of the teacher in a batch
DERIVED = (  # keys of the student's network that follow from the teacher
    "sample_size", "in_channels", "out_channels", "cross_attention_dim", "class_embed_type",
    "projection_class_embeddings_input_dim",
)  # fmt: skip

# The guidance is in it already. What it says of a noisy picture is an end of a trajectory, no mean: only samplers
# that use one answer at a time can do with that.
LIMITS: dict[str, dict[str, Any]] = {
    "guidance": {"absent": True, "default": 1.0},
    "negative": {"absent": True},
    "sampler": {"choices": ["consistency", "ancestral", "ddim", "euler", "euler_ancestral"]},
}


Steps = Annotated[int, Ge(1), Le(1000)]


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "student".

    data      the emoji data set (`inkwash data emoji`); the words are those of its training split
    teacher   a model of pictures: a shipped name, or a folder
    trajectories  how many pictures the teacher draws
    steps     in how many steps
    recolour  share of the prompts with another colour than the thing's own
    chinese   share of the prompts in Chinese
    sampler, student_steps   how the student is sampled by default, and in how many steps
    network   keys of a U-Net that learns from scratch, beside those that follow from the teacher; None: the student
              begins as the teacher's own
    """

    task: Literal["student"]
    data: Path
    teacher: Path
    trajectories: Count
    fit: Settings
    steps: Steps = 20
    recolour: Share = 0.25
    chinese: Share = 0.4
    sampler: str = "consistency"
    student_steps: Steps = 4
    network: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.sampler not in (choices := LIMITS["sampler"]["choices"]):
            raise unknown("sampler of a student", self.sampler, choices)


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> Pipeline:
    """Trains (or goes on with) the student of a recipe in `folder`; it lies in `folder`/model."""
    torch.manual_seed(recipe.fit.seed)
    teacher = Pipeline.load(recipe.teacher, recipe.fit.device, runtime="torch")
    if teacher.text_encoder is None:
        raise UserError(f"teacher = {recipe.teacher}: a model without words; the student learns from its words")
    if teacher.config.distance_field:
        raise UserError(f"teacher = {recipe.teacher}: a model of icons; a student learns from one of emoji")
    unet = deepcopy(teacher.unet)
    if recipe.network is not None:
        derived = {key: teacher.unet.config[key] for key in DERIVED}
        unet = build(partial(UNet, **with_derived(recipe.network, derived)), recipe.network)
    prompts, styles = sample_prompts(recipe)
    trajectories = teacher_trajectories(recipe, teacher, prompts, styles, folder, monitor)
    shared = {name: path for name, path in teacher.folders.items() if name != "unet"}  # which it shares
    student = Pipeline(
        replace(teacher.config, sampler=recipe.sampler, steps=recipe.student_steps, guidance=1.0, limits=LIMITS),
        teacher.components | {"unet": unet},
        teacher.runtime,
        folders=shared,
        training_pictures=teacher.training_pictures,
        synonyms=teacher.synonyms,
    )
    trajectories = place(trajectories, student.runtime.device)
    condition = conditions(student, prompts, styles)
    every_20th = np.arange(len(prompts)) % 20 == 19
    rows, held_out = np.flatnonzero(~every_20th), np.flatnonzero(every_20th)
    order = batches(len(rows), recipe.fit.batch_size, recipe.fit.seed)
    denoiser = student.denoiser
    grid = diffusion.uniform(denoiser.process, recipe.steps)

    def batch(k: int) -> dict[str, Any]:
        return {"rows": rows[order(k)], "step": k % recipe.steps}  # every step of the grid as often

    def loss(batch: dict[str, Any], _: torch.Generator) -> Tensor:
        t, chosen = grid[batch["step"]], batch["rows"]
        x, end = (trajectories[chosen, step].float() for step in (batch["step"], -1))
        x0 = denoiser(x, t, condition(chosen)).x0
        error: Tensor = nn.functional.mse_loss(x0, end) / t.sigma
        return error  # late in a trajectory little is left to be wrong

    parts = whole_batches(held_out, recipe.fit.batch_size)
    measured = [{"rows": parts[step % len(parts)], "step": step} for step in range(recipe.steps) if parts]
    fit(
        student.unet, loss, batch, folder, recipe.fit, lambda *_: preview(student), student.save, folder / "model",
        monitor, held_out=measured,
    )  # fmt: skip
    return student


def conditions(
    student: Pipeline, prompts: list[str], styles: list[str | None]
) -> Callable[[Tensor], dict[str, Tensor]]:
    """What the network is told of each prompt: from the numbers of prompts on the device to their conditions."""
    encode = Texts(student.text_encoder, prompts, student.runtime.device)
    others: dict[str, list[Tensor]] = defaultdict(list)
    for start in range(0, len(prompts), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        for name, values in student.condition(prompts[part], styles[part]).items():
            if name not in ("context", "context_mask"):
                others[name].append(values)
    tables = {name: torch.cat(values) for name, values in others.items()}

    def condition(rows: Tensor) -> dict[str, Tensor]:
        states = encode(rows)
        del states["pooled"]  # it is in the label
        return {**states, **{name: table[rows] for name, table in tables.items()}}

    return condition


def sample_prompts(recipe: Recipe) -> tuple[list[str], list[str | None]]:
    """What the teacher is asked to draw: captions of the training split, one in ten without a style."""
    dataset = captioned(emoji_data.load(recipe.data), recipe.recolour)
    rng = np.random.default_rng(recipe.fit.seed)
    chosen = batches(dataset.n_originals, recipe.trajectories, recipe.fit.seed)(0)
    chosen = dataset.swap_recoloured(chosen, recipe.recolour, rng)
    prompts = [dataset.caption(i, recipe.chinese, rng) for i in chosen]
    return prompts, [None if rng.random() < 0.1 else dataset.style[i] for i in chosen]


def teacher_trajectories(
    recipe: Recipe, teacher: Pipeline, prompts: list[str], styles: list[str | None], folder: Path, monitor: Monitor
) -> Tensor:
    """The states of the teacher's trajectories, (trajectories, steps + 1, *shape) float16; kept in `folder`, a file
    for each batch, so that none is sampled twice."""
    grid, found = diffusion.uniform(teacher.denoiser.process, recipe.steps), []
    size = BATCH_SIZE * (16 if fixed_shapes(teacher.runtime.device) else 1)  # an accelerator draws many at once

    def states(batch: slice, seeds: range) -> Tensor:
        return torch.stack(roll_out(teacher.problem_of(prompts[batch], styles[batch], seeds), grid).states, dim=1)

    for start in range(0, len(prompts), size):
        if monitor.stopped():
            raise Stopped(0, recipe.fit.steps)
        batch = slice(start, start + size)
        seeds = range(start, start + len(prompts[batch]))
        words = sha256(repr((prompts[batch], styles[batch])).encode()).hexdigest()
        facts = {"teacher": str(teacher.hash), "steps": str(recipe.steps), "words": words}
        file = folder / f"trajectories-{start:06d}.safetensors"
        found.append(cached_states(file, facts, partial(states, batch, seeds)))
        monitor.tell(Progress(seeds.stop, len(prompts), "trajectories of the teacher"))
    return torch.cat(found)
