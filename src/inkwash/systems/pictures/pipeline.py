"""Pictures from words, whatever computes the networks: torch (model.py) or the ONNX runtime (onnx.py)."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from PIL import Image

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.codecs.pixels import on_white
from inkwash.codecs.png import GeneratedImage
from inkwash.diffusion.arrays import linear_combination, numpy
from inkwash.errors import UserError, unknown
from inkwash.systems.pictures.data import Source, framed, read_mask, read_picture, told
from inkwash.systems.pictures.prompts import emphasise, piece_weights, weigh
from inkwash.systems.pictures.upsampler import FACTOR, Upsampler
from inkwash.systems.tune import tuned
from inkwash.training.tune import Task
from inkwash.version import __version__
from inkwash.weights.files import digest
from inkwash.weights.shipped import HERE, describe, locate, shipped

if TYPE_CHECKING:
    from inkwash.systems.report import Report

SCHEDULES = {name: make for name, make in diffusion.SCHEDULES.items() if name != "betas"}  # of options with defaults
OTHERS = {"unmask", "ddim_inversion", "repaint", "annealed_langevin"}  # for tokens, or for other grids
SAMPLERS = {name: walk for name, walk in diffusion.SAMPLERS.items() if name not in OTHERS}
WEIGHTS = "diffusion_pytorch_model.safetensors"
FILES = {"unet": WEIGHTS, "vae": WEIGHTS, "upsampler": WEIGHTS, "sketch": "model.safetensors"}  # of each network
PRECISIONS = ("float32", "bfloat16")
MOST_STEPS, MOST_PICTURES, MOST_PIXELS = 1000, 1000, 4096
TEXT_ENCODER = HERE / "text-encoder"
TUNED = "tuned"  # the sampler of learned tables


@dataclass(frozen=True)
class Config:
    """What system.json, or [model] in a recipe, says: how a model is trained, and how it is best sampled.

    `guidance_above`: only times t above it are guided; what is still open below are details, in which guidance would
    amplify mistakes (Kynkäänniemi et al. 2024, 2404.07724), and the network is called for one picture, not two.
    `base`: the model, a shipped one or a folder, whose other networks stand around this model's own U-Net.
    `limits`: by option, what the model was not taught; see `systems.base.Limit`.

    Raises UserError for a name that does not exist, or a patch that does not divide the size.
    """

    size: int = 64
    patch: int = 4
    schedule: str = "rectified_flow"
    parametrization: str = "x0"
    styles: list[str] = field(default_factory=list)
    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: float = 3.0
    guidance_above: float = 0.0
    base: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    system: str = "pictures"

    def __post_init__(self) -> None:
        parametrizations = diffusion.PARAMETRIZATIONS
        for kind, table in (("schedule", SCHEDULES), ("sampler", SAMPLERS), ("parametrization", parametrizations)):
            if getattr(self, kind) not in table:
                raise unknown(kind, str(getattr(self, kind)), table)
        end = SCHEDULES[self.schedule]().at(1.0)
        if end.alpha == 0 and parametrizations[self.parametrization].factor(end) == 0:
            raise UserError(
                f"parametrization = {self.parametrization}: at the end of {self.schedule} is noise alone; take v"
            )
        if not 0 <= self.guidance_above <= 1:
            raise UserError(f"guidance_above = {self.guidance_above}: choose a time from 0 to 1")
        if self.patch < 1 or self.size < 1 or self.size % self.patch:
            raise UserError(f"size = {self.size} is no multiple of patch = {self.patch}")


def read_config(folder: Path) -> Config:
    """What system.json in the folder says. UserError for one of another system, or with keys unknown here."""
    facts = describe(folder)
    if facts.get("system") != "pictures" or not set(facts) <= {f.name for f in fields(Config)}:
        raise UserError(f"{folder / 'system.json'}: not a model of pictures that this version can read")
    return Config(**facts)  # type: ignore[arg-type]


def part(folder: Path, info: Config, name: str) -> Path | None:
    """The folder of one of a model's networks, its own or its base's; None if there is none."""
    places = [folder / name, *([locate(info.base) / name] if info.base else [])]
    return next((place for place in places if place.exists()), None)


def knows_opacity(vae: Path | None) -> bool:
    """Whether this autoencoder, if there is one, decodes to pictures with their opacity."""
    if vae is None:
        return False
    return int(json.loads((vae / "config.json").read_text(encoding="utf-8"))["out_channels"]) % 4 == 0


def text_encoder(folder: Path, info: Config) -> Path:
    """The model's own, or the one that ships for all."""
    return part(folder, info, "text_encoder") or TEXT_ENCODER


class Start(NamedTuple):
    """A picture to begin from: uint8 (size, size, 4), straight alpha.

    strength  the time to which it is noised, 0 to 1: how much of it may change (SDEdit, 2108.01073)
    mask      float (size, size): 1 where it is drawn anew, 0 where it stays to the pixel; None for everywhere
    """

    picture: np.ndarray
    strength: float
    mask: np.ndarray | None = None


def watch(steps: int, times: int, show: Callable[[Any], None]) -> Callable[..., None]:
    """A hook that changes nothing: it calls `show` with the clean prediction, so many times, evenly spaced."""
    wanted = {round(steps * k / (times + 1)) for k in range(1, times + 1)} - {0, steps}
    done = 0

    def hook(step: diffusion.StepResult, noise: Any) -> None:
        nonlocal done
        done += 1
        if done in wanted:
            show(step.prediction.x0)

    return hook


class Pipeline:
    """What draws: the words, the walk, the files. Subclasses bring the networks.

    network    (x, time, **condition) -> the U-Net's answer, on arrays of the runtime's own kind
    sketched   label -> its sketch, for a U-Net that is shown one; None for others
    precision  what the networks compute in
    runtime    its name and version
    """

    info: Config
    folder: Path | None
    network: Callable[..., Any]
    sketched: Callable[[Any], Any] | None = None
    upsampler: Upsampler | None
    precision: str = "float32"
    runtime: str
    device: Any = None  # of torch; None for NumPy arrays
    tokenizer: Any
    has_words: bool
    has_opacity: bool
    in_latents: bool

    def words(self, prompts: list[str]) -> Mapping[str, Any]:
        """The states of the prompts, as NumPy arrays: see `TextCodec.encode`."""
        raise NotImplementedError

    def array(self, x: np.ndarray) -> Any:
        """A NumPy array as the runtime's own kind."""
        raise NotImplementedError

    def encode(self, pictures: np.ndarray) -> Any:
        """uint8 (N, size, size, 3), or 4 with straight alpha -> states (N, *shape)."""
        raise NotImplementedError

    def decode(self, state: Any) -> np.ndarray:
        """States -> uint8 (N, size, size, 3), on white; or 4 with the opacity, where the autoencoder knows it."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one state: channels, rows, columns."""
        raise NotImplementedError

    @property
    def threads(self) -> int:
        raise NotImplementedError

    def computing(self) -> AbstractContextManager[Any]:
        """What the networks run within."""
        return nullcontext()

    @cached_property
    def denoiser(self) -> diffusion.Denoiser:
        process = diffusion.Gaussian(SCHEDULES[self.info.schedule]())
        return diffusion.Denoiser(self.network, process, self.info.parametrization)

    @overload
    def generate(self, prompt: str, *, n: None = None, **options: Any) -> Image.Image: ...

    @overload
    def generate(self, prompt: str, *, n: int, **options: Any) -> list[Image.Image]: ...

    def generate(
        self,
        prompt: str,
        *,
        n: int | None = None,
        style: str | None = None,
        seed: int | None = None,
        negative: str = "",
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        transparent: bool = False,
        image: Source | None = None,
        strength: float | None = None,
        mask: Source | None = None,
        border: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Image.Image], None] | None = None,
        previews: int = 3,
    ) -> Image.Image | list[Image.Image]:
        """A picture from words; a list of them when `n` is given, with the seeds seed, seed + 1, ...

        style: one of `info.styles`, or None for any. seed: drawn at random unless given. size: in pixels; the model
        draws pictures of `info.size`, its upsampler of four times that; another size is such a picture resized.
        transparent: without the white behind the subject. What made it is in `picture.info`, and in the PNG
        that `picture.save` writes: `inkwash again` makes it anew.
        image: a file or picture to begin from; strength: how much of it may change, 0 to 1 (0.6 if not given). mask:
        only where it is white is the image drawn anew. border: the image is made smaller, and drawn on beyond its
        edges for so much of the side. With an image the prompt may be empty.
        progress: called with (steps done, steps in all). preview: called on the way, `previews` times if there are
        so many steps, with what the model then takes for the picture. Raises UserError for what cannot be asked for.
        """
        start = self.start(image, strength, mask, border)
        if self.has_words and not prompt.strip() and start is None:
            raise UserError("the prompt is empty: say in a few words what the picture shows")
        if n is not None and not 1 <= n <= MOST_PICTURES:
            raise UserError(f"n = {n}: choose a number of pictures from 1 to {MOST_PICTURES}")
        seed, size = secrets.randbelow(2**32) if seed is None else seed, size or self.info.size
        if not 0 <= seed <= 2**64 - (n or 1):
            raise UserError(f"seed = {seed}: choose a whole number from 0 to 2^64 - {n or 1}")
        if not 8 <= size <= MOST_PIXELS:
            raise UserError(f"size = {size}: choose a number of pixels from 8 to {MOST_PIXELS}")
        if transparent and not self.has_opacity:
            raise UserError(f"transparent: the model {self.name or ''} knows no opacity; leave it out")
        pictures = []
        for i in range(n or 1):  # each alone: a picture never depends, not even in its last bit, on its neighbours

            def report(done: int, steps: int, before: int = i) -> None:
                if progress is not None:
                    progress(before * steps + done, (n or 1) * steps)

            options = {"negative": negative, "sampler": sampler, "steps": steps, "guidance": guidance}
            drawn = self.draw(
                [prompt],
                [style],
                [seed + i],
                **options,  # type: ignore[arg-type]
                start=start,
                progress=report,
                preview=None if preview is None else lambda x: preview(Image.fromarray(x[0, ..., :3])),
                previews=previews,
            )
            if size > self.info.size and self.upsampler is not None:
                drawn = self.upsampler.sample(drawn, [seed + i])
            picture = Image.fromarray((latents.cut_out(drawn) if transparent else drawn[..., :3])[0])
            if size != picture.width:
                picture = picture.resize((size, size), Image.Resampling.LANCZOS)
            recipe = {
                "system": "pictures",
                "verb": "generate",
                "model": self.name,
                "hash": self.hash,
                "prompt": prompt,
                "negative": negative,
                "style": style,
                "seed": seed + i,
                "sampler": sampler or self.usual(start),
                "steps": self.info.steps if steps is None else steps,
                "guidance": self.info.guidance if guidance is None else guidance,
                "image": told(image),
                "mask": told(mask),
                "strength": None if start is None else start.strength,
                "border": border,
                "size": size,
                "transparent": transparent,
                "runtime": self.runtime,
                "device": str(self.device or "cpu"),
                "precision": self.precision,
                "threads": self.threads,
                "version": __version__,
            }
            pictures.append(GeneratedImage(picture, recipe))
        return pictures[0] if n is None else pictures

    def start(
        self, image: Source | None, strength: float | None, mask: Source | None, border: float | None
    ) -> Start | None:
        """What these arguments of `generate` say to begin from. UserError for what does not go together."""
        if image is None:
            if any(value is not None for value in (strength, mask, border)):
                raise UserError("strength, mask and border need an image to begin from")
            return None
        if mask is not None and border is not None:
            raise UserError("give a mask or a border, not both: a border is the mask of what lies beyond the image")
        picture, where = read_picture(image, self.info.size), None
        if mask is not None:
            where = read_mask(mask, self.info.size)
            if not where.any():
                raise UserError("the mask is black everywhere: make white what shall be drawn anew")
        if border is not None:
            picture, where = framed(picture, border)
        strength = (0.6 if where is None else 1.0) if strength is None else strength
        if not 0 <= strength <= 1:
            raise UserError(f"strength = {strength}: choose a number from 0 (no change) to 1 (everything)")
        return Start(picture, strength, where)

    def usual(self, start: Start | None) -> str:
        """The sampler if none is asked for: new noise at each step lets a filled part grow together with the rest."""
        return self.info.sampler if start is None or start.mask is None else "ancestral"

    @property
    def name(self) -> str | None:
        """The shipped name, or the folder, that leads back to this model."""
        if self.folder is None:
            return None
        return self.folder.name if self.folder in shipped().values() else str(self.folder.resolve())

    @cached_property
    def hash(self) -> str | None:
        """SHA-256 of the U-Net's weights as they lie on disk, together with the others' where there are any.

        None for a model that was not loaded from there.
        """
        if self.folder is None:
            return None
        places = {part(self.folder, self.info, name): file for name, file in FILES.items()}
        unet, *others = [digest(place / file) for place, file in places.items() if place]
        return hashlib.sha256("".join([unet, *others]).encode()).hexdigest() if others else unet

    def condition(self, prompts: Sequence[str], styles: Sequence[str | None]) -> dict[str, Any]:
        """What the network is told for each picture: token states, their mask, and pooled text beside the style."""
        style = np.zeros((len(styles), len(self.info.styles)), np.float32)
        for row, name in zip(style, styles, strict=True):
            if name is not None:
                if name not in self.info.styles:
                    raise unknown("style", name, self.info.styles)
                row[self.info.styles.index(name)] = 1
        if not self.has_words:
            return {}
        plain, weights = zip(*map(weigh, prompts), strict=True)
        states = self.words([*plain, ""])
        context, mask, pooled = states["context"], states["context_mask"], states["pooled"]
        silence = context[-1][mask[-1]].mean(0)
        for i, (text, weight) in enumerate(zip(plain, weights, strict=True)):
            if (weight != 1).any():
                each = piece_weights(self.tokenizer.encode(text).offsets, weight)
                each = np.pad(each, (0, len(mask[i]) - len(each)), constant_values=1.0)
                context[i], pooled[i] = emphasise(context[i], mask[i], silence, each)
        label = np.concatenate([pooled[:-1], style], axis=1)
        heard = {"context": context[:-1], "context_mask": mask[:-1], "label": label}
        condition = {key: self.array(value) for key, value in heard.items()}
        if self.sketched is not None:  # once for all steps
            condition["concat"] = self.sketched(condition["label"])
        return condition

    def unheard(self, prompt: str) -> str | None:
        """What of a prompt the model cannot know, in one line; None if it hears all of it."""
        if not self.has_words:
            return None
        text = weigh(prompt)[0]
        row = self.tokenizer.encode(text)
        strange = sorted(
            {text[a:b] for (a, b), piece in zip(row.offsets, row.tokens, strict=True) if piece == "[UNK]"}
        )
        if strange:
            return f"the model does not know {', '.join(strange)[:60]}; it hears the rest"
        if row.overflowing:
            return f"the prompt is long: what follows '{text[: max(b for _, b in row.offsets)][-30:]}' is not heard"
        return None

    def sample(
        self, prompts: Sequence[str], styles: Sequence[str | None], seeds: Sequence[int], **options: Any
    ) -> np.ndarray:
        """A picture for each prompt, style and seed, in one batch: uint8 (N, size, size, 3); options as `draw`'s."""
        return self.draw(prompts, styles, seeds, **options)[..., :3]

    def draw(
        self,
        prompts: Sequence[str],
        styles: Sequence[str | None],
        seeds: Sequence[int],
        *,
        negative: str = "",
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        start: Start | None = None,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[np.ndarray], None] | None = None,
        previews: int = 3,
    ) -> np.ndarray:
        """Pictures on white, uint8 (N, size, size, 3), or 4 with their opacity where the model knows it.

        Guidance pushes from "no words, no style" (or from the negative prompt) towards what is asked; the
        clean prediction is clipped to the range of pixels. preview: called `previews` times on the way, evenly
        spaced, with the clean prediction as pictures. Raises UserError for what the model does not know.
        """
        info = self.info
        sampler, steps = sampler or self.usual(start), info.steps if steps is None else steps
        if sampler not in [*SAMPLERS, TUNED]:
            raise unknown("sampler", sampler, [*SAMPLERS, TUNED])
        if not 1 <= steps <= MOST_STEPS:
            raise UserError(f"steps = {steps}: choose a whole number from 1 to {MOST_STEPS} ({info.steps} is usual)")
        task = self.task(prompts, styles, seeds, negative=negative, guidance=guidance)
        grid = diffusion.uniform(self.denoiser.process, steps)
        walk = SAMPLERS.get(sampler)
        if walk is None:
            if start is not None:
                raise UserError("sampler tuned: its times begin at noise alone; choose another with an image")
            walk, grid = tuned(self.folder, self.hash, steps, self.denoiser.process)
        before = None
        if start is not None:
            before = np.concatenate([on_white(start.picture[None]), start.picture[None, ..., 3:]], axis=-1)
            if start.strength == 0:
                return before.repeat(len(seeds), 0)
            grid = diffusion.uniform(
                self.denoiser.process, max(1, round(steps * start.strength)), start=start.strength
            )

        def shown(state: Any) -> np.ndarray:
            drawn = self.decode(state)
            if start is None or start.mask is None:
                return drawn
            where = start.mask[None, ..., None]  # soft edges mix; what is kept is kept to the pixel
            return (where * drawn + (1 - where) * before[..., : drawn.shape[-1]]).round().astype(np.uint8)

        hooks = [] if preview is None else [watch(len(grid) - 1, previews, lambda clean: preview(shown(clean)))]
        with self.computing():
            begun = {} if start is None else self.begin(task, start, grid)
            hooks += begun.pop("hooks", [])
            return shown(task.sample(walk, grid, hooks=hooks, progress=progress, **begun))

    def begin(self, task: Task, start: Start, grid: diffusion.Grid) -> dict[str, Any]:
        """What the driver is told of a picture to begin from: its state noised to the grid's first time, and the hook
        that puts back at each step what the mask keeps."""
        process = self.denoiser.process
        clean = np.asarray(numpy(self.encode(start.picture[None]))).repeat(len(task.seeds), 0)
        noise = diffusion.Noise(task.seeds, self.shape, "start").normal()
        x = self.array(process.noise(clean, grid[0], noise).astype(np.float32))
        if start.mask is None:
            return {"x": x}
        side = self.info.size // self.shape[1]
        redrawn = start.mask.reshape(self.shape[1], side, self.shape[2], side).max((1, 3)) > 0
        return {"x": x, "hooks": [diffusion.known_region(process, self.array(clean), self.array(~redrawn))]}

    def between(
        self,
        first: str,
        second: str,
        n: int,
        *,
        style: str | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """n pictures from one prompt to another, all from the same noise.

        The prediction is (1 - w) x that of the first + w x that of the second, w from 0 to 1, both guided: at the
        ends it is exactly that of each prompt. Raises UserError for fewer than two.
        """
        if not 2 <= n <= MOST_PICTURES:
            raise UserError(f"n = {n}: choose a number of pictures from 2 to {MOST_PICTURES}")
        one, other = (self.task([prompt], [style], [seed]) for prompt in (first, second))
        grid, frames = diffusion.uniform(self.denoiser.process, self.info.steps), []
        for k in range(n):
            w = k / (n - 1)

            def mixed(x: Any, t: Any, _: Any, w: float = w) -> Any:
                a, b = (task.denoise(x, t, task.condition) for task in (one, other))
                return a._replace(x0=linear_combination([a.x0, b.x0], [1 - w, w]))

            with self.computing():
                state = one._replace(denoise=mixed).sample(SAMPLERS[self.info.sampler], grid)
            recipe = {
                "model": self.name,
                "hash": self.hash,
                "from": first,
                "to": second,
                "style": style,
                "seed": seed,
            }
            recipe |= {"place": k, "of": n, "version": __version__}
            frames.append(GeneratedImage(Image.fromarray(self.decode(state)[0, ..., :3]), recipe))
            if progress is not None:
                progress(k + 1, n)
        return frames

    def task(
        self,
        prompts: Sequence[str],
        styles: Sequence[str | None],
        seeds: Sequence[int],
        *,
        negative: str = "",
        guidance: float | None = None,
    ) -> Task:
        """What the core is asked to sample for these prompts, styles and seeds: see `sample`."""
        info, n = self.info, len(prompts)
        guidance = info.guidance if guidance is None else guidance
        if not 0 <= guidance <= 30:
            raise UserError(f"guidance = {guidance}: choose a number from 0 to 30 ({info.guidance} is usual)")
        both = self.condition([*prompts, negative], [*styles, None])
        condition = {key: value[:n] for key, value in both.items()}
        denoise: Any = self.denoiser
        if both:
            uncond = {key: value[n:] for key, value in both.items()}
            denoise = diffusion.classifier_free(denoise, guidance, uncond, (info.guidance_above, 1.0))
        if not self.in_latents:  # pixels have a range, latents have none
            denoise = diffusion.static_threshold(denoise)
        return Task(denoise, self.shape, seeds, condition or None, self.device)

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
        """The report of evaluate.py's protocol on the emoji data set in `data`; its pictures are written to `out`.

        size: the model's own, or that of its upsampler. Raises UserError for a model without words, and for data or
        a scoring network that is not there.
        """
        from inkwash.systems.pictures import emoji_data, evaluate

        if not self.has_words:
            raise UserError("a model without words cannot be measured: only one trained on the emoji data can")
        sizes = [self.info.size, *([FACTOR * self.info.size] if self.upsampler is not None else [])]
        if (size or self.info.size) not in sizes:
            raise UserError(f"size = {size}: this model can be measured at {' and '.join(map(str, sizes))}")

        def shown(drawn: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
            if size in (None, self.info.size) or self.upsampler is None:
                return drawn[..., :3]
            return self.upsampler.sample(drawn, seeds)[..., :3]

        def generate(prompts: list[str], style: str, seeds: list[int]) -> np.ndarray:
            options: dict[str, Any] = {"sampler": sampler, "guidance": guidance, "steps": steps}
            return shown(self.draw(prompts, [style] * len(prompts), seeds, **options), seeds)

        def sketch(prompts: list[str], style: str, seeds: list[int]) -> np.ndarray:
            return shown(self.decode(self.condition(prompts, [style] * len(prompts))["concat"]), seeds)

        report = evaluate.evaluate(
            generate,
            self.words,
            emoji_data.load(data, size=size or self.info.size),
            out,
            split=split,
            per_row=per_row,
            seed=seed,
            cache=out / "cache",
            progress=progress,
            sketch=None if self.sketched is None else sketch,
        )
        how = {
            "name": self.name,
            "sha256": self.hash,
            "sampler": sampler or self.info.sampler,
            "steps": steps or self.info.steps,
            "guidance": self.info.guidance if guidance is None else guidance,
            "size": size or self.info.size,
        }
        return replace(report, model=how)

    def problem(self, request: Any, data: Path | None) -> tuple[Task, diffusion.Grid]:
        """What `tune` learns few steps for: prompts of the validation split of the emoji data set, in 100 steps.

        Raises UserError for a model without words, and for data that are not there.
        """
        from inkwash.systems.pictures import emoji_data

        if not self.has_words:
            raise UserError("a model without words cannot be tuned: only one trained on the emoji data can")
        emoji = emoji_data.load(data or emoji_data.FOLDER)
        held_out = np.flatnonzero(emoji.split == "validation")
        rows = np.random.default_rng(request.seed).permutation(held_out)[: request.samples]
        seeds = range(request.seed, request.seed + len(rows))
        task = self.task(emoji.name[rows].tolist(), emoji.style[rows].tolist(), seeds)
        return task, diffusion.uniform(self.denoiser.process, 100)
