"""Training of a picture model: on the emoji data set with words and styles, or on any folder of pictures."""

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt
from torch import Tensor, nn

from inkwash import diffusion
from inkwash.codecs import pixels
from inkwash.codecs.pixels import on_white
from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.unet import UNet
from inkwash.progress import CONSOLE, Monitor, Note, Progress
from inkwash.systems.pictures import emoji_data, synonyms
from inkwash.systems.pictures.conditions import Captioned, Conditions, captioned
from inkwash.systems.pictures.data import image_grid
from inkwash.systems.pictures.folder import Folder, check_captions, describe_captions, read_folder, split_by_content
from inkwash.systems.pictures.model import Config, autoencoder_folder, state_shape
from inkwash.systems.pictures.networks import MeanPredictor, save_mean_predictor
from inkwash.systems.pictures.phrases import caption_kinds
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.pictures.recognition import unit_names
from inkwash.systems.pictures.runtimes import Torch
from inkwash.training import distributed
from inkwash.training.build import build
from inkwash.training.data import batches, whole_batches
from inkwash.training.fit import fit
from inkwash.training.placement import place
from inkwash.training.recipe import Share, Width
from inkwash.training.settings import Settings
from inkwash.weights.files import load_tensors, save_tensors
from inkwash.weights.shipped import TEXT_ENCODER

PREVIEW = ["fox", "red apple", "smiling face", "blue car", "sunflower", "house with garden", "pizza", "blue whale"]


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

    data         a folder: the emoji data set (`inkwash data emoji`), or pictures of one's own
    words        whether captions and styles are learned too
    folder       how pictures of one's own are read; none are without it but where words = false
    mean_predictor  how the mean of what the words alone suggest is learned, if the U-Net is shown it
    autoencoder  the folder of an image autoencoder, to learn its latents instead of pixels
    pretrained   a model of pictures to go on from, a shipped name or a folder: its U-Net and its mean predictor
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
    folder: Folder | None = None
    mean_predictor: MeanPrediction | None = None
    autoencoder: Path | None = None
    pretrained: Path | None = None
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
    stored = {"text_encoder": TEXT_ENCODER} if recipe.words else {}
    if recipe.autoencoder is not None:
        stored["vae"] = autoencoder_folder(recipe.autoencoder, monitor)
        components["vae"] = runtime.load("AutoencoderKL", stored["vae"])
    if recipe.words:
        components["text_encoder"] = runtime.load("TextCodec", TEXT_ENCODER)
    own = recipe.folder or (None if recipe.words else Folder())
    if own is not None:
        if recipe.recolour or recipe.chinese:
            raise UserError("recolour and chinese are of the emoji data set: leave them out")
        dataset, rows = captioned_folder(recipe, own, components.get("text_encoder"), monitor)
        recipe = replace(recipe, recolour=0.5 * own.flip)
    else:
        emoji = emoji_data.load(recipe.data, size=config.size)
        config = replace(config, styles=sorted(set(emoji.style.tolist())))
        dataset = captioned(emoji, recipe.recolour)
        rows = np.arange(dataset.n_originals)
    pictures, held_out = dataset.pictures, dataset.held_out
    shape = state_shape(config, components["vae"].config if recipe.autoencoder else None)
    keys = unet_config(recipe.network, config, shape, int(mean is not None), components.get("text_encoder"))
    unet = components["unet"] = build(partial(UNet, **keys), recipe.network)
    if mean is not None:
        label = unet.config["projection_class_embeddings_input_dim"]
        predictor, half = (MeanPredictor(label, *shape[:2], mean.hidden) for _ in range(2))
        components["mean_predictor"] = predictor
    if recipe.pretrained is not None:
        load_pretrained(components, recipe.pretrained)
    model = Pipeline(config, components, runtime, folders=stored)
    if own is None:
        model.synonyms = synonyms_of(emoji, model)
    states = encode_states(model, pictures, folder / "states.safetensors", recipe.fit.micro_batch_threads, monitor)
    states = place(states, runtime.device)
    conditions = Conditions(model, dataset, recipe.chinese) if recipe.words else None
    if mean is not None and conditions is not None:
        train_mean_predictors(
            mean, recipe.fit, partial(clean, states), conditions, (predictor, half), rows, model, folder, monitor,
            preview_words(recipe, dataset), recipe.recolour,
        )  # fmt: skip
    order, denoiser = batches(len(rows), recipe.fit.batch_size, recipe.fit.seed), model.denoiser

    def batch(k: int) -> dict[str, np.ndarray]:
        chosen, rng = rows[order(k)], np.random.default_rng([recipe.fit.seed, k])
        shown = dataset.swap_recoloured(chosen, recipe.recolour, rng)
        drawn = {"rows": shown, **({} if conditions is None else conditions.draw(shown, rng))}
        if mean is not None:
            drawn["unseen"] = (chosen % 2 == 1) & (rng.random(len(chosen)) < 2 * mean.unseen)
        return drawn

    def loss(batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0, condition = clean(states, batch["rows"]), {} if conditions is None else conditions(batch)
        if mean is not None:
            with torch.no_grad():
                concat = predictor(condition["label"])
                if "unseen" in batch:
                    concat = torch.where(batch["unseen"][:, None, None, None], half(condition["label"]), concat)
            condition["concat"] = concat
        times = diffusion.uniform_times if model.vae is None else diffusion.logit_normal()  # SD 3, 2403.03206
        weight = capped_weight(recipe.weight)
        return denoiser.loss(x0, condition, weight=weight, times=times, generator=generator)

    words = preview_words(recipe, dataset)
    fit(
        unet, loss, batch, folder, recipe.fit, lambda *_: preview(model, words), model.save, folder / "model",
        monitor, held_out=held_out_batches(held_out, conditions, recipe.fit.batch_size),
    )  # fmt: skip
    return model


def synonyms_of(emoji: emoji_data.Emoji, model: Pipeline) -> dict[str, str]:
    """The tags of what is learned, in both languages, and words for kinds of it, by its names."""
    names: dict[str, list[str]] = {}
    for row in np.flatnonzero(emoji.split == "train").tolist():
        names.setdefault(str(emoji.name[row]), [*emoji.tags[row], *caption_kinds(emoji, row)])
        names.setdefault(str(emoji.name_zh[row]), emoji.tags_zh[row])
    held_out = {*emoji.name.tolist(), *emoji.name_zh.tolist()} - names.keys()
    return synonyms.build(names, held_out, lambda texts: unit_names(model.encode_prompt, np.array(texts)))


def captioned_folder(
    recipe: Recipe, own: Folder, text_encoder: Any, monitor: Monitor
) -> tuple[Captioned, np.ndarray]:
    """The pictures of a folder, and which of them to learn from. Their mirrored forms, which follow, are drawn as
    recoloured ones are."""
    pictures, captions = read_folder(recipe.data, recipe.model.size, own.resize, monitor)
    rows, held_out = split_by_content(pictures)
    monitor.tell(Note(f"{len(held_out)} of {len(pictures)} pictures are held out: nothing is learned from them"))
    if recipe.words:
        if not any(captions):
            raise UserError(f"{recipe.data}: no captions there (cat.txt beside cat.png): take words = false")
        check_captions(captions, text_encoder.tokenizer, monitor)
        monitor.tell(Note(describe_captions(captions)))
    n, mirrored = len(pictures), [list[int]() for _ in pictures]
    if own.flip:
        pictures, captions = np.concatenate([pictures, pictures[:, :, ::-1]]), captions * 2
        mirrored = [[n + i] for i in range(n)]
    texts = [texts or [""] for texts in captions]
    return Captioned(pictures, texts, texts, [""] * len(pictures), n, mirrored, held_out), rows


def preview_words(recipe: Recipe, dataset: Captioned) -> list[str]:
    """What a preview shows: of a folder the most common captions."""
    if recipe.words and recipe.folder is None:
        return PREVIEW
    counts = Counter(texts[0] for texts in dataset.english)
    common = [text for text, _ in counts.most_common(len(PREVIEW))]
    return [common[i % len(common)] for i in range(len(PREVIEW))]


def load_pretrained(components: dict[str, Any], name: Path) -> None:
    """The weights of another model's U-Net and mean predictor. UserError where it has not the same networks."""
    pretrained = Pipeline.load(name, runtime="torch").components
    for part in ("unet", "mean_predictor"):
        if part in components:
            if part not in pretrained or pretrained[part].config != components[part].config:
                raise UserError(f"pretrained = {name}: its {part} is not of the size that the recipe says")
            components[part].load_state_dict(pretrained[part].state_dict())


def clean(states: Tensor, rows: Tensor) -> Tensor:
    """The states x_0 (B, ...) of these rows of a table: of latents, or of pixels from 0 to 255 as -1 to 1."""
    x0 = states[rows]
    return x0.float() if x0.is_floating_point() else x0.float() / 127.5 - 1


def held_out_batches(rows: np.ndarray, conditions: Conditions | None, batch_size: int) -> list[dict[str, np.ndarray]]:
    """Batches of pictures that nothing is learned from, with their first captions and their styles."""
    parts = whole_batches(rows, batch_size)
    return [{"rows": part, **({} if conditions is None else conditions.plain(part))} for part in parts]


def preview(model: Pipeline, words: list[str] = PREVIEW) -> np.ndarray:
    """Pictures of a few words, a row for each with a column for each style; without words, as they come."""
    prompts, styles, columns = preview_prompts(model, words)
    return image_grid(model.sample(prompts, styles, range(len(prompts)))[..., :3], columns)


def preview_prompts(model: Pipeline, words: list[str]) -> tuple[list[str], list[str | None], int]:
    """Words and styles of the pictures of a preview, and its columns."""
    styles: list[str | None] = [*model.config.styles] or [None]
    prompts = [word for word in words for _ in styles]
    return prompts, styles * len(words), len(styles) if len(styles) > 1 else len(words)


def capped_weight(most: float) -> Callable[[diffusion.NoiseLevel, diffusion.Parametrization], Tensor]:
    """The weight of flow matching, |velocity error|^2 = |x_0 error|^2 / sigma^2 (JiT, 2511.13720), with a cap as in
    min-SNR: without it the last faint noise would have most of the loss."""
    return lambda t, parametrization: torch.clip(t.sigma**-2, max=most) / parametrization.factor(t)


def train_mean_predictors(
    mean: MeanPrediction,
    settings: Settings,
    clean: Callable[[Tensor], Tensor],
    conditions: Conditions,
    predictors: tuple[MeanPredictor, MeanPredictor],
    rows: np.ndarray,
    model: Pipeline,
    folder: Path,
    monitor: Monitor,
    words: list[str],
    recolour: float = 0.0,
) -> None:
    """Trains (or goes on with) the mean predictor on these of the data's own pictures and their recoloured forms, and
    another as often on every second of them; they lie in `folder`.

    clean: the states x_0 of the pictures with these numbers. settings: of the U-Net, whose device and threads they
    share.
    """
    of_all = replace(mean.fit, device=settings.device, threads=settings.threads)
    of_half = replace(of_all, steps=-(-mean.fit.steps // 2))
    parts = [(of_all, rows, "mean_predictor"), (of_half, rows[::2], "mean_predictor-half")]
    for predictor, (own, learned, name) in zip(predictors, parts, strict=True):
        train_mean_predictor(
            own, clean, conditions, predictor, learned, model, folder / name, monitor, words, recolour
        )


def train_mean_predictor(
    settings: Settings,
    clean: Callable[[Tensor], Tensor],
    conditions: Conditions,
    predictor: MeanPredictor,
    rows: np.ndarray,
    model: Pipeline,
    folder: Path,
    monitor: Monitor,
    words: list[str],
    recolour: float,
) -> None:
    """Trains one of them; it lies in `folder`/model."""
    order, dataset = batches(len(rows), settings.batch_size, settings.seed), conditions.dataset

    def batch(k: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([settings.seed, k])
        shown = dataset.swap_recoloured(rows[order(k)], recolour, rng)
        return {"rows": shown, **conditions.draw(shown, rng)}

    def loss(batch: dict[str, Tensor], _: torch.Generator) -> Tensor:
        return nn.functional.mse_loss(predictor(conditions(batch)["label"]), clean(batch["rows"]))

    def preview(*_: Any) -> np.ndarray:
        prompts, styles, columns = preview_prompts(model, words)
        pictures = model.decode(predictor(model.condition(prompts, styles)["label"]))
        return image_grid(pictures[..., :3], columns)

    fit(
        predictor, loss, batch, folder, settings, preview, partial(save_mean_predictor, predictor), folder / "model",
        monitor, held_out=held_out_batches(dataset.held_out, conditions, settings.batch_size),
    )  # fmt: skip


def unet_config(
    network: dict[str, Any], config: Config, shape: tuple[int, int, int], concat: int, text: TextCodec | None
) -> dict[str, Any]:
    """The U-Net's configuration: what a recipe says, and what follows from the rest of it.

    concat: how many states it is shown beside the noisy one.
    """
    channels, side, _ = shape
    in_channels = channels * (1 + concat)
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
    return with_derived(network, derived)


def with_derived(network: dict[str, Any], derived: dict[str, Any]) -> dict[str, Any]:
    """The keys of [network], and those that follow from the rest of a recipe. UserError where both have one."""
    if duplicates := sorted(derived.keys() & network.keys()):
        raise UserError(f"[network] {', '.join(duplicates)}: it follows from the rest of the recipe; leave it out")
    return derived | network


def encode_states(
    model: Pipeline, pictures: np.ndarray, file: Path, threads: int = 1, monitor: Monitor = CONSOLE
) -> Tensor:
    """The states of the pictures, on the CPU. Pixels stay uint8. Latents take minutes, so they are kept in `file`, in
    float16."""
    if model.vae is None:
        return torch.from_numpy(pixels.pixel_unshuffle(on_white(pictures).transpose(0, 3, 1, 2), model.config.patch))

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
    with distributed.leader_first():
        if file.exists():
            tensors, metadata = load_tensors(file)
            if facts.items() <= metadata.items():
                return tensors["states"]
        states = make().half().cpu()
        save_tensors(file, {"states": states}, facts)
        return states


def fingerprint(module: nn.Module) -> str:
    """Tells one set of weights from another."""
    return hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in module.parameters())).hexdigest()
