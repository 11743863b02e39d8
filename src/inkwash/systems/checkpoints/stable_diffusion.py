"""Pictures by checkpoints of Stable Diffusion 1, 2 and XL, with the numbers that other tools draw with."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.codecs.png import KEY, GeneratedImage
from inkwash.errors import UserError, unknown
from inkwash.networks.adapters import Use, adapted, changes_of
from inkwash.networks.layers import sinusoidal_embedding
from inkwash.networks.seamless import circular
from inkwash.networks.stable_diffusion import load_vae
from inkwash.networks.taesd import TinyDecoder, load_tiny_decoder
from inkwash.systems.base import is_blank
from inkwash.systems.checkpoints.adapters import (
    AdapterFiles,
    Key,
    LoadedAdapter,
    adapted_networks,
    adapter_facts,
    as_file,
    check_dora_norm,
    describe_adapters,
    few_step_in,
    load_adapters,
)
from inkwash.systems.checkpoints.canvas import (
    Canvas,
    begin,
    concat_condition,
    load_canvas,
    shortened,
    steps_taken,
)
from inkwash.systems.checkpoints.conditioning import Encoded, calls, guided, tracks, used_embeddings
from inkwash.systems.checkpoints.drawing import UPSCALER, Drawing, with_tags
from inkwash.systems.checkpoints.embeddings import Embedding, load_embedding
from inkwash.systems.checkpoints.facts import EDITS, ENCODERS, PAINTS, hash_of, read_facts
from inkwash.systems.checkpoints.few_step import Sampling
from inkwash.systems.checkpoints.files import Weights, load_file, load_folder
from inkwash.systems.checkpoints.infotext import infotext
from inkwash.systems.checkpoints.limits import ENDLESS
from inkwash.systems.checkpoints.noise_table import NoiseTable, entry_of, make_grid
from inkwash.systems.checkpoints.options import (
    GUIDANCE,
    IMAGE_GUIDANCE,
    PIXELS,
    REFINER_START,
    SAMPLER,
    STEPS,
    check_count,
    check_image,
    check_options,
    check_rescale,
    check_size,
    larger,
    shape_of,
)
from inkwash.systems.checkpoints.saving import save_file, save_folder
from inkwash.systems.checkpoints.seeds import OtherNoise, drawing_from, first_state
from inkwash.systems.checkpoints.stages import enlarged, handed_over, last_entry
from inkwash.systems.checkpoints.vae import decode
from inkwash.systems.pictures.model import SAMPLERS
from inkwash.systems.pictures.pipeline import preview_hook
from inkwash.systems.pictures.runtimes import Torch
from inkwash.version import __version__
from inkwash.weights.files import digest
from inkwash.weights.shipped import CHECKPOINTS, reference

LATENT_CONSISTENCY = Sampling("consistency", "trailing", 4, 8.5)  # of a checkpoint that is told its guidance
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
        self.weights: Weights | None = None  # if they lie in files
        self.taesd: TinyDecoder | None = None
        self.vae: tuple[Any, Any] | None = None  # that of `with_vae`, and of which file
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

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "cpu",
        precision: str = "float32",
        runtime: str | None = None,
        threads: int | None = None,
        nearest: bool = False,
        offload: str | None = None,
        taesd: str | Path | None = None,
    ) -> StableDiffusion:
        """From a folder in the diffusers format, or a single .safetensors file of all networks. precision: what the
        U-Net computes in, and the decoder; all else in float32. offload: what of the weights is in memory, a key of
        `memory.OFFLOADS`; what `memory.plan` says, size by size, if not given. taesd: a file of TAESD's decoder, by
        which previews are then shown."""
        if runtime not in (None, "torch"):
            raise UserError(f"runtime = {runtime}: a checkpoint is drawn by torch; leave it out")
        path = Path(path)
        read_facts(path)
        torch_runtime = Torch(device, precision, threads)
        components, noise = load_folder(path) if path.is_dir() else load_file(path)
        model = cls(components, noise, nearest, path, torch_runtime)
        model.weights = Weights(path, components, torch_runtime, offload)
        with suppress(UserError):  # pictures smaller than those of its training may fit
            model.weights.fit(*model.size)
        if taesd is not None:
            model.taesd = load_tiny_decoder(taesd, components["unet"].config["out_channels"]).to(model.device)
        return model

    def save(self, path: str | Path) -> None:
        """Writes a folder in the diffusers format, or one file of all networks if the name ends in .safetensors, with
        the weights as they are, to the last bit; both `load` and other tools open it. Such a file says nothing of how
        its networks are built, so that of unusual ones nobody opens it. UserError for what is there already."""
        path = Path(path)
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise UserError(f"{path}: it is there already: choose another name")
        try:
            with nullcontext() if self.weights is None else self.weights.in_files():
                if path.suffix.lower() == ".safetensors":
                    save_file(path, self.components, self.noise)
                else:
                    save_folder(path, self.components, self.noise, self.path)
        except OSError as error:
            raise UserError(f"{path}: it cannot be written: {error.strerror or error}") from None

    def add_embedding(self, path: str | Path) -> None:
        """A word of textual inversion, which prompts call by the name of its file; see `load_embedding`."""
        embedding = load_embedding(path, self.components)
        self.embeddings[embedding.name] = embedding

    def with_vae(self, path: str | Path) -> StableDiffusion:
        """This checkpoint with the autoencoder of a file, which is kept until there is another. UserError for a file
        of none, or of one that is built otherwise."""
        status = Path(path).stat() if Path(path).is_file() else None
        key = (Path(path).absolute(), status and (status.st_size, status.st_mtime_ns))
        if self.vae is None or self.vae[0] != key:
            self.vae = key, self.runtime.place(load_vae(path, self.components["vae"].config))
        other = copy(self)
        other.components = self.components | {"vae": self.vae[1]}
        return other

    @property
    def device(self) -> torch.device:
        return self.runtime.device

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the pictures of its training."""
        side = PIXELS * (self.components["unet"].config["sample_size"] or 64)
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
    def entry(self) -> Callable[[diffusion.NoiseLevel], float]:
        """The number by which the network knows a noise level."""
        return entry_of(self.process, len(self.noise.betas), self.nearest)

    @cached_property
    def denoiser(self) -> diffusion.Denoiser:
        """Its prediction is what the U-Net predicts, be it noise or v: see `to_x0`."""
        network = partial(self.components["unet"])  # what of its weights lies in a file says nothing of its input
        return diffusion.Denoiser(network, self.process, "x0", self.entry)

    def to_x0(self, denoise: Callable[..., Any]) -> Callable[..., Any]:
        """What is guided is the U-Net's own prediction, whose contrast `rescale` measures (Lin et al. 2024,
        2305.08891, equations 14 to 16); the clean state follows from it."""
        parametrization = diffusion.PARAMETRIZATIONS[self.noise.parametrization]

        def denoise_x0(x: Any, t: Any, condition: Any) -> Any:
            predicted = denoise(x, t, condition)
            return predicted._replace(x0=parametrization.to_x0(x, t, predicted.x0))

        return denoise_x0

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

    def guided(
        self,
        prompts: Sequence[str],
        negative: str,
        size: tuple[int, int],
        parsing: Mapping[str, Any],
        count: Iterator[int],
        guidance: float,
        rescale: float = 0.0,
        clip_skip: int = 0,
        nearest: bool = False,
        image_guidance: float | None = None,
        concat: Tensor | None = None,
    ) -> tuple[Callable[..., Any], dict[str, Tensor]]:
        """The denoiser guided by words, and the condition to begin with.

        parsing: of `tracks`, how prompts are read; count: the calls of the network; nearest: as of the class, for
        this picture; concat: what the U-Net sees beside the state. A latent consistency model is told its guidance,
        and not called without words.
        """
        encode: Callable[..., Any] = partial(tracks, self, clip_skip=clip_skip, size=size, **parsing)
        prompt_tracks = [encode(prompt, aesthetic=AESTHETIC["cond"]) for prompt in prompts]
        (negative_track,) = encode(negative, aesthetic=AESTHETIC["uncond"], compose=False)
        shared = {} if concat is None else {"concat": concat}
        if (width := self.components["unet"].config["time_cond_proj_dim"]) is not None:
            if not is_blank(negative):
                raise UserError("negative: a latent consistency model is guided without it: leave it out")
            scale = torch.tensor([1000 * (guidance - 1)], device=self.device)
            shared["timestep_cond"] = sinusoidal_embedding(scale, width, cosine_first=False, shift=1)
            check_rescale(rescale, 1.0, edits=False)
            guidance = 1.0
        denoiser = replace(self.denoiser, c_noise=lambda t: float(round(self.entry(t)))) if nearest else self.denoiser
        denoise, cond = guided(
            denoiser, prompt_tracks, negative_track, guidance, rescale, image_guidance, shared, count
        )
        return self.to_x0(denoise), cond

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
        latent: tuple[Tensor, float] | None = None,
        image_guidance: float = IMAGE_GUIDANCE,
        refiner: StableDiffusion | None = None,
        refiner_start: float = REFINER_START,
        tiling: str = "",
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Tensor], None] | None = None,
        previews: int = 3,
    ) -> Tensor:
        """Latents (N, C, height / 8, width / 8) of size = (width, height) pixels, that of training if left out.

        grid: one of `diffusion.GRIDS`, or any of the checkpoint's process. rescale: see `to_x0`. x: the state to
        start from; noise: of a standard normal distribution, which it is made of; both from the seeds unless given.
        weighting: how prompts are read, see `grammar.parse`. seed_like: whose noise is drawn from the seeds, see
        `seeds`, ours if left out; with ComfyUI's go its times, the nearest entries. canvas: a picture to begin from;
        latent: one as a clean state, and which share of the steps is taken from there. image_guidance: of checkpoints
        that edit, see `edit_guidance`. refiner: draws the last steps, see `handed_over`. tiling: see
        `networks.seamless`. preview: called `previews` times on the way, evenly spaced, with the clean prediction.
        """
        width, height = size = size or self.size
        check_size(width, height)
        if self.weights is not None:
            self.weights.fit(width, height, len(prompts))
        if canvas is not None and canvas.pixels.shape[:2] != (height, width):
            raise UserError(
                f"image: {canvas.pixels.shape[1]} x {canvas.pixels.shape[0]}, not {width} x {height} pixels"
            )
        if isinstance(sampler, str) and sampler not in SAMPLERS:
            raise unknown("sampler", sampler, SAMPLERS)
        if isinstance(grid, str):
            grid = self.make_grid(grid, steps)
        concat = concat_condition(self.components["vae"], self.extra, canvas, size, self.device, tiling)
        parsing = {"steps": len(grid) - 1, "sampler": sampler, "weighting": weighting}
        texts = (
            prompts,
            negative,
            size,
            parsing,
            itertools.count(),
            guidance,
            rescale,
            clip_skip,
            seed_like == "comfyui",
        )
        denoise, cond = self.guided(*texts, image_guidance if self.extra == EDITS else None, concat)
        if refiner is not None:
            last = last_entry(grid, self.entry, refiner_start, len(self.noise.betas))
            denoise = handed_over(denoise, *self.refine(refiner, texts), self.entry, last)
        shape = (self.components["unet"].config["out_channels"], height // PIXELS, width // PIXELS)
        rule = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
        if seed_like is not None:
            other = OtherNoise(seed_like, seeds, shape, self.device)
            rule, noise = drawing_from(other, rule), other.first() if noise is None else noise
        hooks: list[Callable[..., Any]] = []
        if latent is not None or (canvas is not None and self.extra != EDITS):
            if noise is None:
                noise = diffusion.Noise(seeds, shape, "start", device=self.device).normal()
            begun, grid, hooks = self.begin(grid, noise, canvas, latent, tiling)
            x = begun if x is None else x
        if x is None and noise is not None:
            x = grid[0].sigma * noise if seed_like is None else first_state(seed_like, sampler, grid, noise)
        if preview is not None:
            hooks = [preview_hook(len(grid) - 1, previews, preview), *hooks]
        with self.runtime.autocast(), ExitStack() as stack:
            for model in (self, refiner):
                if model is not None:
                    stack.enter_context(circular(model.components["unet"], tiling))
            state: Tensor = diffusion.sample(
                denoise, shape, rule, grid, seeds, cond, x=x, hooks=hooks, progress=progress, device=self.device
            )
        return state

    def make_grid(self, name: str, steps: int) -> diffusion.Grid:
        """See `noise_table.make_grid`."""
        return make_grid(self.process, name, steps, len(self.noise.betas), self.is_xl)

    def refine(
        self, refiner: StableDiffusion, texts: tuple[Any, ...]
    ) -> tuple[Callable[..., Any], dict[str, Tensor]]:
        """What a refiner makes of the same texts, with this checkpoint's embeddings, in the memory that this one
        leaves. UserError for a refiner that does not go on where this one ends."""
        check_refiner(self, refiner)
        (width, height), batch = texts[2], len(texts[0])
        if refiner.weights is not None:
            taken = 0.0 if self.weights is None else self.weights.plan(width, height, batch).peak
            refiner.weights.fit(width, height, batch, taken)
        refiner = copy(refiner)
        refiner.embeddings = self.embeddings | refiner.embeddings
        return refiner.guided(*texts)

    def begin(
        self,
        grid: diffusion.Grid,
        noise: Tensor,
        canvas: Canvas | None,
        latent: tuple[Tensor, float] | None,
        tiling: str,
    ) -> tuple[Tensor | None, diffusion.Grid, list[Callable[..., Any]]]:
        """The state to begin from, None for one of noise alone; the steps that are left from there; and the hooks
        that keep what a mask keeps."""
        if latent is not None:
            grid = shortened(grid, latent[1], "hires_strength")
            return self.process.noise(latent[0], grid[0], noise), grid, []
        assert canvas is not None  # there is one of the two
        grid = shortened(grid, canvas.strength)
        x, hooks = begin(self.components["vae"], self.process, canvas, grid[0], noise, not self.extra, tiling)
        return x, grid, hooks

    def decode(self, state: Tensor, tiling: str = "") -> np.ndarray:
        """Latents -> pictures, uint8 (N, height, width, 3); large ones in tiles."""
        return decode(self.components["vae"], state, self.runtime.autocast, tiling)

    @torch.no_grad()
    def decode_preview(self, state: Tensor, tiling: str = "") -> np.ndarray:
        """As `decode`, but by TAESD where it was loaded."""
        if self.taesd is None:
            return self.decode(state, tiling)
        with circular(self.taesd, tiling):
            pixels = (255 * self.taesd(state)).round()
        found: np.ndarray = pixels.permute(0, 2, 3, 1).to("cpu", torch.uint8).numpy()
        return found

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
        default = Sampling(SAMPLER, self.default_grid, STEPS, GUIDANCE)
        if few_step:
            default = few_step.sampling
        elif self.components["unet"].config["time_cond_proj_dim"] is not None:
            default = LATENT_CONSISTENCY
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

    def adapting(self, uses: Sequence[Use], dora_norm: str, merged: bool) -> AbstractContextManager[None]:
        """These adapters' weights, within the block: made out of those of the files, where not all weights are in
        memory whenever a network's, or a layer's, come there. Unless `merged`, see `adapted`."""
        networks = adapted_networks(self.components)
        if self.weights is None or not uses or (self.weights.arranged == "none" and not merged):
            return adapted(networks, uses, dora_norm, merged)
        changed: AbstractContextManager[None] = self.weights.changing(changes_of(networks, uses, dora_norm))
        return changed

    @overload
    def generate(self, prompt: str = "", *, n: None = None, **options: Any) -> GeneratedImage: ...

    @overload
    def generate(self, prompt: str = "", *, n: int, **options: Any) -> list[GeneratedImage]: ...

    def generate(
        self,
        prompt: str = "",
        *,
        n: int | None = None,
        seed: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Image.Image], None] | None = None,
        previews: int = 3,
        tell: Callable[[str], None] | None = None,
        **options: Any,
    ) -> GeneratedImage | list[GeneratedImage]:
        """A picture from words; a list of them when `n` is given, with the seeds seed, seed + 1, ... (at random if
        left out).

        options: the fields of `Drawing`. tell: called with each line that a person is to know of the adapters.
        What made it is in `picture.info`, and in the PNG that `picture.save` writes. Raises UserError for what cannot
        be asked for.
        """
        check_count(n)
        seed = secrets.randbelow(2**32) if seed is None else seed
        seeds = [seed + i for i in range(n or 1)]
        if not 0 <= seed <= seeds[-1] < 2**64:
            raise UserError(f"seed = {seed}: choose a whole number from 0 to 2^64 - {len(seeds)}")
        adapters = options.pop("adapters", None) or ()
        adapters = [adapters] if isinstance(adapters, (str, Path)) else [*adapters]  # each picture goes through them
        options["adapters"] = [as_file(file) for file in adapters]
        if isinstance(refiner := options.get("refiner"), (str, Path)):  # as this one is, and once for all
            device, precision = str(self.device), self.runtime.precision
            options["refiner"] = StableDiffusion.load(refiner, device, precision, nearest=self.nearest)
        pictures = []
        for i, each in enumerate(seeds):  # each alone: none depends, not even in its last bit, on its neighbours

            def on_step(done: int, total: int, done_before: int = i) -> None:
                if progress is not None:
                    progress(done_before * total + done, len(seeds) * total)

            drawing = Drawing(prompt=prompt, seed=each, **options)
            pictures.append(self.draw(drawing, on_step, preview, previews, tell if i == 0 else None))
        return pictures[0] if n is None else pictures

    def draw(
        self,
        drawing: Drawing,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Image.Image], None] | None = None,
        previews: int = 3,
        tell: Callable[[str], None] | None = None,
    ) -> GeneratedImage:
        """One picture with its recipe; see `generate`."""
        if drawing.vae is not None:
            other = self.with_vae(drawing.vae)
            picture = other.draw(replace(drawing, vae=None), progress, preview, previews, tell)
            picture.info[KEY]["vae"] = {"name": Path(drawing.vae).name, "sha256": digest(drawing.vae)}
            picture.parameters = infotext(picture.info[KEY])
            return picture
        one, texts = drawing, drawing.chosen()
        plain, files = with_tags(texts, one.adapters, one.weighting)
        used = self.load_adapters(files)
        sampling = self.sampling(used, one.sampler, one.grid, one.steps, one.guidance)
        self.check(one, plain, used, sampling)
        size = shape_of(one.size, one.width, one.height, one.image, self.size)
        canvas = None if one.image is None else load_canvas(one.image, one.strength, one.mask, size)
        grid, final = self.make_grid(sampling.grid, sampling.steps), size
        start = REFINER_START if one.refiner_start is None else one.refiner_start
        if one.hires is not None:  # refused before the first pass, if it is
            final, second = larger(*size, one.hires), self.make_grid(sampling.grid, one.hires_steps or sampling.steps)
            more = steps_taken(len(second) - 1, one.second_strength, "hires_strength")
            if one.refiner is not None:
                last_entry(second, self.entry, start, len(self.noise.betas))
        for note in describe_adapters(used, one.dora_norm, sampling) if tell else ():
            tell(note)  # type: ignore[misc]  # it is there, or there are no notes
        if self.weights is not None:
            self.weights.fit(*final)

        def show(state: Tensor) -> None:
            if preview is not None:
                preview(Image.fromarray(composite(self.decode_preview(state, one.tiling), canvas)[0]))

        def on_step(before: int, after: int, done: int, total: int) -> None:
            if progress is not None:
                progress(before + done, before + total + after)

        options: dict[str, Any] = {
            "negative": plain["negative"], "sampler": sampling.sampler, "guidance": sampling.guidance,
            "rescale": one.rescale, "clip_skip": one.clip_skip, "weighting": one.weighting,
            "seed_like": one.seed_like, "tiling": one.tiling, "refiner": one.refiner,
            "refiner_start": start,
            "image_guidance": IMAGE_GUIDANCE if one.image_guidance is None else one.image_guidance,
            "preview": None if preview is None else show, "previews": previews,
        }  # fmt: skip
        draw = partial(self.sample_states, [plain["prompt"]], [one.seed], **options)
        with self.adapting([each.use for each in used], one.dora_norm, one.merge_adapters):
            if one.hires is None:
                state = draw(grid=grid, size=size, canvas=canvas, progress=partial(on_step, 0, 0))
            else:
                state = draw(grid=grid, size=size, progress=partial(on_step, 0, more))
                how, decoded = one.hires_upscaler or UPSCALER, partial(self.decode, tiling=one.tiling)
                latent = enlarged(state, decoded, self.components["vae"], final, how, one.tiling), one.second_strength
                state = draw(grid=second, size=final, latent=latent, progress=partial(on_step, len(grid) - 1, 0))
            pixels = composite(self.decode(state, one.tiling), canvas)[0]
        recipe = {
            **self.facts(),
            **one.facts(),
            **texts,
            **{f"{name}_template": getattr(one, name) for name in texts if getattr(one, name) != texts[name]},
            **sampling._asdict(),
            "width": size[0],
            "height": size[1],
            "image_guidance": options["image_guidance"] if self.extra == EDITS else None,
            "strength": None if canvas is None or self.extra == EDITS else canvas.strength,
            **self.embedding_facts([*plain.values()], one.weighting, calls(sampling.steps, sampling.sampler)),
            **adapter_facts(one.adapters, used),
            "tiling": one.tiling or None,
            "dora_norm": one.dora_norm if any(each.has_dora for each in used) else None,
            "merge_adapters": one.merge_adapters if used else None,
            "refiner": None if one.refiner is None or one.refiner.path is None else reference(one.refiner.path),
            "refiner_hash": None if one.refiner is None else one.refiner.hash,
        }
        picture = GeneratedImage(Image.fromarray(pixels), recipe)
        picture.parameters = infotext(recipe)
        return picture

    def check(
        self, drawing: Drawing, plain: Mapping[str, str], used: Sequence[LoadedAdapter], sampling: Sampling
    ) -> None:
        """UserError for what this checkpoint cannot be asked for. plain: the prompts without tags."""
        edits = self.extra == EDITS
        check_options(plain["prompt"], plain["negative"], sampling.guidance, sampling.steps, drawing.image)
        check_rescale(drawing.rescale, sampling.guidance, edits)
        check_image(drawing.image, drawing.strength, drawing.mask, drawing.image_guidance, edits)
        check_dora_norm(used, drawing.dora_norm)
        if sampling.grid in ENDLESS and self.default_grid not in ENDLESS:
            raise UserError(f"grid = {sampling.grid}: this checkpoint's noise has no largest sigma; choose trailing")

    def facts(self) -> dict[str, Any]:
        """What a recipe says of the checkpoint, and of what computes it."""
        return {
            "system": CHECKPOINTS,
            "verb": "generate",
            "model": None if self.path is None else reference(self.path),
            "hash": self.hash,
            "nearest": self.nearest,
            "runtime": self.runtime.name,
            "device": str(self.device),
            "precision": self.runtime.precision,
            "threads": self.runtime.threads,
            "version": __version__,
        }

    def embedding_facts(self, prompts: Sequence[str], weighting: str, steps: int) -> dict[str, Any]:
        """What a recipe says of the embeddings that prompts call for: their hashes, and their files."""
        used = used_embeddings(self, prompts, weighting, steps)
        files = [{"name": self.embeddings[name].file, "sha256": hash} for name, hash in used.items()]
        return {"embeddings": used} | ({"embedding": files} if files else {})


def check_refiner(base: StableDiffusion, refiner: StableDiffusion) -> None:
    """UserError for one that does not go on where the base ends."""
    if not isinstance(refiner, StableDiffusion):
        raise UserError("refiner: it is no checkpoint of Stable Diffusion: name the file or folder of one")
    one, other = (model.components["unet"].config for model in (base, refiner))
    scales = [latents.scale_and_shift(model.components["vae"].config) for model in (base, refiner)]
    same = scales[0] == scales[1] and one["out_channels"] == other["out_channels"] and base.noise == refiner.noise
    if refiner.extra or not same:
        raise UserError(f"refiner {refiner.path}: its noise or its latents are not those of the checkpoint")


def composite(decoded: np.ndarray, canvas: Canvas | None) -> np.ndarray:
    return decoded if canvas is None else canvas.composite(decoded)
