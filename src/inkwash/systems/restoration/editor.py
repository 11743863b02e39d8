"""Models that edit photographs: one for all tasks, which is not told them (Palette, Saharia et al. 2021,
2111.05826)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from inkwash import diffusion
from inkwash.diffusion.arrays import namespace, numpy
from inkwash.errors import UserError, unknown
from inkwash.systems.restoration.levels import (
    COLOURS,
    Array,
    as_bright,
    check_memory,
    check_picture,
    from_network,
    luma,
    spread_of,
    to_levels,
    to_network,
    white_of,
)
from inkwash.systems.restoration.masks import canvas, canvas_size, surrounding, with_missing
from inkwash.systems.restoration.model import Batch, Progress, RestorationModel, in_all
from inkwash.systems.restoration.options import check_options

if TYPE_CHECKING:
    import torch

WHOLE = 2  # times a sample's bytes: it, and its file
MOST_OUTPAINT = 0.45  # of a side, on each side


class Edited(NamedTuple):
    """samples (k, H, W) or (k, H, W, 3) as the picture's numbers; spread (H, W): their standard deviation, in parts
    of the range from black to white; invented (H, W): where they are not the picture itself."""

    samples: Array
    spread: Array
    invented: Array


class Editor(RestorationModel):
    """A model that edits photographs; a further fact: tasks, which it was trained on, without being told which.

    >>> model = inkwash.load("runs/shop/model")
    >>> model.edit(picture, "inpaint", mask=hole, samples=4).samples
    """

    system = "editing"
    keys = ("tasks",)
    parametrization = "x0"  # a clean picture passes through few features, noise does not (2511.13720)

    @property
    def sampler(self) -> Any:
        """New noise in each step: what a small network leaves of the last step's does not add up to grain."""
        return partial(diffusion.ddim, eta=1.0)

    def grid(self, steps: int) -> Any:
        """It ends at faint noise, so that the last answer need not take away much at once."""
        return diffusion.karras(self.denoiser.process, steps, rho=3.0)

    def edit(
        self,
        picture: Array,
        task: str,
        mask: Array | None = None,
        outpaint: float | None = None,
        samples: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        progress: Progress | None = None,
    ) -> Edited:
        """Of a picture (H, W) or (H, W, 3) of uint8 or uint16. Sample j has the seed `seed` + j.

        inpaint: where `mask` (H, W), from 0 to 1, is 0 each sample has the picture's own bits; between 0 and 1 both
        are mixed. uncrop: the picture, its bits kept, in the middle of a larger one, of which `outpaint` of the side
        is drawn on each side. colourise: by the brightness of the picture alone, which stays. restore, denoise,
        deblur: all of it.

        Raises UserError for a task that the model does not know, and for a picture too large for the memory.
        """
        if task not in self.config["tasks"]:
            raise unknown("task", str(task), self.config["tasks"])
        self.check_plain(samples=samples, steps=steps)
        check_options(task, mask=mask, outpaint=outpaint)
        check_picture(picture)
        if mask is not None:
            check_mask(mask, picture)
        if outpaint is not None and not 0 < outpaint <= MOST_OUTPAINT:
            raise UserError(f"outpaint = {outpaint}: choose a fraction of the side above 0, to {MOST_OUTPAINT}")
        if outpaint is not None:
            check_memory(*canvas_size(picture, outpaint), len(self.seeds(seed, samples)))
            picture, mask = canvas(picture, outpaint)
        white = white_of(picture)  # of its colours: their brightness may fill less of the range
        if task == "colourise":
            picture = np.repeat(luma(picture)[..., None], 3, -1)
        return self.redraw(picture, mask, samples, seed, steps, progress, white, task == "colourise")

    def redraw(
        self,
        picture: Array,
        mask: Array | None = None,
        samples: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        progress: Progress | None = None,
        white: int | None = None,
        colours_only: bool = False,
    ) -> Edited:
        """What the network makes of a picture: of all of it, or where `mask` (H, W) is above 0, nothing of the
        picture there being known to it. white: its greatest number, if the picture itself does not tell.
        colours_only: of a grey one, whose brightness is put back in each step."""
        seeds, white = self.seeds(seed, samples), white_of(picture) if white is None else white
        box = np.s_[:, :] if mask is None else surrounding(mask > 0, self.config["size"])
        cut = picture[box]
        share = np.ones(cut.shape[:2]) if mask is None else mask[box]
        check_memory(cut.shape[0], cut.shape[1], len(seeds), WHOLE * picture.nbytes)
        grey = picture.ndim == 2
        source, own = to_network(cut, white), share if grey else share[..., None]
        stack = np.repeat(picture[None], len(seeds), 0)
        for j, one in enumerate(seeds):
            told = in_all(progress, j, len(seeds))
            hole = None if mask is None else share > 0
            drawn = from_network(self.fill(source, hole, one, steps, told, colours_only), white, grey)
            stack[j][box] = np.where(own > 0, to_levels(own * drawn + (1 - own) * cut, white, cut), cut)
        spread = np.zeros(picture.shape[:2], np.float32)
        spread[box] = spread_of(stack[:, *box], white)
        return Edited(stack, spread, np.ones(picture.shape[:2], bool) if mask is None else mask > 0)

    def fill(
        self,
        source: Any,
        hole: Array | None,
        seed: int,
        steps: int | None,
        progress: Progress | None = None,
        colours_only: bool = False,
    ) -> Any:
        """(1, 3, H, W) from -1 to 1, with a hole (H, W) or None, -> a sample of the same shape."""
        height, width = source.shape[2:]
        missing = np.zeros((1, 1, height, width), np.float32)
        if hole is not None:
            missing[0, 0] = hole
        concat = self.padded(with_missing(numpy(source), missing))
        base, scale = known_of(concat), self.config["residual"]
        mask = None if hole is None else namespace(concat).broadcast_to(concat[:, COLOURS:] > 0, base.shape)
        known = partial(as_bright, grey=concat[:, :1]) if colours_only else None
        drawn = self.draw(base, scale, {"concat": concat}, [seed], steps, mask, known, progress=progress)
        return drawn[..., :height, :width]

    def base(self, batch: Batch) -> Any:
        return known_of(with_missing(batch["source"], batch["missing"]))

    def answer(self, batch: Batch, seed: int, steps: int) -> Any:
        hole = batch["drawn"][0, 0].numpy() if batch["missing"].any() else None
        return self.fill(batch["source"], hole, seed, steps)

    def example(self, batch: Batch, generator: torch.Generator) -> tuple[Any, dict[str, Any], Any]:
        """What is learned from: states, what the network is told of them, and what of them counts."""
        concat = with_missing(batch["source"], batch["missing"])
        state = (batch["x"] - known_of(concat)) / self.config["residual"]
        return state, {"concat": concat}, batch["drawn"].expand(-1, COLOURS, -1, -1)


def check_mask(mask: Array, picture: Array) -> None:
    """UserError for a mask of another size, of numbers that are not from 0 to 1, or of nothing to draw."""
    if not isinstance(mask, np.ndarray):
        raise UserError(f"mask: of type {type(mask).__name__}: give an array of numbers from 0 to 1")
    if mask.shape != picture.shape[:2]:
        raise UserError(f"mask: its shape is {mask.shape}, the picture's {picture.shape[:2]}: give one of the same")
    if mask.dtype.kind not in "buif":
        raise UserError(f"mask: numbers of type {mask.dtype}: give real ones from 0 to 1")
    if not (mask.min() >= 0 and 0 < mask.max() <= 1):
        raise UserError(f"mask: {mask.min()} to {mask.max()}: numbers from 0 to 1 are needed, some of them above 0")


def known_of(concat: Any) -> Any:
    """Of sources (B, 4, H, W) the colours (B, 3, H, W) that stay: those around a hole; 0 of a picture without one,
    all of which is drawn: so a state is a picture, whether a task changes much or little."""
    has_hole = namespace(concat).amax(concat[:, COLOURS:], axis=(1, 2, 3), keepdims=True)
    return concat[:, :COLOURS] * has_hole
