"""Pictures from words with torch: a U-Net on latents, or on patches of pixels, that hears a text and a style."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inkwash.codecs import latents, pixels
from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError, unknown
from inkwash.networks.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from inkwash.networks.concat import ConcatUNet
from inkwash.networks.unet import UNet, load_unet, save_unet
from inkwash.systems.pictures.networks import MeanPredictor, load_mean_predictor, save_mean_predictor
from inkwash.systems.pictures.pipeline import PRECISIONS, Config, Pipeline, part, read_config, text_encoder
from inkwash.systems.pictures.upsampler import Upsampler, load_upsampler
from inkwash.weights.files import atomic
from inkwash.weights.shipped import locate


def state_shape(info: Config, vae: Autoencoder | None) -> tuple[int, int, int]:
    """Channels, rows and columns of one state: a latent of the autoencoder, or patches of pixels."""
    if vae is not None:
        side = info.size // (vae.factor * latents.patch(vae.config["in_channels"]))
        return vae.config["latent_channels"], side, side
    return 3 * info.patch**2, info.size // info.patch, info.size // info.patch


class Pictures(Pipeline):
    """A model of pictures, with words and styles or without.

    >>> emoji = Pictures.load("emoji")
    >>> emoji.generate("a red fox", style="flat", seed=7)
    """

    runtime = f"torch {torch.__version__}"

    def __init__(
        self,
        unet: UNet,
        info: Config,
        text: TextCodec | None = None,
        folder: Path | None = None,
        precision: str = "float32",
        vae: Autoencoder | None = None,
        upsampler: Upsampler | None = None,
        sketch: MeanPredictor | None = None,
    ) -> None:
        self.unet, self.info, self.text, self.folder, self.precision = unet, info, text, folder, precision
        self.vae, self.upsampler, self.sketch = vae, upsampler, sketch
        self.network = unet if sketch is None else ConcatUNet(unet)
        self.sketched = None if sketch is None else torch.no_grad()(sketch)
        self.tokenizer = None if text is None else text.tokenizer
        self.has_words, self.in_latents = text is not None, vae is not None
        self.has_opacity = vae is not None and vae.config["out_channels"] % 4 == 0

    @classmethod
    def load(
        cls, name: str | Path, device: str = "cpu", precision: str = "float32", threads: int | None = None
    ) -> Pictures:
        """From a shipped name or a folder; precision: what the network computes in, float32 or bfloat16.

        UserError, in one line, for what is missing or broken there.
        """
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        if threads:
            torch.set_num_threads(threads)
        folder = locate(name)
        info = read_config(folder)
        unet = load_unet(folder / "unet").to(device)
        parts = {name: part(folder, info, name) for name in ("vae", "sketch", "upsampler")}
        vae = load_autoencoder(parts["vae"]).to(device) if parts["vae"] else None
        text = None
        channels = vae.config["latent_channels"] if vae else 3 * info.patch**2
        sketch = load_mean_predictor(parts["sketch"]).to(device) if parts["sketch"] else None
        seen = channels + (sketch.config["channels"] if sketch else 0)
        if unet.config["in_channels"] != seen or unet.config["out_channels"] != channels:
            what = "the autoencoder" if vae else f"patch = {info.patch} in system.json"
            raise UserError(f"{folder}: {what} does not fit the network's channels")
        if unet.config["class_embed_type"]:  # of words and a style
            label = unet.config["cross_attention_dim"] + len(info.styles)
            if unet.config["projection_class_embeddings_input_dim"] != label:
                raise UserError(f"{folder}: the styles in system.json are not as many as the network was trained on")
            text = TextCodec.load(text_encoder(folder, info))
        upsampler = load_upsampler(parts["upsampler"]) if parts["upsampler"] else None
        return cls(unet, info, text, folder, precision, vae, upsampler, sketch)

    def save(self, folder: str | Path) -> None:
        """Writes system.json; unet/, vae/, upsampler/ (float16, in the diffusers format); sketch/, text_encoder/.

        Of a model with a base only what is its own: the U-Net.
        """
        folder = Path(folder)
        save_unet(self.unet, folder / "unet")
        if not self.info.base:
            if self.sketch is not None:
                save_mean_predictor(self.sketch, folder / "sketch")
            if self.vae is not None:
                save_autoencoder(self.vae, folder / "vae")
            if self.upsampler is not None:
                save_unet(self.upsampler.network.unet, folder / "upsampler")
            if self.text is not None:
                self.text.save(folder / "text_encoder")
        with atomic(folder / "system.json") as file:
            file.write_text(json.dumps(asdict(self.info), indent=2) + "\n", encoding="utf-8")

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return next(self.unet.parameters()).device

    @property
    def threads(self) -> int:
        return torch.get_num_threads()

    def computing(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def words(self, prompts: list[str]) -> dict[str, np.ndarray]:
        assert self.text is not None
        return {key: value.numpy(force=True) for key, value in self.text.encode(prompts).items()}

    def array(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).to(self.device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one state: channels, rows, columns."""
        return state_shape(self.info, self.vae)

    def encode(self, pictures: np.ndarray) -> Tensor:
        """uint8 (N, size, size, 3), or 4 with straight alpha -> states (N, *shape)."""
        if self.vae is not None:
            return latents.encode(self.vae, pictures)
        return pixels.encode(pixels.on_white(pictures), self.info.patch)

    def decode(self, state: Tensor) -> np.ndarray:
        """States -> uint8 (N, size, size, 3), on white; or 4 with the opacity, where the autoencoder knows it."""
        if self.vae is not None:
            return latents.decode(self.vae, state)
        return pixels.decode(state, self.info.patch)
