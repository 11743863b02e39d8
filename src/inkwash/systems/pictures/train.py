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
from inkwash.networks.unet import UNet
from inkwash.progress import CONSOLE, Monitor, Note, Progress
from inkwash.systems.pictures import colours, emoji_data
from inkwash.systems.pictures.data import image_grid
from inkwash.systems.pictures.model import Config, state_shape
from inkwash.systems.pictures.networks import MeanPredictor
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.pictures.runtimes import Torch
from inkwash.training.data import batches
from inkwash.training.fit import Settings, fit
from inkwash.weights.files import read, write
from inkwash.weights.shipped import TEXT_ENCODER

PREVIEW = ["fox", "red apple", "smiling face", "blue car", "sunflower", "house with garden", "pizza", "blue whale"]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class MeanPrediction:
    """The table [mean_predictor] of a recipe: the mean of what the words alone suggest is learned first and shown to
    the U-Net.

    fit      as [fit], for the mean predictor
    hidden   its width
    unseen   share of the U-Net's pictures whose mean comes from a predictor that never saw them: it knows what it
             was trained on nearly by heart, and the U-Net must learn what to make of one that does not. (Predictions
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
    mean_predictor  how the mean of what the words alone suggest is learned, if the U-Net is shown it
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
    mean_predictor: MeanPrediction | None = None
    autoencoder: Path | None = None
    recolour: float = 0.0
    chinese: float = 0.0
    weight: float = 5.0
    model: Config = field(default_factory=Config)


def train(recipe: Recipe, folder: Path, monitor: Monitor = CONSOLE) -> Pipeline:
    """Trains (or goes on with) the model of a recipe in `folder`; it lies in `folder`/model."""
    torch.manual_seed(recipe.fit.seed)
    mean = recipe.mean_predictor
    if mean is not None and not recipe.words:
        raise UserError("[mean_predictor] needs words = true: it is the mean of what words suggest")
    config, runtime, components = recipe.model, Torch(recipe.fit.device), {}
    if recipe.autoencoder is not None:
        components["vae"] = runtime.load("AutoencoderKL", recipe.autoencoder)
    if recipe.words:
        emoji = emoji_data.load(recipe.data, size=config.size)
        components["text_encoder"] = runtime.load("TextCodec", TEXT_ENCODER)
        config = replace(config, styles=sorted(set(emoji.style.tolist())))
        dataset = captioned(emoji, recipe.recolour)
        pictures = dataset.pictures
    else:
        pictures = read_folder(recipe.data, config.size, monitor)
    shape = state_shape(config, components["vae"].config if recipe.autoencoder else None)
    unet = components["unet"] = UNet(**network(recipe, config, shape, components.get("text_encoder")))
    if mean is not None:
        label = unet.config["projection_class_embeddings_input_dim"]
        predictor, half = (MeanPredictor(label, *shape[:2], mean.hidden) for _ in range(2))
        components["mean_predictor"] = predictor
    stored = {"text_encoder": TEXT_ENCODER} if recipe.words else {}
    model = Pipeline(config, components, runtime, folders=stored)
    states = encoded(model, pictures, folder / "states.safetensors", recipe.fit.micro_batch_threads, monitor)
    conditions = Conditions(model, dataset, recipe.chinese) if recipe.words else None
    own = len(pictures) if conditions is None else dataset.own
    order = batches(own, recipe.fit.batch_size, recipe.fit.seed)
    if mean is not None:
        rows, place = np.arange(own), folder / "mean_predictor"
        learn_mean(recipe, mean.fit, predictor, states, conditions, rows, place, monitor)
        short = replace(mean.fit, steps=-(-mean.fit.steps // 2))  # as often through half of the pictures
        learn_mean(recipe, short, half, states, conditions, rows[::2], folder / "mean_predictor-half", monitor)

    def batch(k: int) -> tuple[Tensor, dict[str, Tensor]]:
        chosen, rng = order(k), np.random.default_rng([recipe.fit.seed, k])
        if conditions is None:
            return states[torch.from_numpy(chosen)].float(), {}
        painted = dataset.in_other_colours(chosen, recipe.recolour, rng)
        x0, condition = states[torch.from_numpy(painted)].float(), conditions(painted, rng)
        if mean is not None:
            unseen = runtime.array((chosen % 2 == 1) & (rng.random(len(chosen)) < 2 * mean.unseen))
            label = condition["label"].to(runtime.device)
            with torch.no_grad():
                condition["concat"] = torch.where(unseen[:, None, None, None], half(label), predictor(label))
        return x0, condition

    def weight(t: diffusion.NoiseLevel, form: diffusion.Parametrization) -> Tensor:
        # the loss of flow matching, |velocity error|^2 = |x_0 error|^2 / sigma^2 (JiT, 2511.13720), with a cap as in
        # min-SNR: without it the last faint noise would have most of the loss
        return torch.clip(t.sigma**-2, max=recipe.weight) / form.factor(t)

    def loss(batch: tuple[Tensor, dict[str, Tensor]], generator: torch.Generator) -> Tensor:
        x0, condition = batch
        times = diffusion.uniform_times if model.vae is None else diffusion.logit_normal()  # SD 3, 2403.03206
        return model.denoiser.loss(x0, condition, weight=weight, times=times, generator=generator)

    def preview(network: nn.Module, step: int) -> np.ndarray:
        styles = config.styles or [""]
        words = PREVIEW if recipe.words else [""] * len(PREVIEW)
        prompts = [word for word in words for _ in styles]
        made = model.sample(prompts, [s or None for s in styles * len(words)], range(len(prompts)))
        return image_grid(made[..., :3], len(styles) if len(styles) > 1 else len(words))

    fit(unet, loss, batch, folder, recipe.fit, preview, model.save, folder / "model", monitor)
    return model


def learn_mean(
    recipe: Recipe,
    settings: Settings,
    predictor: MeanPredictor,
    states: Tensor,
    conditions: "Conditions",
    rows: np.ndarray,
    folder: Path,
    monitor: Monitor,
) -> None:
    """Trains a mean predictor, or goes on with it, on these of the data's own pictures and their recoloured forms."""
    order = batches(len(rows), settings.batch_size, settings.seed)

    def batch(k: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([settings.seed, k])
        chosen = conditions.dataset.in_other_colours(rows[order(k)], recipe.recolour, rng)
        return states[torch.from_numpy(chosen)].float(), conditions.label(chosen, rng)[0]

    def loss(batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
        x0, label = batch
        return nn.functional.mse_loss(predictor(label), x0)

    fit(predictor, loss, batch, folder, settings, monitor=monitor)


def network(recipe: Recipe, config: Config, shape: tuple[int, int, int], text: TextCodec | None) -> dict[str, Any]:
    """The U-Net's configuration: what the recipe says, and what follows from the rest of it."""
    channels, side, _ = shape
    seen = channels * (1 + (recipe.mean_predictor is not None))
    follows: dict[str, Any] = {"sample_size": side, "in_channels": seen, "out_channels": channels}
    if text is None:
        follows["cross_attention_dim"] = None
    else:
        width = text.config["output"]
        follows |= {
            "cross_attention_dim": width,
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": width + len(config.styles),
        }
    if twice := sorted(follows.keys() & recipe.network.keys()):
        raise UserError(f"[network] {', '.join(twice)}: it follows from the rest of the recipe; leave it out")
    return follows | recipe.network


def encoded(
    model: Pipeline, pictures: np.ndarray, file: Path, threads: int = 1, monitor: Monitor = CONSOLE
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
    return cached_states(file, {"pictures": content, "autoencoder": fingerprint(model.vae)}, encode)


def cached_states(file: Path, facts: dict[str, str], make: Callable[[], Tensor]) -> Tensor:
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

    def __init__(self, model: Pipeline, dataset: Captioned, chinese: float) -> None:
        self.model, self.dataset, self.share = model, dataset, chinese
        self.encoded: dict[str, tuple[Tensor, Tensor]] = {}  # the states of each text, once it has been met
        self.style = torch.eye(len(model.config.styles))[[model.config.styles.index(s) for s in dataset.style]]

    def label(self, chosen: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Pooled texts beside styles, (N, D + styles), and the texts."""
        lot = rng.random(len(chosen))
        texts = [
            ""
            if silent
            else str(rng.choice((self.dataset.chinese if rng.random() < self.share else self.dataset.english)[i]))
            for i, silent in zip(chosen, lot < 0.15, strict=True)
        ]
        self.encode(texts)
        with_style = torch.from_numpy((lot >= 0.1) & ((lot < 0.15) | (lot >= 0.25)))
        style = self.style[torch.from_numpy(chosen)] * with_style[:, None]
        return torch.cat([torch.stack([self.encoded[text][1] for text in texts]), style], dim=1), texts

    def __call__(self, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        label, texts = self.label(chosen, rng)
        states = [self.encoded[text][0] for text in texts]
        lengths = torch.tensor([len(s) for s in states])
        return {
            "context": nn.utils.rnn.pad_sequence(states, batch_first=True),
            "context_mask": torch.arange(int(lengths.max())) < lengths[:, None],
            "label": label,
        }

    def encode(self, texts: Sequence[str]) -> None:
        """Encodes what was not met before, and keeps it."""
        if new := sorted(set(texts) - self.encoded.keys()):
            found = self.model.encode_prompt(new)
            for i, text in enumerate(new):
                state, pooled = found["context"][i][found["context_mask"][i]], found["pooled"][i]
                self.encoded[text] = torch.from_numpy(state), torch.from_numpy(pooled)


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
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGBA")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
            monitor.tell(Note(f"skipped {path}: {error}"))
            continue
        white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        found.append(np.asarray(ImageOps.fit(white, (size, size), Image.Resampling.LANCZOS)))
    if not found:
        raise UserError(f"{folder}: no pictures there ({', '.join(sorted(SUFFIXES))})")
    return np.stack(found)
