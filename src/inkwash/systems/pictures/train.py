"""Training of a picture model: on the emoji data set with words and styles, or on any folder of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from inkwash import diffusion
from inkwash.codecs import pixels
from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.sketch import Sketch
from inkwash.networks.unet import UNet
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures.model import TEXT_ENCODER, Info, Pictures
from inkwash.systems.pictures.sheet import sheet
from inkwash.training import Settings, batches, fit
from inkwash.training.report import say

PREVIEW = ["fox", "red apple", "smiling face", "blue car", "sunflower", "house with garden", "pizza", "blue whale"]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "pictures".

    data      a folder: the emoji data set (`inkwash data emoji`), or with words = false any folder of pictures
    words     whether captions and styles are learned too
    sketch    whether the U-Net is shown a sketch of what the words alone suggest
    network   keys of the U-Net, beside those that follow from the rest
    weight    largest weight of the squared error of x_0
    model     how pictures become states, and how the model is sampled by default
    """

    task: Literal["pictures"]
    data: Path
    fit: Settings
    network: dict[str, Any]
    words: bool = True
    sketch: bool = False
    weight: float = 5.0
    model: Info = field(default_factory=Info)


def train(recipe: Recipe, folder: Path) -> Pictures:
    """Trains (or goes on with) the model of a recipe in `folder`, and saves it in `folder`/model."""
    torch.manual_seed(recipe.fit.seed)
    info, text = recipe.model, None
    if recipe.words:
        data = emoji_data.load(recipe.data, size=info.size)
        rows = np.flatnonzero(data.split == "train")
        pictures = pixels.on_white(data.pictures[rows])
        text = TextCodec.load(TEXT_ENCODER)
        info = Info(**{**info.__dict__, "styles": sorted(set(data.style.tolist()))})
    else:
        pictures = read_folder(recipe.data, info.size)
    if recipe.sketch and text is None:
        raise UserError("sketch = true needs words = true: a sketch is drawn from words")
    channels, places = 3 * info.patch**2, info.size // info.patch
    network = {"sample_size": places, "in_channels": channels * (1 + recipe.sketch), "out_channels": channels}
    sketch = None
    if text is None:
        network["cross_attention_dim"] = None
    else:
        width = text.network.config["output"]
        label = width + len(info.styles)
        network |= {
            "cross_attention_dim": width,
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": label,
        }
        sketch = Sketch(label, channels, places) if recipe.sketch else None
    if twice := sorted(network.keys() & recipe.network.keys()):
        raise UserError(f"[network] {', '.join(twice)}: it follows from the rest of the recipe; leave it out")
    model = Pictures(UNet(**network, **recipe.network), info, text, sketch=sketch)

    order = batches(len(pictures), recipe.fit.batch_size, recipe.fit.seed)
    told = Captions(model, data, rows) if text is not None else None

    def batch(k: int) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = order(k)
        x0 = pixels.encode(pictures[chosen], info.patch)
        return x0, told(chosen, np.random.default_rng([recipe.fit.seed, k])) if told else {}

    def weight(t: diffusion.Point, form: diffusion.Parametrization) -> Tensor:
        # the loss of flow matching, |velocity error|^2 = |x_0 error|^2 / sigma^2 (JiT, 2511.13720), with a cap as in
        # min-SNR: without it the last faint noise would have most of the loss
        return torch.clip(t.sigma**-2, max=recipe.weight) / form.factor(t)

    def loss(batch: tuple[Tensor, dict[str, Tensor]], generator: torch.Generator) -> Tensor:
        x0, condition = batch
        value = model.denoiser.loss(x0, condition, weight=weight, generator=generator)
        return value if sketch is None else value + nn.functional.mse_loss(sketch(condition["label"]), x0)

    def preview(network: nn.Module, step: int) -> np.ndarray:
        styles = info.styles or [""]
        words = PREVIEW if text is not None else [""] * len(PREVIEW)
        prompts = [word for word in words for _ in styles]
        made = model.sample(prompts, [s or None for s in styles * len(words)], range(len(prompts)))
        return sheet(made, len(styles) if len(styles) > 1 else len(words))

    fit(model.network, loss, batch, folder, recipe.fit, preview)
    model.save(folder / "model")
    return model


class Captions:
    """Condition of training pictures: each time other words for the same concept, and now and then none.

    A caption is the name, the name with an article, with some tags, or tags alone. Of all pictures 10 % lose
    words and style, so that guidance has something to push from, 5 % only words and 10 % only the style.
    """

    def __init__(self, model: Pictures, data: emoji_data.Emoji, rows: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        first = {concept: i for i, concept in reversed(list(enumerate(data.concept)))}
        variants = {concept: captions(str(data.name[i]), data.tags[i], rng) for concept, i in first.items()}
        width = len(next(iter(variants.values())))
        texts = ["", *(text for texts in variants.values() for text in texts)]
        starts = {concept: 1 + width * k for k, concept in enumerate(variants)}
        self.choices = np.array([starts[data.concept[row]] for row in rows])[:, None] + np.arange(width)
        states = [
            model.condition(texts[i : i + 256], [None] * len(texts[i : i + 256])) for i in range(0, len(texts), 256)
        ]
        longest = max(s["context"].shape[1] for s in states)
        pad = [longest - s["context"].shape[1] for s in states]
        grown = [nn.functional.pad(s["context"], (0, 0, 0, p)).half() for s, p in zip(states, pad, strict=True)]
        self.context = torch.cat(grown)
        self.mask = torch.cat(
            [nn.functional.pad(s["context_mask"], (0, p)) for s, p in zip(states, pad, strict=True)]
        )
        pooled = torch.cat([s["label"] for s in states])
        self.pooled = pooled[:, : pooled.shape[1] - len(model.info.styles)]
        self.style = torch.eye(len(model.info.styles))[[model.info.styles.index(s) for s in data.style[rows]]]

    def __call__(self, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        lot = rng.random(len(chosen))
        text = np.take_along_axis(self.choices[chosen], rng.integers(self.choices.shape[1], size=(len(chosen), 1)), 1)
        text = torch.from_numpy(np.where(lot < 0.15, 0, text[:, 0]))
        style = (
            self.style[torch.from_numpy(chosen)]
            * torch.from_numpy((lot >= 0.1) & ((lot < 0.15) | (lot >= 0.25)))[:, None]
        )
        return {
            "context": self.context[text].float(),
            "context_mask": self.mask[text],
            "label": torch.cat([self.pooled[text], style], dim=1),
        }


def captions(name: str, tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Eight ways to ask for one concept."""
    article = f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
    some = [", ".join(rng.permutation(tags)[:k]) if tags else name for k in (1, 2, 2, 3)]
    return [name, name, article, article, *(f"{name}, {words}" for words in some[:2]), *some[2:]]


def read_folder(folder: Path, size: int) -> np.ndarray:
    """All pictures below a folder, cut to a centred square and resized: uint8 (N, size, size, 3), on white.

    What cannot be read is skipped and named. Raises UserError for a folder that is missing or has none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of pictures")
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            picture = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
            say(f"skipped {path}: {error}")
            continue
        white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        found.append(np.asarray(ImageOps.fit(white, (size, size), Image.Resampling.LANCZOS)))
    if not found:
        raise UserError(f"{folder}: no pictures there ({', '.join(sorted(SUFFIXES))})")
    return np.stack(found)
