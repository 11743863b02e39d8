"""Of a training the model that did best on what choices are made by: it lies beside the checkpoints of the run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inkwash.diffusion import DiffusionError
from inkwash.errors import UserError
from inkwash.systems.torch_model import TorchModel, copy_model
from inkwash.weights.shipped import describe


def keep_best(
    model: TorchModel, best: Path, step: int, metric: str, score: float, lower: bool = False, **facts: Any
) -> float | None:
    """Saves the model in `best`, with these facts, if its score is better than that of the one there; else the score
    of that one. A score that is no number is never better."""
    before: float | None = describe(best)["best"][metric] if best.exists() else None
    reached = (math.inf if lower else -math.inf) if before is None else before
    if not (score < reached if lower else score > reached):
        return before
    model.facts().update(facts, best={"step": step, metric: round(score, 8)})
    model.save(best)
    return None


def save_best(model: TorchModel, best: Path, target: Path) -> None:
    """The best model so far at `target`; before the first the model as it is."""
    if best.exists():
        copy_model(best, target)
    else:
        model.save(target)


@contextmanager
def finite_samples(step: int) -> Iterator[None]:
    """UserError, with what to do, where samples of a training are not finite."""
    try:
        yield
    except DiffusionError as error:
        raise UserError(
            f"step {step}: samples are not finite ({error}): lower learning_rate in a new folder"
        ) from None
