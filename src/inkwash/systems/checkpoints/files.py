"""The networks of a checkpoint out of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inkwash.codecs.clip import END, CLIPTokenizer
from inkwash.errors import UserError, unknown
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.networks.clip import load_clip
from inkwash.networks.offload import Part, Undo, by_layer, by_turns, layers, place
from inkwash.networks.stable_diffusion import load_single_file
from inkwash.networks.unet import load_unet
from inkwash.systems.checkpoints.facts import ENCODERS, files_of
from inkwash.systems.checkpoints.memory import OFFLOADS, STAGES, MemoryPlan, plan
from inkwash.systems.checkpoints.noise_table import STABLE, NoiseTable
from inkwash.systems.pictures.runtimes import Torch
from inkwash.weights.shipped import load_json

V_BIAS = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"  # spreads wider where SD 2 predicts v


def stamps(path: Path) -> list[tuple[int, int]]:
    """Sizes and times of change of a checkpoint's files."""
    return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(path) if file.exists()]


class Weights:
    """The weights of a checkpoint's networks, which lie in their files, and what of them is in memory: a key of
    `OFFLOADS`, or for each size what `plan` says. Under autocast the U-Net's kernels are kept in what it computes in,
    which changes no number."""

    def __init__(self, path: Path, components: Mapping[str, Any], runtime: Torch, offload: str | None = None) -> None:
        if offload not in (None, *OFFLOADS):
            raise unknown("offload", str(offload), OFFLOADS)
        self.path, self.runtime, self.offload = path, runtime, offload
        dtypes = {"unet": getattr(torch, runtime.precision)}
        self.groups = [
            [Part(components[name], dtypes.get(name, torch.float32)) for name in names if name in components]
            for names in STAGES.values()
        ]
        parameters = (parameter for group in self.groups for part in group for parameter in part.network.parameters())
        self.stored = {parameter: parameter.data for parameter in parameters}  # views of the files
        self.stamps = stamps(path)
        self.arranged, self.undo = "", list[Undo]()
        self.arrange("layer")

    def fit(self, width: int, height: int, batch: int = 1, taken: float = 0.0) -> None:
        """Has in memory what pictures of this size, and so many bytes that another checkpoint takes, leave room for.
        UserError where they do not fit, and for files that were written to since: what is read of them now would be
        of another network."""
        self.check()
        self.arrange(self.offload or self.plan(width, height, batch, taken).offload)

    def check(self) -> None:
        """UserError for files that were written to since they were loaded."""
        if stamps(self.path) != self.stamps:
            raise UserError(f"{self.path}: it has changed since it was loaded: load the model again")

    @contextmanager
    def in_files(self) -> Iterator[None]:
        """Within the block all weights are as they are in their files."""
        arranged = self.arranged
        self.check()
        self.leave()
        try:
            yield
        finally:
            self.arrange(arranged)

    def plan(self, width: int, height: int, batch: int = 1, taken: float = 0.0) -> MemoryPlan:
        device = self.runtime.device
        available = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
        return plan(self.path, width, height, batch, self.runtime.precision, available, taken)

    @contextmanager
    def changing(self, changes: Mapping[nn.Parameter, Callable[[Tensor], Tensor]]) -> Iterator[None]:
        """Within the block weights are changed so whenever they come into memory, or where they are there, now: out
        of what their files hold, so that the numbers are the same in every way of offloading."""
        if self.arranged == "none":
            with self.replaced(changes):
                yield
            return
        groups = self.groups
        self.rearrange([[part._replace(changes=changes) for part in group] for group in groups])
        try:
            yield
        finally:
            self.rearrange(groups)

    @contextmanager
    def replaced(self, changes: Mapping[nn.Parameter, Callable[[Tensor], Tensor]]) -> Iterator[None]:
        before = [(parameter, parameter.data) for parameter in changes]
        try:
            for parameter in changes:
                parameter.data = self.stored[parameter]
            for part in (part for group in self.groups for part in group):
                changed = [
                    layer for layer in layers(part.network) if changes.keys() & {*layer.parameters(recurse=False)}
                ]
                place(changed, part._replace(changes=changes), self.runtime.device)
            yield
        finally:
            for parameter, data in before:
                parameter.data = data

    def rearrange(self, groups: list[list[Part]]) -> None:
        arranged = self.arranged
        self.leave()
        self.groups = groups
        self.arrange(arranged)

    def leave(self) -> None:
        """All weights are in their files alone."""
        while self.undo:
            self.undo.pop()()
        self.arranged = ""

    def arrange(self, offload: str) -> None:
        if offload == self.arranged and offload != "network":  # of which then none is left in memory
            return
        self.leave()
        device, parts = self.runtime.device, [part for group in self.groups for part in group]
        if offload == "network":
            self.undo = [by_turns(self.groups, device)]
        elif offload == "layer":
            self.undo = [by_layer(part, device) for part in parts]
        else:
            self.undo = [place(layers(part.network), part, device) for part in parts]
        self.arranged = offload


def load_folder(folder: Path) -> tuple[dict[str, Any], NoiseTable]:
    index = load_json(folder / "model_index.json")
    components: dict[str, Any] = {
        "unet": load_unet(folder / "unet", mapped=True),
        "vae": load_autoencoder(folder / "vae", mapped=True),
    }
    for name in ENCODERS:
        if index.get(name, (None, None))[1] is not None:
            tokenizer = name.replace("text_encoder", "tokenizer")
            components |= {
                name: load_clip(folder / name, mapped=True),
                tokenizer: CLIPTokenizer.load(folder / tokenizer),
            }
    return components, NoiseTable.of(load_json(folder / "scheduler" / "scheduler_config.json"))


def load_file(path: Path) -> tuple[dict[str, Any], NoiseTable]:
    """From a single file, which names neither its noise table nor what it predicts: SDXL by marks, SD 2 by a bias."""
    family, components, others = load_single_file(path, mapped=True)
    unet: Any = components["unet"]
    predicts = "epsilon"
    if "v_pred" in others or (family == "sd2" and unet.state_dict()[V_BIAS].float().std(unbiased=False) > 0.09):
        predicts = "v_prediction"
    elif family == "sd2":
        unet.config["sample_size"] = 64  # the one that predicts noise was trained on 512 x 512 pixels
    facts = STABLE | {"prediction_type": predicts, "rescale_betas_zero_snr": "ztsnr" in others}
    found: dict[str, Any] = dict(components)
    for name in ENCODERS:
        if name in components:
            fill = "!" if family == "sd2" or name == "text_encoder_2" else END
            found[name.replace("text_encoder", "tokenizer")] = CLIPTokenizer.shipped(fill)
    return found, NoiseTable.of(facts)
