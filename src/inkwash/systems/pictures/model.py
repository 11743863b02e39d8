"""A model of pictures as it lies in its folder: system.json says how it is trained and sampled, model_index.json, as
diffusers writes it, of which components it is made. Reading them loads no network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from inkwash import diffusion
from inkwash.codecs import latents
from inkwash.errors import UserError, unknown
from inkwash.progress import Monitor, Note
from inkwash.systems.pictures.runtimes import KINDS
from inkwash.weights.files import digest, save_json
from inkwash.weights.shipped import FOLDER, describe, load_json

SCHEDULES = {name: make for name, make in diffusion.SCHEDULES.items() if name != "betas"}  # of options with defaults
NOT_FOR_PICTURES = {"unmask", "ddim_inversion", "repaint", "annealed_langevin"}  # for tokens, or for other grids
SAMPLERS = {name: sampler for name, sampler in diffusion.SAMPLERS.items() if name not in NOT_FOR_PICTURES}
GRIDS = {name: diffusion.GRIDS[name] for name in ("uniform", "karras", "exponential", "beta")}  # of no table
FIELD_PICTURE = 256  # pixels a side of a picture drawn from a distance field, which holds any size
STROKE_WIDTH = 2.0  # units: of styles that do not say theirs, and of the filled, whose whole shape grows and shrinks
TUNED = "tuned"  # the sampler of learned tables
INDEX = "model_index.json"
DEFAULT_CLASSES = {  # of components, and what each is if nothing else is said
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "TextCodec",
    "mean_predictor": "MeanPredictor",
    "upsampler": "UNet2DConditionModel",
}
TRAINED_VAE = Path("runs/autoencoder/vae")  # of `inkwash train autoencoder`
HASHED = ("unet", "vae", "upsampler", "mean_predictor")  # whose weights a model's hash is of, in this order


@dataclass(frozen=True)
class Config:
    """What system.json, or [model] in a recipe, says: how a model is trained, and how it is best sampled.

    `guidance_interval`: only times in it are guided; what is open at lower ones are details, in which guidance would
    amplify mistakes (Kynkäänniemi et al. 2024, 2404.07724), and the network is called for one picture, not two.

    `limits`: by option, what the model was not taught; see `systems.base.Limit`.

    `distance_field`: pictures are drawings of one colour, and states their signed distance fields of `size` pixels.
    `reference`: the network is shown such a field of a picture to draw alike, beside the mean prediction.
    `style_aliases`: other names of styles, by name.
    `stroke_widths`: of their strokes, in units of which an icon has 24 a side; STROKE_WIDTH where it is not said.

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
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    limits: dict[str, Any] = field(default_factory=dict)
    distance_field: bool = False
    reference: bool = False
    style_aliases: dict[str, str] = field(default_factory=dict)
    stroke_widths: dict[str, float] = field(default_factory=dict)
    system: str = "pictures"

    @property
    def picture_size(self) -> int:
        """The side in pixels of a picture as it is decoded."""
        return FIELD_PICTURE if self.distance_field else self.size

    def __post_init__(self) -> None:
        parametrizations = diffusion.PARAMETRIZATIONS
        for kind, valid in (("schedule", SCHEDULES), ("sampler", SAMPLERS), ("parametrization", parametrizations)):
            if getattr(self, kind) not in valid:
                raise unknown(kind, str(getattr(self, kind)), valid)
        end = SCHEDULES[self.schedule]().at(1.0)
        if end.alpha == 0 and parametrizations[self.parametrization].factor(end) == 0:
            raise UserError(
                f"parametrization = {self.parametrization}: at the end of {self.schedule} is noise alone; take v"
            )
        low, high = self.guidance_interval
        if not 0 <= low < high <= 1:
            raise UserError(f"guidance_interval = {low}, {high}: choose two times from 0 to 1, the lower one first")
        for key, most in (("size", 4096), ("patch", 4096), ("steps", 1000)):
            if not 1 <= getattr(self, key) <= most:
                raise UserError(f"{key} = {getattr(self, key)}: choose a whole number from 1 to {most}")
        if not 0 <= self.guidance <= 30:
            raise UserError(f"guidance = {self.guidance}: choose a number from 0 to 30")
        if self.reference and not self.distance_field:
            raise UserError("reference = true: only models of distance fields are shown one; leave it out")
        if self.styles and (strangers := sorted({*self.style_aliases.values()} - {*self.styles})):
            raise unknown("style", strangers[0], self.styles)
        if self.size % self.patch:
            raise UserError(f"size = {self.size} is no multiple of patch = {self.patch}")


def default_sampler(config: Config, masked: bool) -> str:
    """The sampler if none is asked for: new noise at each step lets a filled part grow together with the rest."""
    return "ancestral" if masked else config.sampler


def default_strength(masked: bool) -> float:
    """How much of a picture to begin from may change, if it is not said."""
    return 1.0 if masked else 0.6


def read_config(folder: Path) -> Config:
    """What system.json in the folder says. UserError for one of another system, or with keys unknown here."""
    facts = describe(folder)
    if facts.get("system") != "pictures" or not set(facts) <= {f.name for f in fields(Config)}:
        raise UserError(f"{folder / 'system.json'}: not a model of pictures that this version can read")
    return Config(**facts)


class Component(NamedTuple):
    """A component of a model: its class, as the format names it, and the folder where it lies."""

    kind: str
    folder: Path


def read_index(folder: Path) -> dict[str, Component]:
    """The components of a model, by name: {"unet": ["diffusers", "UNet2DConditionModel"], ...}.

    Each lies in the folder of its name; or where a third entry says, within the shipped models ("emoji/vae"). Raises
    UserError for a file that is missing or broken, and for a class that is not known here.
    """
    file = folder / INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        entries = {name: entry for name, entry in index.items() if isinstance(entry, list)}
        components = {
            name: Component(cls, FOLDER / path[0] if path else folder / name)
            for name, (_, cls, *path) in entries.items()
        }
        components["unet"]
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{file}: broken or missing ({error}); save the model again") from None
    for name, component in components.items():
        if component.kind not in KINDS:
            raise UserError(f"{file}: {name}: {unknown('class', component.kind, KINDS)}")
    return components


def write_index(folder: Path, components: Mapping[str, Component]) -> None:
    """Writes what `read_index` reads."""
    index: dict[str, Any] = {"_class_name": "Pipeline"}
    for name, (cls, path) in components.items():
        index[name] = [KINDS[cls].library, cls]
        if path != folder / name:
            index[name].append(path.relative_to(FOLDER).as_posix())
    save_json(folder / INDEX, index)


def is_shipped(folder: Path) -> bool:
    """Whether a folder comes with the package, so that it is there wherever a model is loaded."""
    return folder.is_relative_to(FOLDER)


def autoencoder_folder(folder: Path, monitor: Monitor) -> Path:
    """Where the autoencoder that a recipe names lies: if it is that of the recipes which ship, and was not trained
    here, in the model that ships. UserError where nothing lies."""
    if folder == TRAINED_VAE and not folder.exists():
        made = "`inkwash train autoencoder` makes one"
        monitor.tell(Note(f"{folder} is not there: the autoencoder of the shipped model is taken; {made}"))
        return FOLDER / "emoji" / "vae"
    if not folder.is_dir():
        raise UserError(f"autoencoder = {folder}: no such folder; train one before, as the head of its recipe says")
    return folder


def weights_hash(folders: Mapping[str, Path]) -> str:
    """SHA-256 of the U-Net's weights as they lie on disk, together with the others' where there are any."""
    unet, *others = (digest(next(folders[name].glob("*.safetensors"))) for name in HASHED if name in folders)
    return hashlib.sha256("".join([unet, *others]).encode()).hexdigest() if others else unet


def state_shape(config: Config, vae: Mapping[str, Any] | None) -> tuple[int, int, int]:
    """Channels, rows and columns of one state: a latent of the autoencoder of this config, or patches of pixels."""
    if vae is not None:
        return latents.state_shape(vae, config.size)
    channels = 1 if config.distance_field else 3
    return channels * config.patch**2, config.size // config.patch, config.size // config.patch


def knows_opacity(folder: Path) -> bool:
    """Whether the model decodes to pictures with their opacity."""
    index = read_index(folder)
    if read_config(folder).distance_field:
        return True
    if "vae" not in index:
        return False
    return int(load_json(index["vae"].folder / "config.json")["out_channels"]) % 4 == 0
