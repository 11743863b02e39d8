"""Small models with random weights, pictures, and a context without a command line."""

import numpy as np
import torch
from PIL import Image

from inkwash.cli.context import Local
from inkwash.progress import Note
from inkwash.systems.restoration.cascade import Cascade
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.upscaler import Upscaler

TASKS = ["colourise", "inpaint", "uncrop", "restore", "denoise", "deblur"]
FACTS = {
    "engine": "diffusion", "objective": "l2", "parametrization": "v", "size": 16, "zoom": 1.0,
    "steps": 3, "samples": 2, "residual": 0.3, "degradation": "area", "train": [], "choices": {},
}  # fmt: skip


def built(kind, facts, seed):
    """With random weights, also where training begins with zeros."""
    torch.manual_seed(seed)
    model = kind.build(facts)
    model.network.eval()
    for parameter in model.network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def upscaler(seed=0, factor=2, **changes):
    network = {"augmented": True, "widths": [8, 8], "patch": 2}
    own = {"factor": factor, "noise_level": 0.0, "degradations": ["area"], "network": network}
    return built(Upscaler, FACTS | own | changes, seed)


def editor(seed=0, **changes):
    own = {"tasks": TASKS, "parametrization": "x0", "network": {"missing": True, "widths": [8, 8], "patch": 2}}
    return built(Editor, FACTS | own | changes, seed)


def cascade(seed=0, **changes):
    """Of 8, 16 and 32 pixels, of the kinds that detection's toy has."""
    network = {"classes": 2, "widths": [8, 8], "patch": 1}
    own = {"size": 8, "noise_level": 0.0, "augmentation": True, "factor": 2}
    stages = [FACTS | own | {"network": network | {"source": False}}]
    for size in (16, 32):
        own |= {"size": size, "spectrum": np.geomspace(1, 0.01, (size // 2) ** 2).reshape(size // 2, -1).tolist()}
        stages.append(FACTS | own | {"network": network | {"augmented": True}})
    facts = {
        "classes": ["disc", "square"], "noise_level": 0.1, "augmentation": True, "steps": 2, "train": [],
        "choices": {}, "stages": stages,
    } | changes  # fmt: skip
    for stage in stages:
        stage["augmentation"] = facts["augmentation"]
    return built(Cascade, facts, seed)


def picture(seed=0, height=24, width=30, bits=8, colours=3):
    """Discs on a slope, with some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shape = np.stack([0.3 + 0.3 * x / width, 0.5 - 0.2 * y / height, np.full(x.shape, 0.4)], -1)
    for _ in range(3):
        a, b = rng.uniform(0, height), rng.uniform(0, width)
        shape[(y - a) ** 2 + (x - b) ** 2 < 25] = rng.uniform(0, 1, 3)
    values = (shape + rng.normal(0, 0.02, shape.shape)).clip(0, 1) * (2**bits - 1)
    values = values.round().astype(f"uint{bits}")
    return values if colours == 3 else values[..., 0]


def folder(place, count=10, **how):
    place.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(picture(i, **how)).save(place / f"photo {i}.png")
    return place


class Notes(Local):
    """With models by name."""

    def __init__(self, folder, **models):
        super().__init__(folder)
        self.models, self.notes = models, []

    def tell(self, event):
        if isinstance(event, Note):
            self.notes.append(event.text)
