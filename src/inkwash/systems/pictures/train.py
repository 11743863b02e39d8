"""Training of a picture model: on the emoji data set with words and styles, or on any folder of pictures."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from inkwash import diffusion
from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.autoencoder import Autoencoder, load_autoencoder
from inkwash.networks.unet import UNet
from inkwash.progress import CONSOLE, Monitor, Note, Progress
from inkwash.systems.pictures import colours, emoji_data
from inkwash.systems.pictures.data import image_grid
from inkwash.systems.pictures.model import Pictures, state_shape
from inkwash.systems.pictures.networks import MeanPredictor
from inkwash.systems.pictures.pipeline import TEXT_ENCODER, Config
from inkwash.training.data import batches
from inkwash.training.fit import Settings, fit
from inkwash.weights.files import read, write

PREVIEW = ["fox", "red apple", "smiling face", "blue car", "sunflower", "house with garden", "pizza", "blue whale"]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class SketchPlan:
    """The table [sketch] of a recipe: a sketch of what the words alone suggest, learned first and shown to the U-Net.

    fit      as [fit], for the sketch
    hidden   its width
    unseen   share of the U-Net's pictures whose sketch comes from one that never saw them: a sketch knows what it was
             trained on nearly by heart, and the U-Net must learn what to make of one that does not. (Predictions
             from outside the sample, as in stacked regression, Breiman 1996.)
    """

    fit: Settings
    hidden: int = 1024
    unseen: float = 0.25


@dataclass(frozen=True)
class Recipe:
    """A recipe file of task "pictures".

    data         a folder: the emoji data set (`inkwash data emoji`), or with words = false any folder of pictures
    words        whether captions and styles are learned too
    sketch       how a sketch of what the words alone suggest is learned, if the U-Net is shown one
    autoencoder  the folder of an image autoencoder, to learn its latents instead of pixels
    recolour     share of the pictures that are shown in another colour, with that colour in their caption
    chinese      share of the captions that are Chinese
    network      keys of the U-Net, beside those that follow from the rest
    weight       largest weight of the squared error of x_0
    model        how pictures become states, and how the model is sampled by default
    """

    task: Literal["pictures"]
    data: Path
    fit: Settings
    network: dict[str, Any]
    words: bool = True
    sketch: SketchPlan | None = None
    autoencoder: Path | None = None
    recolour: float = 0.0
    chinese: float = 0.0
    weight: float = 5.0
    model: Config = field(default_factory=Config)


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> Pictures:
    """Trains (or goes on with) the model of a recipe in `folder`; it lies in `folder`/model."""
    torch.manual_seed(recipe.fit.seed)
    info, text = recipe.model, None
    vae = None if recipe.autoencoder is None else load_autoencoder(recipe.autoencoder)
    if recipe.words:
        emoji = emoji_data.load(recipe.data, size=info.size)
        text = TextCodec.load(TEXT_ENCODER)
        info = replace(info, styles=sorted(set(emoji.style.tolist())))
        shown = captioned(emoji, recipe.recolour)
        pictures = shown.pictures
    else:
        pictures = read_folder(recipe.data, info.size, monitor)
    if recipe.sketch and text is None:
        raise UserError("[sketch] needs words = true: a sketch is drawn from words")
    unet = UNet(**network(recipe, info, text, vae))
    sketch = new_sketch(recipe.sketch, unet, info, vae) if recipe.sketch else None
    model = Pictures(unet, info, text, vae=vae, sketch=sketch)
    states = encoded(model, pictures, folder / "states.safetensors", recipe.fit.micro_batch_threads, monitor)
    told = Conditions(model, shown, recipe.chinese) if text is not None else None
    own = len(pictures) if told is None else shown.own
    order = batches(own, recipe.fit.batch_size, recipe.fit.seed)
    if told is not None and recipe.sketch and sketch is not None:
        half = new_sketch(recipe.sketch, unet, info, vae)
        long = recipe.sketch.fit
        learn_sketch(recipe, long, sketch, states, told, np.arange(own), folder / "sketch", monitor)
        short = replace(long, steps=-(-long.steps // 2))  # as often through half of the pictures
        learn_sketch(recipe, short, half, states, told, np.arange(0, own, 2), folder / "sketch-half", monitor)

    def batch(k: int) -> tuple[Tensor, dict[str, Tensor]]:
        chosen, rng = order(k), np.random.default_rng([recipe.fit.seed, k])
        if told is None:
            return states[torch.from_numpy(chosen)].float(), {}
        painted = shown.in_other_colours(chosen, recipe.recolour, rng)
        x0, condition = states[torch.from_numpy(painted)].float(), told(painted, rng)
        if recipe.sketch and sketch is not None:
            unseen = torch.from_numpy((chosen % 2 == 1) & (rng.random(len(chosen)) < 2 * recipe.sketch.unseen))
            with torch.no_grad():
                drawn, other = sketch(condition["label"]), half(condition["label"])
            condition["concat"] = torch.where(unseen[:, None, None, None], other, drawn)
        return x0, condition

    def weight(t: diffusion.NoiseLevel, form: diffusion.Parametrization) -> Tensor:
        # the loss of flow matching, |velocity error|^2 = |x_0 error|^2 / sigma^2 (JiT, 2511.13720), with a cap as in
        # min-SNR: without it the last faint noise would have most of the loss
        return torch.clip(t.sigma**-2, max=recipe.weight) / form.factor(t)

    def loss(batch: tuple[Tensor, dict[str, Tensor]], generator: torch.Generator) -> Tensor:
        x0, condition = batch
        times = diffusion.uniform_times if vae is None else diffusion.logit_normal()  # SD 3, 2403.03206
        return model.denoiser.loss(x0, condition, weight=weight, times=times, generator=generator)

    def preview(network: nn.Module, step: int) -> np.ndarray:
        styles = info.styles or [""]
        words = PREVIEW if text is not None else [""] * len(PREVIEW)
        prompts = [word for word in words for _ in styles]
        made = model.sample(prompts, [s or None for s in styles * len(words)], range(len(prompts)))
        return image_grid(made, len(styles) if len(styles) > 1 else len(words))

    fit(unet, loss, batch, folder, recipe.fit, preview, model.save, folder / "model", monitor)
    return model


def new_sketch(plan: SketchPlan, unet: UNet, info: Config, vae: Autoencoder | None) -> MeanPredictor:
    channels, side, _ = state_shape(info, vae)
    return MeanPredictor(unet.config["projection_class_embeddings_input_dim"], channels, side, plan.hidden)


def learn_sketch(
    recipe: Recipe,
    settings: Settings,
    sketch: MeanPredictor,
    states: Tensor,
    told: "Conditions",
    rows: np.ndarray,
    folder: Path,
    monitor: Monitor,
) -> None:
    """Trains a sketch, or goes on with it, on these of the data's own pictures and their recoloured forms."""
    order = batches(len(rows), settings.batch_size, settings.seed)

    def batch(k: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([settings.seed, k])
        chosen = told.shown.in_other_colours(rows[order(k)], recipe.recolour, rng)
        return states[torch.from_numpy(chosen)].float(), told.label(chosen, rng)[0]

    def loss(batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
        x0, label = batch
        return nn.functional.mse_loss(sketch(label), x0)

    fit(sketch, loss, batch, folder, settings, monitor=monitor)


def network(recipe: Recipe, info: Config, text: TextCodec | None, vae: Autoencoder | None) -> dict[str, Any]:
    """The U-Net's configuration: what the recipe says, and what follows from the rest of it."""
    channels, side, _ = state_shape(info, vae)
    seen = channels * (1 + (recipe.sketch is not None))
    follows: dict[str, Any] = {"sample_size": side, "in_channels": seen, "out_channels": channels}
    if text is None:
        follows["cross_attention_dim"] = None
    else:
        width = text.network.config["output"]
        follows |= {
            "cross_attention_dim": width,
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": width + len(info.styles),
        }
    if twice := sorted(follows.keys() & recipe.network.keys()):
        raise UserError(f"[network] {', '.join(twice)}: it follows from the rest of the recipe; leave it out")
    return follows | recipe.network


def encoded(
    model: Pictures, pictures: np.ndarray, file: Path, threads: int = 1, monitor: Monitor = CONSOLE
) -> Tensor:
    """The states of the pictures. Those of an autoencoder take minutes, so they are kept in `file`, in float16."""
    if model.vae is None:
        return model.encode(pictures)

    def encode() -> Tensor:
        parts, found = np.array_split(pictures, -(-len(pictures) // 256)), []
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            for states in pool.map(model.encode, parts):
                found.append(states)
                monitor.tell(Progress(len(found), len(parts), "pictures become latents"))
        return torch.cat(found)

    content = hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()
    return kept(file, {"pictures": content, "autoencoder": fingerprint(model.vae)}, encode)


def kept(file: Path, facts: dict[str, str], make: Callable[[], Tensor]) -> Tensor:
    """The states in `file`, if these facts are theirs; else they are made, and kept there in float16."""
    if file.exists():
        tensors, found = read(file)
        if facts.items() <= found.items():
            return tensors["states"]
    states = make().half()
    write(file, {"states": states}, facts)
    return states


def fingerprint(module: nn.Module) -> str:
    """Tells one set of weights from another."""
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest()


@dataclass(frozen=True)
class Captioned:
    """Training pictures with their captions; the first `own` are the data's own, the others recoloured ones.

    others   the numbers of the recoloured forms of each of the data's own
    """

    pictures: np.ndarray
    english: list[list[str]]
    chinese: list[list[str]]
    style: list[str]
    own: int
    others: list[list[int]]

    def in_other_colours(self, chosen: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        """The chosen, but of those that have recoloured forms a share is replaced by one of these."""
        swapped = [
            rng.choice(self.others[i]) if self.others[i] and lot < share else i
            for i, lot in zip(chosen.tolist(), rng.random(len(chosen)), strict=True)
        ]
        return np.array(swapped)


def captioned(emoji: emoji_data.Emoji, recolour: float) -> Captioned:
    """The training split with its captions; if recolour > 0, also each picture in every colour that suits it."""
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(emoji.split == "train")
    pictures, english, chinese, style = list(emoji.pictures[rows]), [], [], emoji.style[rows].tolist()
    known: dict[str, tuple[list[str], list[str]]] = {}
    for row in rows:
        concept = emoji.concept[row]
        if concept not in known:
            known[concept] = (
                captions(str(emoji.name[row]), emoji.tags[row], rng),
                captions_zh(str(emoji.name_zh[row]), emoji.tags_zh[row], rng),
            )
        english.append(known[concept][0])
        chinese.append(known[concept][1])
    others: list[list[int]] = [[] for _ in rows]
    for i, row in enumerate(rows if recolour else []):
        if not colours.recolourable(emoji.group[row], emoji.name[row]):
            continue
        for colour in colours.COLOURS:
            if colours.held_out(str(emoji.concept[row]), colour):
                continue
            painted = colours.recolour(emoji.pictures[row], colour)
            if painted is not None:
                said, said_zh = colours.colour_captions(str(emoji.name[row]), str(emoji.name_zh[row]), colour)
                others[i].append(len(pictures))
                pictures.append(painted)
                english.append(articles(said))
                chinese.append([said_zh])
                style.append(style[i])
    return Captioned(np.stack(pictures), english, chinese, style, len(rows), others)


class Conditions:
    """What the network is told of training pictures: each time other words for it, and now and then none.

    A caption is the name, the name with an article, with some tags, or tags alone. Of all pictures 10 % lose words
    and style, so that guidance has something to push from, 5 % only words and 10 % only the style.
    """

    def __init__(self, model: Pictures, shown: Captioned, chinese: float) -> None:
        self.model, self.shown, self.share = model, shown, chinese
        self.heard: dict[str, tuple[Tensor, Tensor]] = {}  # the states of each text, once it has been met
        self.style = torch.eye(len(model.info.styles))[[model.info.styles.index(s) for s in shown.style]]

    def label(self, chosen: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Pooled texts beside styles, (N, D + styles), and the texts."""
        lot = rng.random(len(chosen))
        texts = [
            ""
            if silent
            else str(rng.choice((self.shown.chinese if rng.random() < self.share else self.shown.english)[i]))
            for i, silent in zip(chosen, lot < 0.15, strict=True)
        ]
        self.hear(texts)
        told = torch.from_numpy((lot >= 0.1) & ((lot < 0.15) | (lot >= 0.25)))
        style = self.style[torch.from_numpy(chosen)] * told[:, None]
        return torch.cat([torch.stack([self.heard[text][1] for text in texts]), style], dim=1), texts

    def __call__(self, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        label, texts = self.label(chosen, rng)
        states = [self.heard[text][0] for text in texts]
        lengths = torch.tensor([len(s) for s in states])
        return {
            "context": nn.utils.rnn.pad_sequence(states, batch_first=True),
            "context_mask": torch.arange(int(lengths.max())) < lengths[:, None],
            "label": label,
        }

    def hear(self, texts: Sequence[str]) -> None:
        """Encodes what was not met before, and keeps it."""
        assert self.model.text is not None
        if new := sorted(set(texts) - self.heard.keys()):
            said = self.model.text.encode(new)
            for text, state, mask, pooled in zip(
                new, said["context"], said["context_mask"], said["pooled"], strict=True
            ):
                self.heard[text] = state[mask], pooled


def articles(name: str) -> list[str]:
    """A name alone, and with its article."""
    return [name, f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"]


def captions(name: str, tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Eight ways to ask for one concept."""
    some = [", ".join(rng.permutation(tags)[:k]) if tags else name for k in (1, 2, 2, 3)]
    return [*articles(name), *articles(name), *(f"{name}, {words}" for words in some[:2]), *some[2:]]


def captions_zh(name: str, tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The same in Chinese, which has no articles but measure words."""
    some = ["\uff0c".join(rng.permutation(tags)[:k]) if tags else name for k in (1, 2, 2, 3)]
    return [name, name, name, f"\u4e00\u4e2a{name}", *(f"{name}\uff0c{words}" for words in some[:2]), *some[2:]]


def read_folder(folder: Path, size: int, monitor: Monitor = CONSOLE) -> np.ndarray:
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
            monitor.tell(Note(f"skipped {path}: {error}"))
            continue
        white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        found.append(np.asarray(ImageOps.fit(white, (size, size), Image.Resampling.LANCZOS)))
    if not found:
        raise UserError(f"{folder}: no pictures there ({', '.join(sorted(SUFFIXES))})")
    return np.stack(found)
