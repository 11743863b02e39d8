"""Pictures by checkpoints of Stable Diffusion 1, 2 and XL, with the numbers that other tools draw with."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.codecs.png import GeneratedImage
from inkwash.errors import UserError, unknown
from inkwash.networks.adapters import adapted
from inkwash.systems.checkpoints.adapters import (
    AdapterFiles,
    Key,
    LoadedAdapter,
    adapted_networks,
    check_dora_norm,
    describe_adapters,
    few_step_in,
    load_adapters,
)
from inkwash.systems.checkpoints.canvas import (
    Canvas,
    begin,
    beside,
    load_canvas,
    shortened,
)
from inkwash.systems.checkpoints.conditioning import Encoded, calls, guided, tracks, used_embeddings
from inkwash.systems.checkpoints.embeddings import Embedding, load_embedding
from inkwash.systems.checkpoints.facts import EDITS, PAINTS, read_facts
from inkwash.systems.checkpoints.few_step import Sampling
from inkwash.systems.checkpoints.files import ENCODERS, hash_of, load_file, load_folder
from inkwash.systems.checkpoints.infotext import infotext
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
from inkwash.systems.checkpoints.seeds import OtherNoise, drawing_from, first_state
from inkwash.systems.checkpoints.wildcards import choose
from inkwash.systems.pictures.data import Source, source_facts
from inkwash.systems.pictures.model import SAMPLERS
from inkwash.systems.pictures.pipeline import preview_hook
from inkwash.systems.pictures.runtimes import Torch
from inkwash.version import __version__
from inkwash.weights.shipped import CHECKPOINTS, reference

AESTHETIC = {"cond": 6.0, "uncond": 2.5}  # scores that the refiner of SDXL is told


class StableDiffusion:
    """A checkpoint of Stable Diffusion 1, 2 or XL.

    components  unet, vae, text_encoder and tokenizer; in SDXL also text_encoder_2 and tokenizer_2
    noise       see `NoiseTable`
    path        the file or folder that it was loaded from, if it was
    embeddings  words of textual inversion by their names, see `add_embedding`
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
        self.embeddings: dict[str, Embedding] = {}
        self.adapters: dict[Key, LoadedAdapter] = {}  # those of the last picture
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

    def add_embedding(self, path: str | Path) -> None:
        """A word of textual inversion, which prompts call by the name of its file; see `load_embedding`."""
        embedding = load_embedding(path, self.components)
        self.embeddings[embedding.name] = embedding

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
        weighting: str = "a1111",
        seed_like: str | None = None,
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
        given. weighting: how prompts are read, see `grammar.parse`. seed_like: whose noise is drawn from the seeds,
        see `seeds`; ours if left out. canvas: a picture to begin from. image_guidance: of checkpoints that edit, see
        `edit_guidance`.
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
        read = partial(tracks, self, steps=len(grid) - 1, sampler=sampler, weighting=weighting)
        encode = partial(read, clip_skip=clip_skip, size=(width, height))
        prompt_tracks = [encode(prompt, aesthetic=AESTHETIC["cond"]) for prompt in prompts]
        (negative_track,) = encode(negative, aesthetic=AESTHETIC["uncond"], compose=False)
        vae = self.components["vae"]
        seen = beside(vae, self.extra, canvas, (width, height), self.device)
        edits = image_guidance if self.extra == EDITS else None
        denoise, cond = guided(self.denoiser, prompt_tracks, negative_track, guidance, rescale, edits, seen)
        shape = (unet["out_channels"], height // PIXELS, width // PIXELS)
        rule = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
        if seed_like is not None:
            other = OtherNoise(seed_like, seeds, shape, self.device)
            rule, noise = drawing_from(other, rule), other.first() if noise is None else noise
        hooks = [] if preview is None else [preview_hook(len(grid) - 1, previews, preview)]
        if canvas is not None and self.extra != EDITS:
            grid = shortened(grid, canvas.strength)
            if noise is None:
                noise = diffusion.Noise(seeds, shape, "start", device=self.device).normal()
            begun, kept = begin(vae, self.process, canvas, grid[0], noise, keep=not self.extra)
            x, hooks = begun if x is None else x, hooks + kept
        if x is None and noise is not None:
            x = grid[0].sigma * noise if seed_like is None else first_state(seed_like, sampler, grid, noise)
        with self.runtime.autocast():
            state: Tensor = diffusion.sample(
                denoise, shape, rule, grid, seeds, cond, x=x, hooks=hooks, progress=progress, device=self.device
            )
        return state

    def decode(self, state: Tensor) -> np.ndarray:
        """Latents -> pictures, uint8 (N, height, width, 3)."""
        return latents.decode(self.components["vae"], state)

    def load_adapters(self, files: AdapterFiles) -> list[LoadedAdapter]:
        """Of files alone, or with their weights: (file, weight) or (file, weight, weight of the text encoders).
        Those of the last call are kept. UserError for what does not fit this checkpoint."""
        self.adapters = load_adapters(files, self.components, self.adapters)
        return list(self.adapters.values())

    def sampling(
        self,
        adapters: Sequence[LoadedAdapter] = (),
        sampler: str | None = None,
        grid: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Sampling:
        """What is given; the rest as a few-step adapter needs it, or as is usual."""
        few_step = few_step_in(adapters)
        default = few_step.sampling if few_step else Sampling(SAMPLER, self.default_grid, STEPS, GUIDANCE)
        return Sampling(
            sampler or default.sampler,
            grid or default.grid,
            default.steps if steps is None else steps,
            default.guidance if guidance is None else guidance,
        )

    def adapter_notes(self, adapters: AdapterFiles, dora_norm: str = "changed", **sampling: Any) -> list[str]:
        """What a person is to know of adapters, a line each, before `generate` with the same; sampling: those of its
        options sampler, grid, steps and guidance that are given."""
        loaded = self.load_adapters(adapters)
        check_dora_norm(loaded, dora_norm)
        return describe_adapters(loaded, dora_norm, self.sampling(loaded, **sampling))

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
        weighting: str = "a1111",
        seed_like: str | None = None,
        wildcards: str | Path | None = None,
        image: Source | None = None,
        strength: float | None = None,
        mask: Source | None = None,
        image_guidance: float | None = None,
        adapters: AdapterFiles = (),
        dora_norm: str = "changed",
        merge_adapters: bool = True,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Image.Image], None] | None = None,
        previews: int = 3,
    ) -> GeneratedImage | list[GeneratedImage]:
        """A picture from words; a list of them when `n` is given, with the seeds seed, seed + 1, ...

        size: the side of a square in pixels, or its width and height; that of training if left out, or with an image
        as large a picture of the image's shape. clip_skip: see `encode_prompt`. rescale: see `classifier_free`.
        weighting: "a1111" reads prompts as A1111 does, "comfyui" as ComfyUI, "none" as they stand; but for "none" a
        seed also chooses from {a|b}, and from the files of the folder `wildcards` (`choose`). seed_like: the tool
        whose noise is drawn, see `seeds`. image: a file or picture to begin from; strength: which share of the steps
        is taken from there (0.6 if not given, 1 with a mask). mask: only where it is white is the image drawn anew.
        image_guidance: of checkpoints that edit, see `edit_guidance`. adapters: see `load_adapters`; what is not
        given one for few steps chooses (`adapter_notes`). dora_norm, merge_adapters: see `adapted`. What made it is
        in `picture.info`, and in the PNG that `picture.save` writes. Raises UserError for what cannot be asked for.
        """
        used = self.load_adapters(adapters)
        sampler, grid, n_steps, guidance = self.sampling(used, sampler, grid, steps, guidance)
        check_options(prompt, negative, guidance, n_steps, n, image)
        check_image(image, strength, mask, image_guidance, edits=self.extra == EDITS)
        image_guidance = IMAGE_GUIDANCE if image_guidance is None else image_guidance
        check_dora_norm(used, dora_norm)
        seed = secrets.randbelow(2**32) if seed is None else seed
        seeds = [seed + i for i in range(n or 1)]
        if not 0 <= seed <= seeds[-1] < 2**64:
            raise UserError(f"seed = {seed}: choose a whole number from 0 to 2^64 - {len(seeds)}")
        shape = shape_of(size, width, height, image, self.size)
        canvas = None if image is None else load_canvas(image, strength, mask, shape)
        pictures = []
        folder = None if wildcards is None else Path(wildcards)
        requested = {"prompt": prompt, "negative": negative}
        uses = [one.use for one in used]
        with adapted(adapted_networks(self.components), uses, dora_norm, merge_adapters):
            for i, seed in enumerate(seeds):  # each alone: none depends, not even in its last bit, on its neighbours
                texts = requested
                if weighting != "none":
                    texts = {name: choose(text, seed, folder, name) for name, text in requested.items()}

                def on_step(done: int, total: int, done_before: int = i) -> None:
                    if progress is not None:
                        progress(done_before * total + done, (n or 1) * total)

                def show(state: Tensor) -> None:
                    if preview is not None:
                        preview(Image.fromarray(composite(self.decode(state), canvas)[0]))

                state = self.sample_states(
                    [texts["prompt"]],
                    [seed],
                    negative=texts["negative"],
                    sampler=sampler,
                    steps=n_steps,
                    grid=grid,
                    guidance=guidance,
                    rescale=rescale,
                    image_guidance=image_guidance,
                    size=shape,
                    clip_skip=clip_skip,
                    weighting=weighting,
                    seed_like=seed_like,
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
                    **texts,
                    **{f"{name}_template": text for name, text in requested.items() if text != texts[name]},
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
                    "weighting": weighting,
                    "seed_like": seed_like,
                    "embeddings": used_embeddings(self, [*texts.values()], weighting, calls(n_steps, sampler)),
                    "image": source_facts(image),
                    "mask": source_facts(mask),
                    "adapters": [one.facts for one in used],
                    "dora_norm": dora_norm if any(one.has_dora for one in used) else None,
                    "merge_adapters": merge_adapters if used else None,
                    "strength": None if canvas is None or self.extra == EDITS else canvas.strength,
                    "runtime": self.runtime.name,
                    "device": str(self.device),
                    "precision": self.runtime.precision,
                    "threads": self.runtime.threads,
                    "version": __version__,
                }
                picture = GeneratedImage(Image.fromarray(composite(self.decode(state), canvas)[0]), recipe)
                picture.parameters = infotext(recipe)
                pictures.append(picture)
        return pictures[0] if n is None else pictures


def composite(decoded: np.ndarray, canvas: Canvas | None) -> np.ndarray:
    return decoded if canvas is None else canvas.composite(decoded)
