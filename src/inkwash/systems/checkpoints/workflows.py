"""ComfyUI's workflows, as its pictures hold them (`prompt`), read for their settings. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.checkpoints.infotext import CLIP_SKIP, Settings, without_paths
from inkwash.systems.checkpoints.options import MAX_WEIGHT
from inkwash.systems.checkpoints.wildcards import literal

SAMPLERS = {  # ComfyUI's names of our samplers, where they are the same method
    "euler": "euler",
    "euler_ancestral": "euler_ancestral",
    "heun": "heun",
    "dpm_2": "dpm2",
    "lms": "lms",
    "dpmpp_2m": "dpmpp_2m",
    "dpmpp_2m_sde": "dpmpp_2m_sde",
    "dpmpp_sde": "dpmpp_sde",
    "ddim": "ddim",
    "ddpm": "ancestral",
    "uni_pc": "unipc",
    "lcm": "consistency",
    "deis": "deis",
}
GRIDS = diffusion.GRIDS.keys() - {"uniform", "leading", "trailing", "align_your_steps"}  # by ComfyUI's names
KSAMPLERS = ("KSampler", "KSamplerAdvanced")
LOADERS = ("CheckpointLoaderSimple", "CheckpointLoader")
READ = {
    *KSAMPLERS, *LOADERS, "CLIPTextEncode", "EmptyLatentImage", "LoraLoader", "LoraLoaderModelOnly",
    "CLIPSetLastLayer", "VAEDecode", "VAEDecodeTiled", "VAEEncode", "LoadImage", "SaveImage", "PreviewImage", "Note",
    "MarkdownNote",
}  # fmt: skip
LATENT = ("samples", "latent_image", "pixels", "image")  # inputs through which a latent image has come
MAX_NODES = 10_000

Node = Mapping[str, Any]


def read_workflow(text: str) -> Settings:
    """The options that a workflow's first sampler is given, and notes of what else it does. UserError for text that
    is no workflow of ComfyUI's API form, or has no sampler that is read."""
    try:
        given = json.loads(text)
        kinds = {name: str(node["class_type"]) for name, node in given.items() if isinstance(node["inputs"], dict)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(
            "no workflow of ComfyUI: it is the JSON of its nodes, each with class_type and inputs"
        ) from None
    if len(kinds) > MAX_NODES:
        raise UserError(f"a workflow of {len(kinds)} nodes; at most {MAX_NODES} are read")
    nodes = {name: given[name] | {"class_type": kind} for name, kind in kinds.items()}
    if (sampler := first_sampler(nodes, kinds)) is None:
        raise UserError(f"a workflow without {' or '.join(KSAMPLERS)}: its settings are not read")
    reader = Reader(nodes)
    reader.sampler(nodes[sampler])
    others = [name for name, kind in kinds.items() if kind in KSAMPLERS and name != sampler]
    if others:
        reader.notes.append(f"node {', '.join(others)}: a second pass of sampling is not taken")
    reader.notes += [f"node {name}: {kind} is not read" for name, kind in kinds.items() if kind not in READ]
    return without_paths(Settings(reader.options, reader.notes))


def first_sampler(nodes: Mapping[str, Node], kinds: Mapping[str, str]) -> str | None:
    """The sampler that none comes before: whose latent image leads to no other."""
    found = [name for name, kind in kinds.items() if kind in KSAMPLERS]
    before = {name: chain(nodes, nodes[name]["inputs"].get("latent_image"), LATENT) for name in found}
    later = {name for name in found if any(node["class_type"] in KSAMPLERS for node in before[name])}
    return next((name for name in found if name not in later), None)


def chain(nodes: Mapping[str, Node], link: Any, inputs: tuple[str, ...]) -> Iterator[Node]:
    """The nodes that a link leads to, one after the other, by the first of these inputs that is one."""
    seen = set[str]()
    while isinstance(link, list) and link and (name := str(link[0])) in nodes and name not in seen:
        seen.add(name)
        node = nodes[name]
        yield node
        links = (node["inputs"].get(key) for key in inputs)
        link = next((found for found in links if isinstance(found, list)), None)


class Reader:
    """Gathers options and notes from the nodes that lead to a sampler."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes
        self.options: dict[str, Any] = {"weighting": "comfyui", "seed_like": "comfyui"}
        self.notes: list[str] = []

    def sampler(self, node: Node) -> None:
        inputs = node["inputs"]
        self.take("steps", inputs, "steps", int)
        self.take("seed", inputs, "noise_seed" if "noise_seed" in inputs else "seed", int)
        self.take("guidance", inputs, "cfg", float)
        name, grid = inputs.get("sampler_name"), inputs.get("scheduler")
        if isinstance(name, str) and name in SAMPLERS:
            self.options["sampler"] = SAMPLERS[name]
        else:
            self.notes.append(f"sampler_name: {name!r:.60} is not here; choose another, which draws another picture")
        if isinstance(grid, str) and grid in GRIDS:
            self.options["grid"] = grid
        else:
            self.notes.append(f"scheduler: {grid!r:.60} is not here; choose another grid")
        self.steps_of(inputs)
        self.latent(inputs.get("latent_image"))
        adapters = self.model(inputs.get("model"))
        for option, key in (("prompt", "positive"), ("negative", "negative")):
            self.options[option] = self.text(key, inputs.get(key))
        tags = "".join(f"<lora:{name}:{clip:g}:{unet:g}>" for name, clip, unet in reversed(adapters))
        self.options["prompt"] += tags

    def take(self, option: str, inputs: Node, key: str, kind: type) -> None:
        """An option from an input that is a number."""
        value = inputs.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**64:
            self.options[option] = kind(value)
        else:
            self.notes.append(f"{key}: {value!r:.60} is no number of this node; set {option}")

    def steps_of(self, inputs: Node) -> None:
        """Which of the steps are taken: `denoise` of KSampler, the bounds of KSamplerAdvanced."""
        denoise = inputs.get("denoise", 1.0)
        steps = self.options.get("steps", 0)
        if isinstance(denoise, int | float) and 0 < denoise < 1:
            total = int(steps / denoise)  # of which the last `steps` are taken
            self.options |= {"steps": total, "strength": round(min((steps + 0.5) / total, 1.0), 6) if total else 1.0}
        elif denoise != 1:
            self.notes.append(f"denoise: {denoise!r:.60} is not taken")
        start, end = inputs.get("start_at_step", 0), inputs.get("end_at_step", steps)
        if start != 0 or not isinstance(end, int | float) or end < steps:
            self.notes.append(f"start_at_step {start!r:.20}, end_at_step {end!r:.20}: all steps are taken")
        if inputs.get("add_noise", "enable") != "enable":
            self.notes.append("add_noise: disable is not taken")

    def latent(self, link: Any) -> None:
        node = next(chain(self.nodes, link, ()), None)
        kind = None if node is None else node["class_type"]
        if node is not None and kind == "EmptyLatentImage":
            inputs = node["inputs"]
            self.take("width", inputs, "width", int)
            self.take("height", inputs, "height", int)
            if self.options.pop("strength", None) is not None:
                self.notes.append("denoise: without a picture to begin from it is not taken")
            if (count := inputs.get("batch_size", 1)) != 1:
                self.notes.append(
                    f"batch_size: {count!r:.20}, drawn from one noise: the file does not say which of them it is"
                )
        elif kind == "VAEEncode":
            self.notes.append("the picture to begin from is not in the file: give it with image")
        else:
            self.notes.append(f"latent_image: {kind} is not read; set width and height")

    def model(self, link: Any) -> list[tuple[str, float, float]]:
        """The checkpoint's name into the options; the adapters on the way there, the last first."""
        adapters = list[tuple[str, float, float]]()
        for node in chain(self.nodes, link, ("model",)):
            kind, inputs = node["class_type"], node["inputs"]
            if kind in LOADERS:
                self.options["model"] = inputs.get("ckpt_name")
            elif kind in ("LoraLoader", "LoraLoaderModelOnly"):
                strengths = inputs.get("strength_clip", 0.0), inputs.get("strength_model", 1.0)
                file = str(inputs.get("lora_name", "")).replace("\\", "/")  # with the folders in which it lay
                name = file.rpartition("/")[2].removesuffix(".safetensors")
                numbers = all(isinstance(value, int | float) and abs(value) <= MAX_WEIGHT for value in strengths)
                if numbers and name and not set(name) & set(":<>"):
                    adapters.append((name, float(strengths[0]), float(strengths[1])))
                else:
                    self.notes.append(f"lora_name: {name[:60]!r} is not taken")
        if "model" not in self.options:
            self.notes.append("the checkpoint is not named by a node that is read; name it with model")
        return adapters

    def text(self, key: str, link: Any) -> str:
        """The words of a CLIPTextEncode; what stands before it is no text and is noted where it is met."""
        for node in chain(self.nodes, link, ("conditioning", key)):
            if node["class_type"] == "ConditioningZeroOut":
                self.notes.append(f"{key}: zeros, for which no words are taken")
                return ""
            if node["class_type"] == "CLIPTextEncode":
                self.clip_skip(node["inputs"].get("clip"))
                text = node["inputs"].get("text")
                if isinstance(text, str):
                    return literal(text)  # ComfyUI's page has made its choices before
        self.notes.append(f"{key}: its text is made by a node that is not read; set it")
        return ""

    def clip_skip(self, link: Any) -> None:
        for node in chain(self.nodes, link, ("clip",)):
            layer = node["inputs"].get("stop_at_clip_layer")
            if node["class_type"] == "CLIPSetLastLayer" and isinstance(layer, int) and layer < 0:
                self.options["clip_skip"] = -layer - 1  # -1 is the last layer
                self.notes.append(CLIP_SKIP)
