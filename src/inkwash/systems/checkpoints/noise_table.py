"""The noise that a checkpoint was trained with: its table of betas, and the grids and times by which it samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from inkwash import diffusion
from inkwash.errors import UserError, unknown

PARAMETRIZATIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


class NoiseTable(NamedTuple):
    """How a checkpoint was trained: its betas, and what its U-Net predicts."""

    betas: tuple[float, ...]
    parametrization: str = "eps"

    @classmethod
    def of(cls, scheduler: Mapping[str, Any]) -> NoiseTable:
        """From a scheduler_config.json of diffusers, whose other keys are of its samplers. UserError for one that is
        not of a table of betas."""
        if not {"beta_schedule", "trained_betas"} & scheduler.keys():
            name = str(scheduler.get("_class_name", "the scheduler"))[:60]
            raise UserError(f"{name} is of no table of betas: only a checkpoint with one can be drawn")
        count, kind = scheduler.get("num_train_timesteps", 1000), scheduler.get("beta_schedule", "linear")
        start, end = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
        if (betas := scheduler.get("trained_betas")) is None:
            if kind not in ("linear", "scaled_linear"):
                raise UserError(f"beta_schedule {kind!r}: a checkpoint of linear or scaled_linear betas can be drawn")
            power = 2 if kind == "scaled_linear" else 1
            try:
                betas = np.linspace(start ** (1 / power), end ** (1 / power), count) ** power
            except (TypeError, ValueError):
                values = f"{start!r} to {end!r}, {count!r} of them"[:100]
                raise UserError(f"betas from {values}: the scheduler's config is broken; fetch it again") from None
        if scheduler.get("rescale_betas_zero_snr"):
            betas = diffusion.zero_terminal_snr(betas)
        predicts = scheduler.get("prediction_type", "epsilon")
        if predicts not in PARAMETRIZATIONS:
            raise unknown("prediction_type", predicts, PARAMETRIZATIONS)
        table = tuple(np.asarray(betas, np.float64).tolist())
        if predicts == "epsilon" and table[-1] == 1:
            raise UserError(
                "rescale_betas_zero_snr: the noise ends in noise alone, of which a network that predicts it says "
                "nothing: set prediction_type to v_prediction if that is what it predicts"
            )
        return cls(table, PARAMETRIZATIONS[predicts])


STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def entry_of(process: diffusion.Gaussian, count: int, nearest: bool) -> Callable[[diffusion.NoiseLevel], float]:
    """The entry of a table of so many betas by which a network knows a noise level: between two entries the place
    that is linear in log (sigma / alpha), or the nearest."""
    lambdas = np.array([process.at((i + 1) / count).lambda_ for i in range(count)])  # falls
    finite = lambdas[np.isfinite(lambdas)]

    def entry(t: diffusion.NoiseLevel) -> float:
        if not np.isfinite(lambdas[-1]) and t.t >= (count - 0.5) / count:
            return count - 1.0
        index = float(np.interp(-t.lambda_, -finite, np.arange(len(finite))))
        return float(round(index)) if nearest else index

    return entry


def make_grid(process: diffusion.Gaussian, name: str, steps: int, table: int, is_xl: bool = False) -> diffusion.Grid:
    """The grid of this name on a table; `leading` as Stable Diffusion has it, from entry 1 on; of SDXL
    `align_your_steps` is another."""
    if name not in diffusion.GRIDS:
        raise unknown("grid", name, diffusion.GRIDS)
    of_table = {"leading", "trailing", "normal", "sgm_uniform", "simple", "ddim_uniform", "beta"}
    options: dict[str, Any] = {"table": table} if name in of_table else {}
    options |= {"steps_offset": 1} if name == "leading" else {}
    options |= {"model": "sdxl"} if name == "align_your_steps" and is_xl else {}
    found: diffusion.Grid = diffusion.GRIDS[name](process, steps, **options)
    return found
