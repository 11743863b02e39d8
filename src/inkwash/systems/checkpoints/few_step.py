"""Adapters by which a checkpoint draws in few steps, and how each is sampled. Loads no torch.

They are recognised by what their makers call them, in the metadata, the file or the folder of their repository. Their
tensors do not tell: they are those of any LoRA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TITLES = ("modelspec.title", "ss_output_name")
UNNAMED = "pytorch_lora_weights"  # what diffusers calls every file, in a folder with a name
REPOSITORY_PARENTS = 3  # the cache of Hugging Face: models--owner--name/snapshots/revision


class Sampling(NamedTuple):
    """How a picture is sampled."""

    sampler: str
    grid: str
    steps: int
    guidance: float


class FewStep(NamedTuple):
    """grids: the first is taken, with the others it works too; steps, guidance: from, to; the first is taken."""

    name: str
    sampler: str
    grids: tuple[str, ...]
    steps: tuple[int, int]
    guidance: tuple[float, float] = (1.0, 1.0)

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.sampler, self.grids[0], self.steps[0], self.guidance[0])

    def mismatches(self, chosen: Sampling) -> list[str]:
        """What it wants otherwise than it is chosen."""
        found = [] if chosen.sampler == self.sampler else [f"sampler {self.sampler}, not {chosen.sampler}"]
        found += [] if chosen.grid in self.grids else [f"grid {' or '.join(self.grids)}, not {chosen.grid}"]
        found += [] if within(chosen.steps, self.steps) else [f"{span(self.steps)} steps, not {chosen.steps}"]
        if not within(chosen.guidance, self.guidance):
            found.append(f"guidance {span(self.guidance)}, not {chosen.guidance:g}")
        return found


def within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def span(bounds: tuple[float, float]) -> str:
    first, last = bounds
    return f"{first:g}" if first == last else f"{first:g} to {last:g}"


TRAILING = ("trailing", "sgm_uniform")
# Each by what its makers call it, whose cards say how it is sampled; `steps`: how many it is made for.
FEW_STEP: tuple[tuple[str, FewStep], ...] = (
    # Luo et al. 2023, 2311.05556
    (r"lcm[-_ ]?lora|lora[-_ ]?lcm", FewStep("LCM", "consistency", TRAILING, (4, 8), (1.0, 2.0))),
    # Yin et al. 2024, 2405.14867
    (r"dmd2[-_ ]sdxl[-_ ](?P<steps>\d+)step[-_ ]lora", FewStep("DMD2", "consistency", TRAILING, (4, 8))),
    # Lin et al. 2024, 2402.13929
    (r"sdxl[-_ ]lightning[-_ ](?P<steps>\d+)step[-_ ]lora", FewStep("Lightning", "euler", TRAILING, (4, 4))),
    # Ren et al. 2024, 2404.13686; those named CFG keep their guidance
    (
        r"hyper[-_ ]sd(?:15|xl)[-_ ](?P<steps>\d+)steps?[-_ ]cfg[-_ ]lora",
        FewStep("Hyper-SD", "ddim", TRAILING, (8, 8), (5.0, 8.0)),
    ),
    (r"hyper[-_ ]sd(?:15|xl)[-_ ](?P<steps>\d+)steps?[-_ ]lora", FewStep("Hyper-SD", "ddim", TRAILING, (8, 8))),
    # Sauer et al. 2023, 2311.17042
    (r"sd[-_ ]?(?:xl)?[-_ ]turbo[-_ ]lora", FewStep("Turbo", "euler_ancestral", TRAILING, (1, 4))),
)


def few_step_of(path: Path, metadata: Mapping[str, str]) -> FewStep | None:
    """None for every other adapter."""
    names = [path.stem, *(metadata[title] for title in TITLES if title in metadata)]
    if path.stem == UNNAMED:
        names += [parent.name for parent in list(path.absolute().parents)[:REPOSITORY_PARENTS]]
    for name in names:
        for pattern, few_step in FEW_STEP:
            if found := re.search(pattern, name, re.IGNORECASE):
                least, most = few_step.steps
                steps = int(found.groupdict().get("steps", least))
                return few_step._replace(steps=(steps, steps + most - least))
    return None
