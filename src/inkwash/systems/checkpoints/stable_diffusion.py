"""Pictures by checkpoints of Stable Diffusion 1, 2 and XL, with the numbers that other tools draw with."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.codecs.png import GeneratedImage
from inkwash.errors import UserError, unknown
from inkwash.systems.checkpoints.canvas import (
    Canvas,
    begin,
    beside,
    edit_guidance,
    load_canvas,
    shortened,
)
from inkwash.systems.checkpoints.facts import EDITS, PAINTS, hash_of, read_facts
from inkwash.systems.checkpoints.files import ENCODERS, load_file, load_folder
from inkwash.systems.checkpoints.noise_table import NoiseTable, entry_of, make_grid
from inkwash.systems.checkpoints.options import (
    GUIDANCE,
    IMAGE_GUIDANCE,
    PIXELS,
    SAMPLER,
    STEPS,
    check_image,
    check_options,
    check_size,
    shape_of,
)
from inkwash.systems.pictures.data import Source, source_facts
from inkwash.systems.pictures.model import SAMPLERS
from inkwash.systems.pictures.pipeline import preview_hook
from inkwash.systems.pictures.runtimes import Torch
from inkwash.version import __version__
from inkwash.weights.shipped import CHECKPOINTS, reference

TOKENIZERS = ("tokenizer", "tokenizer_2")
AESTHETIC = {"cond": 6.0, "uncond": 2.5}  # scores that the refiner of SDXL is told


class Encoded(NamedTuple):
    """Texts as the U-Net takes them: context (B, 77, D), and pooled (B, D) or None, of SDXL."""

    context: Tensor
    pooled: Tensor | None


class StableDiffusion:
    """A checkpoint of Stable Diffusion 1, 2 or XL.

    components  unet, vae, text_encoder and tokenizer; in SDXL also text_encoder_2 and tokenizer_2
    noise       see `NoiseTable`
    path        the file or folder that it was loaded from, if it was
    nearest     whether the network is told the nearest entry of its table, as ComfyUI does and diffusers' DPM-Solver
                and UniPC, or the place between two entries, as A1111 and diffusers' Euler
    """

    def __init__(
        self,
        components: Mapping[str, Any],
        noise: NoiseTable,
        nearest: bool = False,
        path: Path | None = None,
        runtime: Torch | None = None,
    ) -> None:
        self.components, self.noise, self.nearest = dict(components), noise, nearest
        self.path, self.runtime = path, runtime or Torch()
        for name in ("unet", "vae"):
            if name not in self.components:
                raise UserError(f"the checkpoint has no {name}: name a file or folder of one")
        if not any(name in self.components for name in ENCODERS):
            raise UserError("the checkpoint has no text encoder: name a file or folder of one")
        if self.extra not in (0, EDITS, PAINTS):
            count = self.components["unet"].config["in_channels"]
            raise UserError(
                f"a U-Net of {count} channels cannot be drawn from: only one of 4, 8 (to edit) or 9 (to paint)"
            )
        if self.components["unet"].config["time_cond_proj_dim"]:
            raise UserError("a latent consistency model, whose U-Net takes the guidance, cannot be drawn from here")

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "cpu",
        precision: str = "float32",
        runtime: str | None = None,
        threads: int | None = None,
        nearest: bool = False,
    ) -> StableDiffusion:
        """From a folder in the diffusers format, or a single .safetensors file of all networks; their weights are
        held in float32. precision: what the U-Net computes in, float32 or bfloat16."""
        if runtime not in (None, "torch"):
            raise UserError(f"runtime = {runtime}: a checkpoint is drawn by torch; leave it out")
        path = Path(path)
        read_facts(path)
        torch_runtime = Torch(device, precision, threads)
        components, noise = load_folder(path) if path.is_dir() else load_file(path)
        for component in components.values():
            if isinstance(component, torch.nn.Module):
                torch_runtime.place(component).eval()
        return cls(components, noise, nearest, path, torch_runtime)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.components["unet"].parameters()).device
        return device

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the pictures of its training."""
        side = PIXELS * self.components["unet"].config["sample_size"]
        return side, side

    @property
    def extra(self) -> int:
        """How many channels the U-Net sees beside those of the state."""
        unet = self.components["unet"].config
        return int(unet["in_channels"] - unet["out_channels"])

    @property
    def is_xl(self) -> bool:
        return bool(self.components["unet"].config["addition_embed_type"] == "text_time")

    @cached_property
    def hash(self) -> str | None:
        """Of the weights as they lie on disk (`hash_of`); None if they were not loaded from there."""
        return None if self.path is None else hash_of(self.path)

    @property
    def default_grid(self) -> str:
        """karras; trailing for a table that ends in noise alone, which has no largest sigma."""
        return "trailing" if self.noise.betas[-1] == 1 else "karras"

    @cached_property
    def process(self) -> diffusion.Gaussian:
        return diffusion.Gaussian(diffusion.betas(np.array(self.noise.betas)))

    @cached_property
    def denoiser(self) -> diffusion.Denoiser:
        time = entry_of(self.process, len(self.noise.betas), self.nearest)
        return diffusion.Denoiser(self.components["unet"], self.process, self.noise.parametrization, time)

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str], clip_skip: int = 0) -> Encoded:
        """Each text by each encoder, cut off after 75 tokens. clip_skip: so many layers fewer than is usual: of SD 1
        and 2 that is all, of SDXL all but the last."""
        contexts, pooled = [], None
        for name in ENCODERS:
            if (encoder := self.components.get(name)) is None:
                continue
            ids = self.components[name.replace("text_encoder", "tokenizer")].tokenize(prompts)
            found = encoder(
                torch.from_numpy(ids).to(self.device), clip_skip=clip_skip + self.is_xl, final_norm=not self.is_xl
            )
            contexts.append(found.states)
            pooled = found.text_embeds if self.is_xl else None
        return Encoded(torch.cat(contexts, dim=-1), pooled)

    def condition(self, encoded: Encoded, height: int, width: int, aesthetic: float = 6.0) -> dict[str, Tensor]:
        """What the U-Net is told; SDXL also that the picture was never smaller nor cropped, its refiner how good it
        is."""
        if encoded.pooled is None:
            return {"context": encoded.context}
        channels = self.components["unet"].config["addition_time_embed_dim"]
        count = self.components["unet"].config["projection_class_embeddings_input_dim"] - encoded.pooled.shape[1]
        sizes = [height, width, 0, 0, *([height, width] if count // channels == 6 else [aesthetic])]
        ids = torch.tensor([sizes], dtype=torch.float32, device=self.device).expand(len(encoded.context), -1)
        return {"context": encoded.context, "text_embeds": encoded.pooled, "time_ids": ids}

    def sample_states(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        negative: str = "",
        sampler: str | Callable[..., Any] = "dpmpp_2m",
        steps: int = 25,
        grid: str | diffusion.Grid = "karras",
        guidance: float = 7.0,
        rescale: float = 0.0,
        size: tuple[int, int] | None = None,
        clip_skip: int = 0,
        x: Tensor | None = None,
        noise: Tensor | None = None,
        canvas: Canvas | None = None,
        image_guidance: float = IMAGE_GUIDANCE,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Tensor], None] | None = None,
        previews: int = 3,
    ) -> Tensor:
        """Latents (N, C, height / 8, width / 8) of size = (width, height) pixels, that of training if left out.

        grid: one of `diffusion.GRIDS`, or any of the checkpoint's process. rescale: see `classifier_free`. x: the
        state to start from; noise: of a standard normal distribution, which it is made of; both from the seeds unless
        given. canvas: a picture to begin from. image_guidance: of checkpoints that edit, see `edit_guidance`.
        preview: called `previews` times on the way, evenly spaced, with the clean prediction.
        """
        unet = self.components["unet"].config
        width, height = size or self.size
        check_size(width, height)
        if canvas is not None and canvas.pixels.shape[:2] != (height, width):
            raise UserError(
                f"image: {canvas.pixels.shape[1]} x {canvas.pixels.shape[0]}, not {width} x {height} pixels"
            )
        if isinstance(sampler, str) and sampler not in SAMPLERS:
            raise unknown("sampler", sampler, SAMPLERS)
        if isinstance(grid, str):
            grid = make_grid(self.process, grid, steps, len(self.noise.betas))
        cond, uncond = (
            self.condition(self.encode_prompt(texts, clip_skip), height, width, score)
            for texts, score in ((prompts, AESTHETIC["cond"]), ([negative], AESTHETIC["uncond"]))
        )
        vae = self.components["vae"]
        denoise: Callable[..., Any] = self.denoiser
        seen = beside(vae, self.extra, canvas, (width, height), self.device)
        if seen is not None:
            cond["concat"] = seen.expand(len(prompts), -1, -1, -1)
        if self.extra == EDITS:
            denoise = edit_guidance(denoise, guidance, image_guidance, uncond)
        else:
            uncond |= {} if seen is None else {"concat": seen}
            denoise = diffusion.classifier_free(denoise, guidance, uncond, rescale=rescale)
        shape = (unet["out_channels"], height // PIXELS, width // PIXELS)
        hooks = [] if preview is None else [preview_hook(len(grid) - 1, previews, preview)]
        if canvas is not None and self.extra != EDITS:
            grid = shortened(grid, canvas.strength)
            if noise is None:
                noise = diffusion.Noise(seeds, shape, "start", device=self.device).normal()
            begun, kept = begin(vae, self.process, canvas, grid[0], noise, keep=not self.extra)
            x, hooks = begun if x is None else x, hooks + kept
        if x is None and noise is not None:
            x = grid[0].sigma * noise
        rule = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
        with self.runtime.autocast():
            state: Tensor = diffusion.sample(
                denoise, shape, rule, grid, seeds, cond, x=x, hooks=hooks, progress=progress, device=self.device
            )
        return state

    def decode(self, state: Tensor) -> np.ndarray:
        """Latents -> pictures, uint8 (N, height, width, 3)."""
        return latents.decode(self.components["vae"], state)

    def prompt_warning(self, prompt: str) -> str | None:
        """What of a prompt no encoder sees, in one line; None if nothing is cut off."""
        tokenizer = next(self.components[name] for name in TOKENIZERS if name in self.components)
        seen = tokenizer.cut(prompt)
        return None if seen == prompt else f"the prompt is long: what follows '{seen[-30:]}' is cut off"

    @overload
    def generate(self, prompt: str = "", *, n: None = None, **options: Any) -> GeneratedImage: ...

    @overload
    def generate(self, prompt: str = "", *, n: int, **options: Any) -> list[GeneratedImage]: ...

    def generate(  # type: ignore[misc]  # the options of the overloads are these
        self,
        prompt: str = "",
        *,
        n: int | None = None,
        seed: int | None = None,
        negative: str = "",
        sampler: str | None = None,
        steps: int | None = None,
        grid: str | None = None,
        guidance: float | None = None,
        rescale: float = 0.0,
        size: int | None = None,
        width: int | None = None,
        height: int | None = None,
        clip_skip: int = 0,
        image: Source | None = None,
        strength: float | None = None,
        mask: Source | None = None,
        image_guidance: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Image.Image], None] | None = None,
        previews: int = 3,
    ) -> GeneratedImage | list[GeneratedImage]:
        """A picture from words; a list of them when `n` is given, with the seeds seed, seed + 1, ...

        size: the side of a square in pixels, or its width and height; that of training if left out, or with an image
        as large a picture of the image's shape. clip_skip: see `encode_prompt`. image: a file or picture to begin
        from; strength: which share of the steps is taken from there (0.6 if not given, 1 with a mask). mask: only
        where it is white is the image drawn anew. rescale: see `classifier_free`. image_guidance: of checkpoints that
        edit, see `edit_guidance`. What made it is in `picture.info`, and in the PNG that
        `picture.save` writes. Raises UserError for what cannot be asked for.
        """
        n_steps, grid = STEPS if steps is None else steps, grid or self.default_grid
        sampler, guidance = sampler or SAMPLER, GUIDANCE if guidance is None else guidance
        check_options(prompt, negative, guidance, n_steps, n, image)
        check_image(image, strength, mask, image_guidance, edits=self.extra == EDITS)
        image_guidance = IMAGE_GUIDANCE if image_guidance is None else image_guidance
        seed = secrets.randbelow(2**32) if seed is None else seed
        seeds = [seed + i for i in range(n or 1)]
        if not 0 <= seed <= seeds[-1] < 2**64:
            raise UserError(f"seed = {seed}: choose a whole number from 0 to 2^64 - {len(seeds)}")
        shape = shape_of(size, width, height, image, self.size)
        canvas = None if image is None else load_canvas(image, strength, mask, shape)
        pictures = []
        for i, seed in enumerate(seeds):  # each alone: none depends, not even in its last bit, on its neighbours

            def on_step(done: int, total: int, done_before: int = i) -> None:
                if progress is not None:
                    progress(done_before * total + done, (n or 1) * total)

            def show(state: Tensor) -> None:
                if preview is not None:
                    preview(Image.fromarray(composite(self.decode(state), canvas)[0]))

            state = self.sample_states(
                [prompt],
                [seed],
                negative=negative,
                sampler=sampler,
                steps=n_steps,
                grid=grid,
                guidance=guidance,
                rescale=rescale,
                image_guidance=image_guidance,
                size=shape,
                clip_skip=clip_skip,
                canvas=canvas,
                progress=on_step,
                preview=None if preview is None else show,
                previews=previews,
            )
            recipe = {
                "system": CHECKPOINTS,
                "verb": "generate",
                "model": None if self.path is None else reference(self.path),
                "hash": self.hash,
                "prompt": prompt,
                "negative": negative,
                "seed": seed,
                "sampler": sampler,
                "steps": n_steps,
                "grid": grid,
                "guidance": guidance,
                "rescale": rescale,
                "image_guidance": image_guidance if self.extra == EDITS else None,
                "width": shape[0],
                "height": shape[1],
                "clip_skip": clip_skip,
                "image": source_facts(image),
                "mask": source_facts(mask),
                "strength": None if canvas is None or self.extra == EDITS else canvas.strength,
                "runtime": self.runtime.name,
                "device": str(self.device),
                "precision": self.runtime.precision,
                "threads": self.runtime.threads,
                "version": __version__,
            }
            pictures.append(GeneratedImage(Image.fromarray(composite(self.decode(state), canvas)[0]), recipe))
        return pictures[0] if n is None else pictures


def composite(decoded: np.ndarray, canvas: Canvas | None) -> np.ndarray:
    return decoded if canvas is None else canvas.composite(decoded)
