"""Pictures by checkpoints of Stable Diffusion 1, 2 and XL, with the numbers that other tools draw with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.codecs.clip import END, CLIPTokenizer
from inkwash.errors import UserError, unknown
from inkwash.networks.autoencoder import load_autoencoder
from inkwash.networks.clip import load_clip
from inkwash.networks.stable_diffusion import load_single_file
from inkwash.networks.unet import load_unet
from inkwash.systems.pictures.model import SAMPLERS
from inkwash.weights.shipped import load_json

PARAMETRIZATIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
ENCODERS = ("text_encoder", "text_encoder_2")
V_BIAS = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"  # spreads wider where SD 2 predicts v
PIXELS = 8  # a side of one latent place
AESTHETIC = {"cond": 6.0, "uncond": 2.5}  # scores that the refiner of SDXL is told


class NoiseTable(NamedTuple):
    """How a checkpoint was trained: its betas, and what its U-Net predicts."""

    betas: tuple[float, ...]
    parametrization: str = "eps"

    @classmethod
    def of(cls, scheduler: Mapping[str, Any]) -> NoiseTable:
        """From a scheduler_config.json of diffusers, whose other keys are of its samplers. UserError for one that is
        not of a table of betas."""
        count, kind = scheduler.get("num_train_timesteps", 1000), scheduler.get("beta_schedule", "linear")
        start, end = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
        if (betas := scheduler.get("trained_betas")) is None:
            if kind not in ("linear", "scaled_linear"):
                raise UserError(f"beta_schedule {kind!r}: a checkpoint of linear or scaled_linear betas can be drawn")
            power = 2 if kind == "scaled_linear" else 1
            betas = np.linspace(start ** (1 / power), end ** (1 / power), count) ** power
        if scheduler.get("rescale_betas_zero_snr"):
            betas = diffusion.zero_terminal_snr(betas)
        predicts = scheduler.get("prediction_type", "epsilon")
        if predicts not in PARAMETRIZATIONS:
            raise unknown("prediction_type", predicts, PARAMETRIZATIONS)
        return cls(tuple(np.asarray(betas, np.float64).tolist()), PARAMETRIZATIONS[predicts])


STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class Encoded(NamedTuple):
    """Texts as the U-Net takes them: context (B, 77, D), and pooled (B, D) or None, of SDXL."""

    context: Tensor
    pooled: Tensor | None


class StableDiffusion:
    """A checkpoint of Stable Diffusion 1, 2 or XL.

    components  unet, vae, text_encoder and tokenizer; in SDXL also text_encoder_2 and tokenizer_2
    noise       see `NoiseTable`
    nearest     whether the network is told the nearest entry of its table, as ComfyUI does and diffusers' DPM-Solver
                and UniPC, or the place between two entries, as A1111 and diffusers' Euler
    """

    def __init__(self, components: Mapping[str, Any], noise: NoiseTable, nearest: bool = False) -> None:
        self.components, self.noise, self.nearest = dict(components), noise, nearest
        for name in ("unet", "vae"):
            if name not in self.components:
                raise UserError(f"the checkpoint has no {name}: name a file or folder of one")
        if not any(name in self.components for name in ENCODERS):
            raise UserError("the checkpoint has no text encoder: name a file or folder of one")
        unet = self.components["unet"].config
        if unet["in_channels"] != unet["out_channels"] or unet["time_cond_proj_dim"]:
            raise UserError("the checkpoint paints in, edits or is told its guidance, which cannot be drawn yet")

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu", nearest: bool = False) -> StableDiffusion:
        """From a folder in the diffusers format, or a single .safetensors file of all networks, in float32."""
        path = Path(path)
        components, noise = load_folder(path) if path.is_dir() else load_file(path)
        for component in components.values():
            if isinstance(component, torch.nn.Module):
                component.to(device).eval()
        return cls(components, noise, nearest)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.components["unet"].parameters()).device
        return device

    @property
    def is_xl(self) -> bool:
        return bool(self.components["unet"].config["addition_embed_type"] == "text_time")

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
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Latents (N, C, height / 8, width / 8) of size = (width, height) pixels, that of training if left out.

        grid: one of `diffusion.GRIDS`, or any of the checkpoint's process. rescale: see `classifier_free`. x: the
        state to start from, drawn from the seeds unless given.
        """
        unet = self.components["unet"].config
        width, height = size or (PIXELS * unet["sample_size"],) * 2
        if width % PIXELS or height % PIXELS or min(width, height) < PIXELS:
            raise UserError(f"size = {width} x {height}: choose multiples of {PIXELS} pixels")
        if isinstance(sampler, str) and sampler not in SAMPLERS:
            raise unknown("sampler", sampler, SAMPLERS)
        if isinstance(grid, str):
            grid = make_grid(self.process, grid, steps, len(self.noise.betas))
        cond, uncond = (
            self.condition(self.encode_prompt(texts, clip_skip), height, width, score)
            for texts, score in ((prompts, AESTHETIC["cond"]), ([negative], AESTHETIC["uncond"]))
        )
        denoise = diffusion.classifier_free(self.denoiser, guidance, uncond, rescale=rescale)
        shape = (unet["out_channels"], height // PIXELS, width // PIXELS)
        rule = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
        state: Tensor = diffusion.sample(
            denoise, shape, rule, grid, seeds, cond, x=x, progress=progress, device=self.device
        )
        return state

    def decode(self, state: Tensor) -> np.ndarray:
        """Latents -> pictures, uint8 (N, height, width, 3)."""
        return latents.decode(self.components["vae"], state)


def entry_of(process: diffusion.Gaussian, count: int, nearest: bool) -> Callable[[diffusion.NoiseLevel], float]:
    """The entry of a table of so many betas by which a network knows a noise level: between two entries the place
    that is linear in log (sigma / alpha), or the nearest."""
    known = np.array([process.at((i + 1) / count).lambda_ for i in range(count)])  # falls

    def entry(t: diffusion.NoiseLevel) -> float:
        if not np.isfinite(known[-1]) and t.t >= (count - 0.5) / count:
            return count - 1.0
        found = float(np.interp(-t.lambda_, -known[np.isfinite(known)], np.arange(np.isfinite(known).sum())))
        return float(round(found)) if nearest else found

    return entry


def make_grid(process: diffusion.Gaussian, name: str, steps: int, table: int) -> diffusion.Grid:
    """The grid of this name on a table; `leading` as Stable Diffusion has it, from entry 1 on."""
    if name not in diffusion.GRIDS:
        raise unknown("grid", name, diffusion.GRIDS)
    of_table = {"leading", "trailing", "normal", "sgm_uniform", "simple", "ddim_uniform", "beta"}
    options: dict[str, Any] = {"table": table} if name in of_table else {}
    options |= {"steps_offset": 1} if name == "leading" else {}
    found: diffusion.Grid = diffusion.GRIDS[name](process, steps, **options)
    return found


def load_folder(folder: Path) -> tuple[dict[str, Any], NoiseTable]:
    index = load_json(folder / "model_index.json")
    components: dict[str, Any] = {"unet": load_unet(folder / "unet"), "vae": load_autoencoder(folder / "vae")}
    for name in ENCODERS:
        if index.get(name, (None, None))[1] is not None:
            tokenizer = name.replace("text_encoder", "tokenizer")
            components |= {name: load_clip(folder / name), tokenizer: CLIPTokenizer.load(folder / tokenizer)}
    return components, NoiseTable.of(load_json(folder / "scheduler" / "scheduler_config.json"))


def load_file(path: Path) -> tuple[dict[str, Any], NoiseTable]:
    """From a single file, which names neither its noise table nor what it predicts: SDXL by marks, SD 2 by a bias."""
    family, components, others = load_single_file(path)
    if edm := sorted(name for name in others if name.startswith("edm_")):
        raise UserError(f"{path}: {edm[0]} says that it has EDM's noise, not a table of betas: it cannot be drawn")
    predicts = "epsilon"
    if "v_pred" in others or (family == "sd2" and components["unet"].state_dict()[V_BIAS].std(unbiased=False) > 0.09):
        predicts = "v_prediction"
    facts = STABLE | {"prediction_type": predicts, "rescale_betas_zero_snr": "ztsnr" in others}
    found: dict[str, Any] = dict(components)
    for name in ENCODERS:
        if name in components:
            fill = "!" if family == "sd2" or name == "text_encoder_2" else END
            found[name.replace("text_encoder", "tokenizer")] = CLIPTokenizer.shipped(fill)
    return found, NoiseTable.of(facts)
