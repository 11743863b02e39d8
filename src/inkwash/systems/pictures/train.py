"""Training of a picture model: on the emoji data set with words and styles, or on any folder of pictures."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt
from PIL import Image, ImageOps
from torch import Tensor, nn

from inkwash import diffusion
from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.unet import UNet
from inkwash.progress import CONSOLE, Monitor, Note, Progress
from inkwash.systems.pictures import colours, emoji_data
from inkwash.systems.pictures.data import image_grid, load_image
from inkwash.systems.pictures.model import Config, state_shape
from inkwash.systems.pictures.networks import MeanPredictor
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.pictures.runtimes import Torch
from inkwash.training.build import build
from inkwash.training.data import batches
from inkwash.training.fit import fit
from inkwash.training.recipe import Share, Width
from inkwash.training.settings import Settings
from inkwash.weights.files import load_tensors, save_tensors
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
    hidden: Width = 1024
    unseen: Share = 0.25


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
    recolour: Share = 0.0
    chinese: Share = 0.0
    weight: Annotated[float, Gt(0)] = 5.0
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
    keys = unet_config(recipe, config, shape, components.get("text_encoder"))
    unet = components["unet"] = build(partial(UNet, **keys), recipe.network)
    if mean is not None:
        label = unet.config["projection_class_embeddings_input_dim"]
        predictor, half = (MeanPredictor(label, *shape[:2], mean.hidden) for _ in range(2))
        components["mean_predictor"] = predictor
    stored = {"text_encoder": TEXT_ENCODER} if recipe.words else {}
    model = Pipeline(config, components, runtime, folders=stored)
    states = encode_states(model, pictures, folder / "states.safetensors", recipe.fit.micro_batch_threads, monitor)
    conditions = Conditions(model, dataset, recipe.chinese) if recipe.words else None
    n_originals = len(pictures) if conditions is None else dataset.n_originals
    order = batches(n_originals, recipe.fit.batch_size, recipe.fit.seed)
    if mean is not None and conditions is not None:
        rows, path = np.arange(n_originals), folder / "mean_predictor"
        train_mean_predictor(recipe, mean.fit, predictor, states, conditions, rows, path, monitor)
        short = replace(mean.fit, steps=-(-mean.fit.steps // 2))  # as often through half of the pictures
        path = folder / "mean_predictor-half"
        train_mean_predictor(recipe, short, half, states, conditions, rows[::2], path, monitor)

    def batch(k: int) -> tuple[Tensor, dict[str, Tensor]]:
        chosen, rng = order(k), np.random.default_rng([recipe.fit.seed, k])
        if conditions is None:
            return states[torch.from_numpy(chosen)].float(), {}
        shown = dataset.swap_recoloured(chosen, recipe.recolour, rng)
        x0, condition = states[torch.from_numpy(shown)].float(), conditions(shown, rng)
        if mean is not None:
            unseen = runtime.array((chosen % 2 == 1) & (rng.random(len(chosen)) < 2 * mean.unseen))
            label = condition["label"].to(runtime.device)
            with torch.no_grad():
                condition["concat"] = torch.where(unseen[:, None, None, None], half(label), predictor(label))
        return x0, condition

    def loss(batch: tuple[Tensor, dict[str, Tensor]], generator: torch.Generator) -> Tensor:
        x0, condition = batch
        times = diffusion.uniform_times if model.vae is None else diffusion.logit_normal()  # SD 3, 2403.03206
        weight = capped_weight(recipe.weight)
        return model.denoiser.loss(x0, condition, weight=weight, times=times, generator=generator)

    fit(unet, loss, batch, folder, recipe.fit, lambda *_: preview(model), model.save, folder / "model", monitor)
    return model


def preview(model: Pipeline) -> np.ndarray:
    """Pictures of a few words, a row for each with a column for each style; without words, as they come."""
    styles: list[str | None] = [*model.config.styles] or [None]
    words = PREVIEW if model.text_encoder is not None else [""] * len(PREVIEW)
    prompts = [word for word in words for _ in styles]
    pictures = model.sample(prompts, styles * len(words), range(len(prompts)))
    return image_grid(pictures[..., :3], len(styles) if len(styles) > 1 else len(words))


def capped_weight(most: float) -> Callable[[diffusion.NoiseLevel, diffusion.Parametrization], Tensor]:
    """The weight of flow matching, |velocity error|^2 = |x_0 error|^2 / sigma^2 (JiT, 2511.13720), with a cap as in
    min-SNR: without it the last faint noise would have most of the loss."""
    return lambda t, parametrization: torch.clip(t.sigma**-2, max=most) / parametrization.factor(t)


def train_mean_predictor(
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
        chosen = conditions.dataset.swap_recoloured(rows[order(k)], recipe.recolour, rng)
        return states[torch.from_numpy(chosen)].float(), conditions.label(chosen, rng)[0]

    def loss(batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
        x0, label = batch
        return nn.functional.mse_loss(predictor(label), x0)

    fit(predictor, loss, batch, folder, settings, monitor=monitor)


def unet_config(
    recipe: Recipe, config: Config, shape: tuple[int, int, int], text: TextCodec | None
) -> dict[str, Any]:
    """The U-Net's configuration: what the recipe says, and what follows from the rest of it."""
    channels, side, _ = shape
    in_channels = channels * (1 + (recipe.mean_predictor is not None))
    derived: dict[str, Any] = {"sample_size": side, "in_channels": in_channels, "out_channels": channels}
    if text is None:
        derived["cross_attention_dim"] = None
    else:
        width = text.config["output"]
        derived |= {
            "cross_attention_dim": width,
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": width + len(config.styles),
        }
    if duplicates := sorted(derived.keys() & recipe.network.keys()):
        raise UserError(f"[network] {', '.join(duplicates)}: it follows from the rest of the recipe; leave it out")
    return derived | recipe.network


def encode_states(
    model: Pipeline, pictures: np.ndarray, file: Path, threads: int = 1, monitor: Monitor = CONSOLE
) -> Tensor:
    """The states of the pictures. Those of an autoencoder take minutes, so they are kept in `file`, in float16."""
    if model.vae is None:
        states: Tensor = model.encode(pictures)
        return states

    def encode() -> Tensor:
        batches, done = np.array_split(pictures, -(-len(pictures) // 256)), []
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            for states in pool.map(model.encode, batches):
                done.append(states)
                monitor.tell(Progress(len(done), len(batches), "pictures become latents"))
        return torch.cat(done)

    content = hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()
    return cached_states(file, {"pictures": content, "autoencoder": fingerprint(model.vae)}, encode)


def cached_states(file: Path, facts: dict[str, str], make: Callable[[], Tensor]) -> Tensor:
    """The states in `file`, if these facts are theirs; else they are made, and kept there in float16."""
    if file.exists():
        tensors, metadata = load_tensors(file)
        if facts.items() <= metadata.items():
            return tensors["states"]
    states = make().half()
    save_tensors(file, {"states": states}, facts)
    return states


def fingerprint(module: nn.Module) -> str:
    """Tells one set of weights from another."""
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest()


@dataclass(frozen=True)
class Captioned:
    """Training pictures with their captions; the first `n_originals` are the data's own, the others recoloured ones.

    recoloured   the numbers of the recoloured forms of each of the data's own
    """

    pictures: np.ndarray
    english: list[list[str]]
    chinese: list[list[str]]
    style: list[str]
    n_originals: int
    recoloured: list[list[int]]

    def caption(self, i: int, chinese: float, rng: np.random.Generator) -> str:
        """One of the captions of picture i; a share of them Chinese."""
        return str(rng.choice((self.chinese if rng.random() < chinese else self.english)[i]))

    def swap_recoloured(self, chosen: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        """The chosen, but of those that have recoloured forms a share is replaced by one of these."""
        swapped = [
            rng.choice(self.recoloured[i]) if self.recoloured[i] and u < share else i
            for i, u in zip(chosen.tolist(), rng.random(len(chosen)), strict=True)
        ]
        return np.array(swapped)


def captioned(emoji: emoji_data.Emoji, recolour: float) -> Captioned:
    """The training split with its captions; if recolour > 0, also each picture in every colour that suits it."""
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(emoji.split == "train")
    pictures, english, chinese, style = list(emoji.pictures[rows]), [], [], emoji.style[rows].tolist()
    captions_of: dict[str, tuple[list[str], list[str]]] = {}
    for row in rows:
        concept = emoji.concept[row]
        if concept not in captions_of:
            captions_of[concept] = (
                captions(str(emoji.name[row]), emoji.tags[row], rng),
                captions_zh(str(emoji.name_zh[row]), emoji.tags_zh[row], rng),
            )
        english.append(captions_of[concept][0])
        chinese.append(captions_of[concept][1])
    recoloured: list[list[int]] = [[] for _ in rows]
    for i, row in enumerate(rows if recolour else []):
        if not colours.recolourable(emoji.group[row], emoji.name[row]):
            continue
        for colour in colours.COLOURS:
            if colours.held_out(str(emoji.concept[row]), colour):
                continue
            recoloured_picture = colours.recolour(emoji.pictures[row], colour)
            if recoloured_picture is not None:
                caption, caption_zh = colours.colour_captions(str(emoji.name[row]), str(emoji.name_zh[row]), colour)
                recoloured[i].append(len(pictures))
                pictures.append(recoloured_picture)
                english.append(articles(caption))
                chinese.append([caption_zh])
                style.append(style[i])
    return Captioned(np.stack(pictures), english, chinese, style, len(rows), recoloured)


class Conditions:
    """What the network is told of training pictures: each time other words for it, and now and then none.

    A caption is the name, the name with an article, with some tags, or tags alone. Of all pictures 10 % lose words
    and style, so that guidance has something to push from, 5 % only words and 10 % only the style.
    """

    def __init__(self, model: Pipeline, dataset: Captioned, chinese: float) -> None:
        self.model, self.dataset, self.chinese = model, dataset, chinese
        self.encoded: dict[str, tuple[Tensor, Tensor]] = {}  # the states of each text, once it has been met
        self.style = torch.eye(len(model.config.styles))[[model.config.styles.index(s) for s in dataset.style]]

    def label(self, chosen: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Pooled texts beside styles, (N, D + styles), and the texts."""
        u = rng.random(len(chosen))
        texts = [
            "" if drop else self.dataset.caption(i, self.chinese, rng)
            for i, drop in zip(chosen, u < 0.15, strict=True)
        ]
        self.encode(texts)
        with_style = torch.from_numpy((u >= 0.1) & ((u < 0.15) | (u >= 0.25)))
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
            states = self.model.encode_prompt(new)
            for i, text in enumerate(new):
                state, pooled = states["context"][i][states["context_mask"][i]], states["pooled"][i]
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
    pictures = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            picture = load_image(path).convert("RGBA")
        except UserError as error:
            monitor.tell(Note(f"skipped {error}"))
            continue
        white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        pictures.append(np.asarray(ImageOps.fit(white, (size, size), Image.Resampling.LANCZOS)))
    if not pictures:
        raise UserError(f"{folder}: no pictures there ({', '.join(sorted(SUFFIXES))})")
    return np.stack(pictures)
