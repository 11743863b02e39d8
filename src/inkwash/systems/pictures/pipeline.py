"""Pictures from words: a model's components, and what draws with them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from inkwash import diffusion
from inkwash.codecs import latents, pixels
from inkwash.codecs.pixels import on_white
from inkwash.codecs.png import GeneratedImage
from inkwash.diffusion.arrays import linear_combination, namespace, no_grad, numpy
from inkwash.errors import UserError, unknown
from inkwash.systems.base import check_text, is_blank, resolve
from inkwash.systems.pictures import distance_fields, model, runtimes, synonyms, training_pictures
from inkwash.systems.pictures.data import (
    InitImage,
    Source,
    laid_on_white,
    load_image,
    load_mask,
    same_shape,
    source_facts,
)
from inkwash.systems.pictures.formats import Drawing
from inkwash.systems.pictures.model import SAMPLERS, SCHEDULES, TUNED, Component, Config, read_config, read_index
from inkwash.systems.pictures.prompts import Weighted, emphasise, piece_weights, spell_emoji, unknown_tokens, weigh
from inkwash.systems.pictures.request import FRAMES, check_guidance, check_prompt, check_tags, hex_colors
from inkwash.systems.pictures.synonyms import rename
from inkwash.systems.pictures.training_pictures import Nearest, TrainingPictures
from inkwash.systems.pictures.upsampler import FACTOR, Upsampler
from inkwash.systems.tune import tuned
from inkwash.training.tune import Problem
from inkwash.version import __version__
from inkwash.weights.files import save_json
from inkwash.weights.shipped import locate
from inkwash.weights.shipped import reference as reference_name

if TYPE_CHECKING:
    from inkwash.systems.report import Report

MAX_STEPS, MAX_IMAGES, MAX_SIZE = 1000, 1000, 4096


def preview_hook(steps: int, count: int, show: Callable[[Any], None]) -> Callable[..., None]:
    """A hook that changes nothing: it calls `show` with the clean prediction, so many times, evenly spaced."""
    preview_steps = {round(steps * k / (count + 1)) for k in range(1, count + 1)} - {0, steps}
    done = 0

    def hook(step: diffusion.StepResult, noise: Any) -> None:
        nonlocal done
        done += 1
        if done in preview_steps:
            show(step.prediction.x0)

    return hook


def mixed(first: Problem, second: Problem, weight: float) -> Problem:
    """The problem whose prediction is (1 - weight) x that of the first + weight x that of the second."""

    def denoise(x: Any, t: Any, _: Any) -> Any:
        a, b = (problem.denoise(x, t, problem.condition) for problem in (first, second))
        return a._replace(x0=linear_combination([a.x0, b.x0], [1 - weight, weight]))

    return first._replace(denoise=denoise)


def time_grid(process: diffusion.Gaussian, name: str, steps: int, start: float = 1.0) -> diffusion.Grid:
    """The times of so many steps from noise to data; from `start` on, in the place of the first, the share of them
    that lies below it."""
    if name == "uniform":
        even: diffusion.Grid = diffusion.uniform(process, max(1, round(steps * start)), start)
        return even
    grid: diffusion.Grid = model.GRIDS[name](process, steps)
    return grid if start == 1 else diffusion.Grid(process, (start, *(t for t in grid.times[1:] if t < start)))


class Pipeline:
    """A model of pictures.

    >>> emoji = inkwash.load("emoji")
    >>> emoji.generate("a red fox", style="flat", seed=7)

    components  unet; vae, text_encoder, mean_predictor and upsampler, where the model has them. Another may be put
                in the place of one: `emoji.components["vae"] = other`
    runtime     `runtimes.Torch` or `runtimes.Onnx`: what computes them
    folder      where the model lies, if it does
    folders     where components lie that are stored already
    training_pictures  those of a model of distance fields, by which its pictures name the nearest
    synonyms    other words for what it learned by name, see `synonyms.py`
    """

    def __init__(
        self,
        config: Config,
        components: Mapping[str, Any],
        runtime: runtimes.Torch | runtimes.Onnx | None = None,
        folder: Path | None = None,
        folders: Mapping[str, Path] | None = None,
        training_pictures: TrainingPictures | None = None,
        synonyms: Mapping[str, str] | None = None,
    ) -> None:
        self.config, self.components, self.folder = config, dict(components), folder
        self.synonyms = synonyms or {}
        self.runtime, self.training_pictures = runtime or runtimes.Torch(), training_pictures
        self._stored = {name: (self.components[name], path) for name, path in (folders or {}).items()}
        self._hash: dict[frozenset[str], str] = {}  # by the components that lie where they were loaded from
        self.check()

    @classmethod
    def load(
        cls,
        name: str | Path,
        device: str = "cpu",
        precision: str = "float32",
        runtime: str | None = None,
        threads: int | None = None,
        **components: Any,
    ) -> Pipeline:
        """From a shipped name or a folder; precision: what the U-Net computes in, float32 or bfloat16.

        components: what stands in the place of the model's own, or beside them, a folder or an object of torch:
        `load("emoji", vae="my/vae")`. UserError, in one line, for what is missing, broken, or does not fit.
        """
        folder = locate(name)
        config, index = read_config(folder), read_index(folder)
        if unknown_names := sorted(components.keys() - model.DEFAULT_CLASSES.keys()):
            raise unknown("component", unknown_names[0], model.DEFAULT_CLASSES)
        paths = {key: Path(value) for key, value in components.items() if isinstance(value, str | Path)}
        objects = {key: value for key, value in components.items() if key not in paths}
        kinds = model.DEFAULT_CLASSES | {key: component.kind for key, component in index.items()}
        index |= {key: Component(kinds[key], path) for key, path in paths.items()}
        index = {key: component for key, component in index.items() if key not in objects}
        folders = {key: component.folder for key, component in index.items()}
        runtime = runtime or ("torch" if objects else None)
        backend = runtimes.choose(folders.values(), device, precision, runtime, threads)
        loaded = {key: backend.load(*component) for key, component in index.items()}
        if isinstance(backend, runtimes.Torch):
            objects = {key: value and backend.place(value) for key, value in objects.items()}
        pictures, other_words = training_pictures.load(folder), synonyms.load(folder)
        return cls(config, loaded | objects, backend, folder, folders, pictures, other_words)

    def save(self, folder: str | Path) -> None:
        """Writes system.json, model_index.json, and each component into the folder of its name, weights in float16.

        Of one that is a shipped model's, not this one's own, only where it lies. By torch alone.
        """
        folder, index, home = Path(folder), {}, self.folder or Path(folder)
        shared = {name: path for name, path in self.folders.items() if path != home / name and model.is_shipped(path)}
        for name, component in self.components.items():
            kind = runtimes.kind_of(component)
            index[name] = Component(kind, shared.get(name, folder / name))
            if name not in shared:
                resolve(runtimes.KINDS[kind].save)(component, folder / name)
        model.write_index(folder, index)
        if self.training_pictures is not None:
            training_pictures.save(self.training_pictures, folder)
        if self.synonyms:
            synonyms.save(self.synonyms, folder)
        save_json(folder / "system.json", asdict(self.config))

    @property
    def folders(self) -> dict[str, Path]:
        """Where components lie that are those which were stored there."""
        return {name: path for name, (stored, path) in self._stored.items() if self.components.get(name) is stored}

    def check(self) -> None:
        """UserError for components whose sizes do not fit together."""
        unet, mean, prefix = self.unet.config, self.mean_predictor, self.name or "the model"
        shape, label = self.shape, unet.get("projection_class_embeddings_input_dim")
        in_channels = shape[0] * (1 + self.config.reference) + (mean.config["channels"] if mean else 0)
        if (unet["in_channels"], unet["out_channels"]) != (in_channels, shape[0]):
            codec = "the autoencoder" if self.vae else f"patch = {self.config.patch} in system.json"
            raise UserError(
                f"{prefix}: {codec} does not fit the U-Net: its states have {shape[0]} channels, the U-Net's "
                f"{unet['out_channels']}"
            )
        if mean and (mean.config["label"], mean.config["size"]) != (label, shape[1]):
            raise UserError(f"{prefix}: the mean predictor does not fit the U-Net's label, or the size of its states")
        if unet.get("class_embed_type") != "projection":
            return
        if self.text_encoder is None:
            raise UserError(f"{prefix}: a U-Net of words, and no text encoder in {model.INDEX}")
        if self.text_encoder.config["output"] != unet["cross_attention_dim"]:
            raise UserError(
                f"{prefix}: the text encoder gives {self.text_encoder.config['output']} numbers for a word, the "
                f"U-Net takes {unet['cross_attention_dim']}"
            )
        if unet["cross_attention_dim"] + len(self.config.styles) != label:
            raise UserError(f"{prefix}: the styles in system.json are not as many as the network was trained on")

    @property
    def unet(self) -> Any:
        return self.components["unet"]

    @property
    def vae(self) -> Any:
        return self.components.get("vae")

    @property
    def text_encoder(self) -> Any:
        return self.components.get("text_encoder")

    @property
    def mean_predictor(self) -> Any:
        return self.components.get("mean_predictor")

    @property
    def upsampler(self) -> Upsampler | None:
        unet = self.components.get("upsampler")
        return None if unet is None else Upsampler(unet, self.runtime)

    @property
    def has_opacity(self) -> bool:
        """Whether pictures are decoded with their opacity."""
        return self.config.distance_field or (self.vae is not None and self.vae.config["out_channels"] % 4 == 0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one state: channels, rows, columns."""
        return model.state_shape(self.config, self.vae and self.vae.config)

    @property
    def name(self) -> str | None:
        """What recipes and reports call this model: see `reference`."""
        return None if self.folder is None else reference_name(self.folder)

    @property
    def hash(self) -> str | None:
        """SHA-256 of the weights as they lie on disk (`model.weights_hash`); None where one does not lie there."""
        hashed, folders = frozenset(self.components.keys() & set(model.HASHED)), self.folders
        if not hashed <= folders.keys():
            return None
        if hashed not in self._hash:
            self._hash[hashed] = model.weights_hash(folders)
        return self._hash[hashed]

    @property
    def denoiser(self) -> diffusion.Denoiser:
        process = diffusion.Gaussian(SCHEDULES[self.config.schedule]())
        return diffusion.Denoiser(self.unet, process, self.config.parametrization)

    def encode_prompt(self, prompts: list[str]) -> dict[str, np.ndarray]:
        """The states of the prompts: see `TextCodec.encode`."""
        states = self.text_encoder.encode(prompts, self.runtime.array)
        return {key: numpy(value) for key, value in states.items()}

    def encode(self, pictures: np.ndarray) -> Any:
        """uint8 (N, size, size, 3), or 4 with straight alpha -> states (N, *shape)."""
        if self.config.distance_field:
            images, size = map(Image.fromarray, pictures), self.config.size
            fields = np.stack([distance_fields.from_picture(image, size) for image in images])
            return self.runtime.array(distance_fields.to_state(fields, self.config.patch))
        if self.vae is not None:
            return latents.encode(self.vae, pictures, self.runtime.array)
        return self.runtime.array(pixels.encode(on_white(pictures), self.config.patch))

    def decode(self, state: Any, size: int | None = None) -> np.ndarray:
        """States -> uint8 (N, size, size, 3), on white; or 4 with the opacity, where the model knows it.

        size: of the picture, its own if left out; others are for distance fields alone.
        """
        if self.config.distance_field:
            return distance_fields.draw(self.fields(state), size or self.config.picture_size)
        if self.vae is not None:
            return latents.decode(self.vae, state)
        return pixels.decode(numpy(state), self.config.patch)

    def fields(self, state: Any) -> np.ndarray:
        """States of a model of distance fields -> those fields, (N, size, size), in their pixels."""
        return distance_fields.from_state(numpy(state), self.config.patch)

    def nearest(self, picture: np.ndarray | Source) -> Nearest | None:
        """The training picture that a drawing of one colour is most like: a field (side, side), or a square picture.

        None for one without a shape. Raises UserError for a model that has no list of its training pictures.
        """
        if self.training_pictures is None:
            raise UserError(f"the model {self.name or ''} has no list of its training pictures; take one of icons")
        if not isinstance(picture, np.ndarray):
            picture = distance_fields.from_picture(distance_fields.load_drawing(picture))
        return self.training_pictures.nearest(picture)

    @overload
    def generate(self, prompt: str = "", *, n: None = None, to: None = None, **options: Any) -> GeneratedImage: ...

    @overload
    def generate(self, prompt: str = "", *, n: int, **options: Any) -> list[GeneratedImage]: ...

    @overload
    def generate(
        self, prompt: str = "", *, n: int | None = None, to: str, **options: Any
    ) -> list[GeneratedImage]: ...

    def generate(  # type: ignore[misc]  # the options of the overloads are these
        self,
        prompt: str = "",
        *,
        n: int | None = None,
        style: str | None = None,
        seed: int | None = None,
        to: str | None = None,
        negative: str = "",
        sampler: str | None = None,
        steps: int | None = None,
        grid: str | None = None,
        guidance: float | None = None,
        size: int | None = None,
        transparent: bool = False,
        weight: float | None = None,
        colors: str | None = None,
        image: Source | None = None,
        strength: float | None = None,
        mask: Source | None = None,
        outpaint: float | None = None,
        like: Source | None = None,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Image.Image], None] | None = None,
        previews: int = 3,
    ) -> GeneratedImage | list[GeneratedImage]:
        """A picture from words; a list of them when `n` is given, with the seeds seed, seed + 1, ... A model that
        was trained without words takes no prompt.

        style: one of `config.styles`, or None for any. seed: drawn at random unless given. size: in pixels; the model
        draws pictures of `config.size`, its upsampler of four times that; another size is such a picture resized.
        Distance fields have edges as sharp at every size, and are never on white. transparent: without the white
        behind the subject. What made it is in `picture.info`, and in the PNG that `picture.save` writes: `inkwash
        again` makes it anew.
        weight: of an icon's strokes, in units of which it has 24 a side; its style's if left out. Shapes without
        strokes, as of filled styles, grow and shrink as those of 2 do. colors: of the ink of an icon, "#0F62FE" or
        "teal". The SVG of an icon is `picture.svg`, and what `picture.save("rocket.svg")` writes.
        like: a picture of one colour, PNG or SVG, to draw alike in the style, with words or without; for models that
        learned it.
        image: a file or picture to begin from; strength: how much of it may change, 0 to 1 (0.6 if not given). mask:
        only where it is white is the image drawn anew. outpaint: the image is made smaller, and drawn on beyond its
        edges for so much of the side. With an image the prompt may be empty.
        to: n pictures (8 if not given) from the prompt to this one, see `interpolate`.
        progress: called with (steps done, steps in all). preview: called on the way, `previews` times if there are
        so many steps, with what the model then takes for the picture. Raises UserError for what cannot be asked for.
        """
        self.check()  # a component may have been put in the place of another
        check_guidance(guidance, prompt, negative, style, like is not None, to)
        init = self.init_image(image, strength, mask, outpaint)
        if self.text_encoder is None:
            given = {"prompt": prompt or None, "to": to, "negative": negative or None, "guidance": guidance}
            for name, value in given.items():
                if value not in (None, self.config.guidance):  # which recipes have
                    raise UserError(f"{name} means nothing with a model without words: leave it out")
        elif init is None and like is None:
            check_prompt(prompt)
        if to is not None:
            check_prompt(to)
            if init is not None:
                raise UserError("image means nothing with to, which goes from words to words: leave it out")
        n, least = (n, 1) if to is None else (FRAMES if n is None else n, 2)
        if n is not None and not least <= n <= MAX_IMAGES:
            raise UserError(f"n = {n}: choose a number of pictures from {least} to {MAX_IMAGES}")
        if like is not None and not self.config.reference:
            raise UserError(f"like: the model {self.name or ''} draws from words alone; take one of icons")
        seed, size = secrets.randbelow(2**32) if seed is None else seed, size or self.config.picture_size
        seeds = [seed + i if to is None else seed for i in range(n or 1)]
        if not 0 <= seed <= seeds[-1] < 2**64:
            raise UserError(f"seed = {seed}: choose a whole number from 0 to 2^64 - {len(set(seeds))}")
        if not 8 <= size <= MAX_SIZE:
            raise UserError(f"size = {size}: choose a number of pixels from 8 to {MAX_SIZE}")
        if transparent and not self.has_opacity:
            raise UserError(f"transparent: the model {self.name or ''} knows no opacity; leave it out")
        level, color = self.level_of(style, weight), self.ink_of(colors)
        stays = init is not None and (init.partial or init.strength == 0)
        if stays and (weight is not None or colors is not None):
            raise UserError("weight and colors are of a whole icon, not of one that stays in part: leave them out")
        reference = (
            None
            if like is None
            else self.encode(np.asarray(distance_fields.load_drawing(like).convert("RGBA"))[None])
        )
        transparent, pictures = transparent or self.config.distance_field, []
        # each alone: no picture depends, not even in its last bit, on its neighbours
        for i, seed in enumerate(seeds):

            def on_step(done: int, steps: int, done_before: int = i) -> None:
                if progress is not None:
                    progress(done_before * steps + done, (n or 1) * steps)

            options = {"negative": negative, "sampler": sampler, "steps": steps, "grid": grid, "guidance": guidance}
            states: list[Any] = []
            decoded = self.sample(
                [prompt],
                [style],
                [seed],
                towards=None if to is None else (to, i / (len(seeds) - 1)),
                **options,
                init=init,
                reference=reference,
                size=size,
                progress=on_step,
                on_end=states.append,
                preview=None if preview is None else lambda x: preview(Image.fromarray(x[0, ..., :3])),
                previews=previews,
            )
            if size > self.config.picture_size and self.upsampler is not None:
                decoded = self.upsampler.sample(decoded, [seed])
                decoded = decoded if init is None else init.composite(decoded)
            picture = Image.fromarray((latents.cut_out(decoded) if transparent else decoded[..., :3])[0])
            if size != picture.width:
                picture = picture.resize((size, size), Image.Resampling.LANCZOS)
            picture = picture if init is None else init.keep(picture)
            drawing = None
            if self.config.distance_field and not stays:  # what stays of an image is pixels
                drawing = Drawing(self.fields(states[0])[0], level, color)
                picture = drawing.picture(size)
            recipe = {
                "system": "pictures",
                "verb": "generate",
                "model": self.name,
                "hash": self.hash,
                "prompt": prompt,
                "negative": negative,
                "style": style,
                "seed": seed,
                "sampler": sampler or model.default_sampler(self.config, init is not None and init.partial),
                "steps": self.config.steps if steps is None else steps,
                "grid": None if sampler == TUNED else grid or "uniform",
                "guidance": self.config.guidance if guidance is None else guidance,
                "image": source_facts(image),
                "mask": source_facts(mask),
                "strength": None if init is None else init.strength,
                "like": source_facts(like),
                "outpaint": outpaint,
                "size": size,
                "transparent": transparent,
                "weight": weight,
                "colors": colors,
                "runtime": self.runtime.name,
                "device": str(self.runtime.device or "cpu"),
                "precision": self.runtime.precision,
                "threads": self.runtime.threads,
                "version": __version__,
            }
            recipe |= {} if to is None else {"to": to, "n": n, "frame": i}
            if self.training_pictures is not None and states:  # none where nothing of an image may change
                nearest = self.nearest(self.fields(states[0])[0])
                recipe |= {} if nearest is None else {"nearest": nearest._asdict()}
            pictures.append(GeneratedImage(picture, recipe, drawing))
        return pictures[0] if n is None else pictures

    def level_of(self, style: str | None, weight: float | None) -> float:
        """The level of fields at which strokes have this weight. UserError for one that they do not hold."""
        if weight is None:
            return 0.0
        if not self.config.distance_field:
            raise UserError(
                f"weight: the model {self.name or ''} draws no icons, whose strokes have one: leave it out"
            )
        name = "" if style is None else self.config.style_aliases.get(style, style)
        own = self.config.stroke_widths.get(name, model.STROKE_WIDTH)
        from inkwash.systems.pictures.tracing import level_for_weight

        return level_for_weight(weight, own, self.config.size)

    def ink_of(self, colors: str | None) -> str | None:
        """The colour of this list, as "#rrggbb". UserError for more than the model has."""
        if colors is None:
            return None
        if not self.config.distance_field:
            raise UserError(f"colors: the model {self.name or ''} has its own: leave them out")
        color, *more = hex_colors(colors)
        if more:
            raise UserError(f"colors: the model draws in 1 colour, {1 + len(more)} are given: leave the others out")
        return color

    def init_image(
        self, image: Source | None, strength: float | None, mask: Source | None, outpaint: float | None
    ) -> InitImage | None:
        """What these arguments of `generate` say to begin from. UserError for what does not go together."""
        if image is None:
            if any(value is not None for value in (strength, mask, outpaint)):
                raise UserError("strength, mask and outpaint need an image to begin from")
            return None
        if mask is not None and outpaint is not None:
            raise UserError("give a mask or outpaint, not both: outpaint is the mask of what lies beyond the image")
        if outpaint is not None and not 0 < outpaint <= 0.45:
            raise UserError(f"outpaint = {outpaint}: choose a fraction of the side from 0 to 0.45")
        if strength is None:
            strength = model.default_strength(mask is not None)
        if not 0 <= strength <= 1:
            raise UserError(f"strength = {strength}: choose a number from 0 (no change) to 1 (everything)")
        init = InitImage(load_image(image), strength, None if mask is None else load_mask(mask), outpaint)
        if init.mask is not None:
            (width, height), (of_width, of_height) = init.mask.size, init.image.size
            if width != height and not same_shape(init.mask.size, init.image.size):
                raise UserError(
                    f"the mask has {width} x {height} pixels, the image {of_width} x {of_height}: give a mask of the "
                    "image's shape, or a square one for the square that is drawn"
                )
            if init.mask.getextrema() == (0, 0):
                raise UserError("the mask is black everywhere: make white what shall be drawn anew")
        init.box(self.config.picture_size)  # says what cannot be fitted
        return init

    def condition(
        self, prompts: Sequence[str], styles: Sequence[str | None], reference: Any = None
    ) -> dict[str, Any]:
        """What the network is told for each picture: token states, their mask, and pooled text beside the style; the
        mean prediction, and the state (N, *shape) of a reference, zeros for none."""
        style = np.zeros((len(styles), len(self.config.styles)), np.float32)
        for row, name in zip(style, styles, strict=True):
            if name is not None:
                name = self.config.style_aliases.get(name, name)
                if name not in self.config.styles:
                    raise unknown("style", name, [*self.config.style_aliases, *self.config.styles])
                row[self.config.styles.index(name)] = 1
        if self.text_encoder is None:
            return {}
        weighted = [self.weighted(prompt) for prompt in prompts]
        plain = ["" if each.unconditional else each.text for each in weighted]
        states = self.encode_prompt([*plain, ""])
        context, mask, pooled = states["context"], states["context_mask"], states["pooled"]
        uncond = context[-1][mask[-1]].mean(0)
        for i, (text, each) in enumerate(zip(plain, weighted, strict=True)):
            if text and (each.weights != 1).any():
                piece_weight = piece_weights(self.text_encoder.tokenizer.encode(text).offsets, each.weights)
                piece_weight = np.pad(piece_weight, (0, len(mask[i]) - len(piece_weight)), constant_values=1.0)
                context[i], pooled[i] = emphasise(context[i], mask[i], uncond, piece_weight)
        label = np.concatenate([pooled[:-1], style], axis=1)
        arrays = {"context": context[:-1], "context_mask": mask[:-1], "label": label}
        condition = {key: self.runtime.array(value) for key, value in arrays.items()}
        concat = []  # once for all steps
        if self.mean_predictor is not None:
            with no_grad(condition["label"]):
                concat.append(self.mean_predictor(condition["label"]))
        if self.config.reference:
            none = np.zeros((len(prompts), *self.shape), np.float32)
            concat.append(self.runtime.array(none if reference is None else numpy(reference)))
        if concat:
            condition["concat"] = namespace(concat[0]).concatenate(concat, axis=1)
        return condition

    def weighted(self, prompt: str) -> Weighted:
        """What a prompt says with what weight, by the name that the model learned where all of it has one weight."""
        weighted = weigh(spell_emoji(prompt))
        name = rename(weighted.text, self.synonyms)
        if name == weighted.text or len({*weighted.weights.tolist()}) > 1:
            return weighted
        return weighted._replace(text=name, weights=np.full(len(name), weighted.weights[0]))

    def unknown_tokens(self, prompt: str) -> tuple[list[str], bool]:
        """What of a prompt the text encoder does not know, and whether it knows no word of it."""
        weighted = self.weighted(prompt)
        unknown, any_word = unknown_tokens(weighted.text, self.text_encoder.tokenizer)
        return unknown, not any_word and not weighted.unconditional and not is_blank(prompt)

    def prompt_warning(self, prompt: str) -> str | None:
        """What of a prompt the model cannot use, in one line; None if that is nothing, or all, which is refused."""
        if self.text_encoder is None or is_blank(prompt):
            return None
        text, _, unmatched = self.weighted(prompt)
        unknown, nothing_known = self.unknown_tokens(prompt)
        if nothing_known:
            return None
        notes = []
        if text != (typed := weigh(spell_emoji(prompt)).text):
            notes.append(f"'{typed}' is drawn as '{text}', the name by which the model learned it")
        if unmatched:
            notes.append(f"'{' '.join(unmatched)}' in the prompt has no fellow, so it is text and weighs nothing")
        if unknown:
            notes.append(f"the model does not know {', '.join(unknown)[:60]}; it uses the rest")
        encoding = self.text_encoder.tokenizer.encode(text)
        if encoding.overflowing:
            end = max(end for _, end in encoding.offsets)
            notes.append(f"the prompt is long: what follows '{text[:end][-30:]}' is cut off")
        return "; ".join(notes) or None

    def sample(
        self,
        prompts: Sequence[str],
        styles: Sequence[str | None],
        seeds: Sequence[int],
        *,
        init: InitImage | None = None,
        size: int | None = None,
        preview: Callable[[np.ndarray], None] | None = None,
        on_end: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Pictures on white, uint8 (N, size, size, 3), or 4 with their opacity where the model knows it.

        size: of distance fields, see `decode`. preview: called on the way with the clean prediction as pictures.
        on_end: called with the states before they are decoded. options: those of `sample_states`.
        """
        if init is not None and init.strength == 0 and options.get("sampler") != TUNED:
            return laid_on_white(init.canvas(size or self.config.picture_size))[None].repeat(len(seeds), 0)

        def composite(state: Any) -> np.ndarray:
            decoded = self.decode(state, size)
            return decoded if init is None else init.composite(decoded)

        shown = None if preview is None else lambda state: preview(composite(state))
        state = self.sample_states(prompts, styles, seeds, init=init, preview=shown, **options)
        if on_end is not None:
            on_end(state)
        with self.runtime.autocast():
            return composite(state)

    def sample_states(
        self,
        prompts: Sequence[str],
        styles: Sequence[str | None],
        seeds: Sequence[int],
        *,
        towards: tuple[str, float] | None = None,
        negative: str = "",
        sampler: str | None = None,
        steps: int | None = None,
        grid: str | None = None,
        guidance: float | None = None,
        init: InitImage | None = None,
        reference: Any = None,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Any], None] | None = None,
        previews: int = 3,
    ) -> Any:
        """The states (N, *shape) that these arguments make.

        Guidance pushes from "no words, no style" (or from the negative prompt) towards what is asked; the
        clean prediction is clipped to the range of pixels. towards: another prompt and its weight w, from 0 to 1: the
        prediction is (1 - w) x that of `prompts` + w x that of this one, both guided. reference: the state of a
        picture to draw alike, (N, *shape). preview: called `previews` times on the way, evenly spaced, with the clean
        prediction. Raises UserError for what the model does not know.
        """
        config = self.config
        sampler = sampler or model.default_sampler(config, init is not None and init.partial)
        steps = config.steps if steps is None else steps
        if sampler not in [*SAMPLERS, TUNED]:
            raise unknown("sampler", sampler, [*SAMPLERS, TUNED])
        if grid is not None and grid not in model.GRIDS:
            raise unknown("grid", grid, model.GRIDS)
        if not 1 <= steps <= MAX_STEPS:
            raise UserError(
                f"steps = {steps}: choose a whole number from 1 to {MAX_STEPS} ({config.steps} is the default)"
            )
        options: dict[str, Any] = {"negative": negative, "guidance": guidance, "reference": reference}
        problem = self.problem_of(prompts, styles, seeds, **options)
        if towards is not None:
            other = self.problem_of([towards[0]] * len(prompts), styles, seeds, **options)
            problem = mixed(problem, other, towards[1])
        process, solver = self.denoiser.process, SAMPLERS.get(sampler)
        if solver is None:
            if init is not None:
                raise UserError("sampler tuned: its times begin at noise alone; choose another with an image")
            if grid is not None:
                raise UserError("grid means nothing with the sampler tuned, which has learned its own: leave it out")
            solver, times = tuned(self.folder, self.hash, steps, process)
        else:
            times = time_grid(process, grid or "uniform", steps, 1.0 if init is None else init.strength)

        hooks = [] if preview is None else [preview_hook(len(times) - 1, previews, preview)]
        with self.runtime.autocast():
            initial = {} if init is None else self.prepare_latents(problem, init, times)
            hooks += initial.pop("hooks", [])
            return problem.sample(solver, times, hooks=hooks, progress=progress, **initial)

    def prepare_latents(self, problem: Problem, init: InitImage, grid: diffusion.Grid) -> dict[str, Any]:
        """What the driver is told of a picture to begin from: its state noised to the grid's first time, and the hook
        that puts back at each step what the mask keeps."""
        process = self.denoiser.process
        size = self.config.picture_size
        picture = init.canvas(size)
        if init.outpaint is not None and not self.has_opacity:  # others begin transparent
            (picture,) = init.composite(init.background(size)[None, ..., :3])
        x0 = numpy(self.encode(picture[None])).repeat(len(problem.seeds), 0)
        noise = diffusion.Noise(problem.seeds, self.shape, "start").normal()
        x = self.runtime.array(process.noise(x0, grid[0], noise).astype(np.float32))
        if not init.partial:
            return {"x": x}
        side = size // self.shape[1]
        redrawn = init.region(size).reshape(self.shape[1], side, self.shape[2], side).max((1, 3)) > 0
        return {
            "x": x,
            "hooks": [diffusion.known_region(process, self.runtime.array(x0), self.runtime.array(~redrawn))],
        }

    def interpolate(self, first: str, second: str, n: int = FRAMES, **options: Any) -> list[GeneratedImage]:
        """n pictures from one prompt to another, all from the same noise; options: those of `generate`, but for an
        image to begin from.

        The prediction is (1 - w) x that of the first + w x that of the second, w from 0 to 1, both guided: at the
        ends it is exactly that of each prompt. Raises UserError for fewer than two.
        """
        return self.generate(first, to=second, n=n, **options)

    def problem_of(
        self,
        prompts: Sequence[str],
        styles: Sequence[str | None],
        seeds: Sequence[int],
        *,
        negative: str = "",
        guidance: float | None = None,
        reference: Any = None,
    ) -> Problem:
        """What the core is asked to sample for these prompts, styles and seeds: see `sample`."""
        config, n = self.config, len(prompts)
        guidance = config.guidance if guidance is None else guidance
        if not 0 <= guidance <= 30:
            raise UserError(f"guidance = {guidance}: choose a number from 0 to 30 ({config.guidance} is the default)")
        for text in (*prompts, negative):
            check_text("a prompt", text)
            check_tags(text)
        if self.text_encoder is not None:
            for name, text in (*(("the prompt", prompt) for prompt in prompts), ("negative", negative)):
                if self.unknown_tokens(text)[1]:
                    raise UserError(
                        f"{name} {text[:40]!r}: the model knows nothing of it; use English or Chinese words"
                    )
            if not is_blank(negative) and guidance == 1:
                raise UserError("negative: it acts through guidance, which is 1 here: choose more, or leave it out")
        self.check()
        if reference is not None:  # guidance pushes from none
            reference = np.concatenate([numpy(reference), np.zeros((1, *self.shape), np.float32)])
        conditions = self.condition([*prompts, negative], [*styles, None], reference)
        condition = {key: value[:n] for key, value in conditions.items()}
        denoise: Any = self.denoiser
        if conditions:
            uncond = {key: value[n:] for key, value in conditions.items()}
            denoise = diffusion.classifier_free(denoise, guidance, uncond, config.guidance_interval)
        if self.vae is None:  # pixels have a range, latents have none
            denoise = diffusion.static_threshold(denoise)
        return Problem(denoise, self.shape, seeds, condition or None, self.runtime.device)

    def evaluate(
        self,
        data: Path,
        out: Path,
        *,
        split: str = "test",
        per_row: int = 300,
        seed: int = 0,
        size: int | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """The report of evaluate.py's protocol on the emoji data set in `data`, or of evaluate_icons.py's on icons;
        its pictures are written to `out`.

        size: the model's own, or that of its upsampler. Raises UserError for a model without words, and for data or
        a scoring network that is not there.
        """
        from inkwash.systems.pictures import emoji_data, evaluate

        if self.text_encoder is None:
            raise UserError("a model without words cannot be measured: only one of emoji or icons can")
        sizes = [self.config.picture_size, *([FACTOR * self.config.size] if self.upsampler is not None else [])]
        if (size or sizes[0]) not in sizes:
            raise UserError(f"size = {size}: this model can be measured at {' and '.join(map(str, sizes))}")

        def upscaled(pictures: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
            if size in (None, self.config.size) or self.upsampler is None:
                return pictures[..., :3]
            return self.upsampler.sample(pictures, seeds)[..., :3]

        def generate(prompts: list[str], style: str, seeds: list[int]) -> np.ndarray:
            options: dict[str, Any] = {"sampler": sampler, "guidance": guidance, "steps": steps}
            return upscaled(self.sample(prompts, [style] * len(prompts), seeds, **options), seeds)

        def mean(prompts: list[str], style: str, seeds: list[int]) -> np.ndarray:
            return upscaled(self.decode(self.condition(prompts, [style] * len(prompts))["concat"]), seeds)

        options: dict[str, Any] = {"split": split, "per_row": per_row, "seed": seed, "progress": progress}
        if self.config.distance_field:
            report = self._evaluate_icons(
                data, out, {"sampler": sampler, "guidance": guidance, "steps": steps}, options
            )
        else:
            mean_of = None if self.mean_predictor is None else mean
            pictures = emoji_data.load(data, size=size or self.config.size)
            report = evaluate.evaluate(generate, self.encode_prompt, pictures, out, **options, mean=mean_of)
        model_facts = {
            "name": self.name,
            "sha256": self.hash,
            "sampler": sampler or self.config.sampler,
            "steps": steps or self.config.steps,
            "guidance": self.config.guidance if guidance is None else guidance,
            "size": size or self.config.size,
        }
        return replace(report, model=model_facts)

    def _evaluate_icons(
        self, data: Path, out: Path, sampling: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Report:
        from inkwash.systems.pictures import evaluate_icons, icons_data

        def references(fields: np.ndarray | None) -> np.ndarray | None:
            return None if fields is None else distance_fields.to_state(fields, self.config.patch)

        def fields(prompts: list[str], styles: list[str], seeds: list[int], shown: np.ndarray | None) -> np.ndarray:
            # a name that means nothing to the model is a miss, not the end
            prompts = ["" if self.unknown_tokens(prompt)[1] else prompt for prompt in prompts]
            return self.fields(self.sample_states(prompts, styles, seeds, reference=references(shown), **sampling))

        def mean(prompts: list[str], styles: list[str], *_: Any) -> np.ndarray:
            return self.fields(self.condition(prompts, styles)["concat"][:, : self.shape[0]])

        icons, size = icons_data.load(data), self.config.size
        return evaluate_icons.evaluate(fields, self.encode_prompt, icons, size, out, **options, mean=mean)

    def problem(self, request: Any, data: Path | None) -> tuple[Problem, diffusion.Grid]:
        """What `tune` learns few steps for: prompts of the validation split of its data set, in 100 steps.

        Raises UserError for a model without words, and for data that are not there.
        """
        from inkwash.systems.pictures import emoji_data, icons_data

        if self.text_encoder is None:
            raise UserError("a model without words cannot be tuned: only one of emoji or icons can")
        source: Any = icons_data if self.config.distance_field else emoji_data
        data_set = source.load(data or source.FOLDER)
        held_out = np.flatnonzero(data_set.split == "validation")
        rows = np.random.default_rng(request.seed).permutation(held_out)[: request.samples]
        seeds = range(request.seed, request.seed + len(rows))
        problem = self.problem_of(data_set.name[rows].tolist(), data_set.style[rows].tolist(), seeds)
        return problem, diffusion.uniform(self.denoiser.process, 100)
