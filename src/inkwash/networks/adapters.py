"""Adapters of Stable Diffusion 1, 2 and XL: LoRA and its kin out of the files of any trainer, and onto the networks.

A file names the layers that it changes as its trainer does, with dots or underscores, as diffusers or as the first
programs name them. Underscores cannot be turned back into dots; so each layer of the live networks is spelled in
every way, and looked up among those.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from inkwash.errors import UserError, unknown
from inkwash.networks.weight_changes import DORA_NORMS, Change, kind_of, rank_of
from inkwash.weights import headers
from inkwash.weights.adapters import adapter_of
from inkwash.weights.families import family_of
from inkwash.weights.files import load_tensors
from inkwash.weights.headers import Header, read_header
from inkwash.weights.scan import describe
from inkwash.weights.single_file import UNET, unet_sources

DRAWN = ("SD 1", "SD 2", "SDXL", "SDXL refiner")
# What stands in a file before a layer's name, by its network; then what does where there is one text encoder only.
PREFIXES = {
    "unet": (
        "lora_unet_",
        "lycoris_",
        "unet.",
        "unet.base_model.model.",
        "diffusion_model.",
        "base_model.model.",
        "",
    ),
    "text_encoder": (
        "lora_te1_",
        "text_encoder.",
        "text_encoder.base_model.model.",
        "text_encoders.clip_l.transformer.",
    ),
    "text_encoder_2": (
        "lora_te2_",
        "text_encoder_2.",
        "text_encoder_2.base_model.model.",
        "text_encoders.clip_g.transformer.",
    ),
}
BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")
ONLY = ("lora_te_", "base_model.model.", "")
# How the name of a tensor ends, after its layer's; the group is the part's name.
ENDING = re.compile(
    r"(?:[._]lora\d?(?:\.linear_layer|_linear_layer)?[._](?P<matrix>down|up|mid|A|B)(?:\.(?!bias\Z)\w+)?(?:\.weight)?"
    r"|\.(?P<peft>lora_magnitude_vector)(?:\.\w+)*"
    r"|\.(?P<part>alpha|dora_scale|diff|diff_b|w_norm|b_norm"
    r"|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)))\Z"
)
PARTS = {"A": "down", "B": "up", "w_norm": "diff", "b_norm": "diff_b"}
# Endings of kinds that are not read.
UNREAD = re.compile(
    r"\.(?:(?P<BOFT>boft_\w+)|(?P<OFT>oft_\w+)|(?P<GLoRA>b2)|(?P<IA3>on_input|ia3_l)|(?P<VeRA>vera_lambda_\w)"
    r"|(?P<AdaLoRA>lora_E|ranknum)|(?P<biases>lora[\w.]*\.bias|bias_indices)|(?P<scalars>scalar))(?:\.\w+)*\Z"
)


class Adapter(NamedTuple):
    """changes: of each layer, by its network's name and its own; matched, total: how many tensors of the file are of
    these layers, and how many there are; notes: what else is to be known, a line each."""

    changes: dict[tuple[str, str], Change]
    matched: int
    total: int
    notes: tuple[str, ...]
    metadata: dict[str, str]


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """Those that have a weight, by their names."""
    modules = network.named_modules()
    return {name: layer for name, layer in modules if isinstance(getattr(layer, "weight", None), Tensor)}


def spellings(component: str, layers: Collection[str]) -> dict[str, str]:
    """The names of a network's layers by each of their spellings, dots as underscores."""
    if component == "unet":
        original = [layer for layer in layers if layer in UNET or layer.startswith(BLOCKS)]
        sources = unet_sources([f"{layer}.weight" for layer in original])
        others = {layer: sources[f"{layer}.weight"].name.removesuffix(".weight") for layer in original}
        # as attention processors of diffusers before 0.22
        older = {layer: re.sub(r"\.(to_[qkv]|to_out)(?:\.0)?$", r".processor.\1", layer) for layer in layers}
    else:
        others = {layer: layer.removeprefix("text_model.") for layer in layers}  # of transformers 5
        older = {layer: re.sub(r"\.(q|k|v|out)_proj$", r".to_\1", layer) for layer in layers}
    pairs = [*older.items(), *others.items(), *((layer, layer) for layer in layers)]
    return {name.replace(".", "_"): layer for layer, name in pairs}


def load_adapter(path: Path, networks: Mapping[str, nn.Module]) -> Adapter:
    """An adapter's file, for networks by their names: unet, text_encoder, text_encoder_2.

    UserError, in one line with the file's name, for what is no adapter, or of a kind that is not read, or for another
    family: where nothing in it fits, and where something is of another shape.
    """
    try:
        header = read_header(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    check_kind(path, header)
    places, unmatched = resolve(path, header.tensors, networks)
    if not places:
        raise family_error(path, header, networks, f"0 of {len(header.tensors)} keys fit")
    tensors, metadata = load_tensors(path, {name for parts in places.values() for name in parts.values()})
    configs = peft_configs(path, metadata)
    changes, unscaled, wrong = {}, False, []
    for (component, layer), parts in places.items():
        own = {part: tensors[name] for part, name in parts.items()}
        check_numbers(path, own, parts)
        change, has_alpha = scaled(path, layer, own, configs.get(component, {}))
        unscaled |= not has_alpha
        if problem := mismatch_of(change, networks[component].get_submodule(layer)):
            wrong.append(f"{layer} ({problem})")
        changes[component, layer] = change
    if wrong:
        raise family_error(path, header, networks, f"{len(wrong)} of {len(changes)} layers do not fit, as {wrong[0]}")
    notes = ["it says no alpha: its rank is taken, as other tools do"] if unscaled else []
    if unmatched:
        more = f" and {len(unmatched) - 1} more" if len(unmatched) > 1 else ""
        notes.append(f"what fits no layer is passed over: {unmatched[0][:100]!r}{more}")
    return Adapter(changes, len(tensors), len(header.tensors), tuple(notes), metadata)


def check_kind(path: Path, header: Header) -> None:
    """UserError for a kind that is not read, and for what is no adapter, with what it is."""
    if header.format != "safetensors":
        raise UserError(f"{path}: an adapter in {header.format}: only safetensors are read")
    is_adapter = any((found := ENDING.search(name)) and found["part"] != "alpha" for name in header.tensors)
    unread = next((found for name in header.tensors if (found := find_unread(name, header.tensors))), None)
    if unread and (is_adapter or unread.lastgroup != "scalars"):
        kind = str(unread.lastgroup)
        if kind == "OFT" and len(header.tensors[unread.string].shape) == 4:
            kind = "BOFT"
        raise UserError(
            f"{path}: an adapter with {kind} ({unread.string[:100]!r}), which is not read: "
            "LoRA, LoCon, LoHa, LoKr, DoRA and whole differences are"
        )
    if not is_adapter:
        facts = describe(header)
        what = f"{facts['kind']} {facts['family']}".strip() if facts["kind"] != "unknown" else "nothing that is known"
        raise UserError(f"{path}: no adapter, but {what}: name a LoRA or one of its kin")


def find_unread(name: str, names: Collection[str]) -> re.Match[str] | None:
    found = UNREAD.search(name)
    is_other = found is not None and found.lastgroup == "GLoRA" and name.replace(".b2", ".a1") not in names
    return None if is_other else found  # other networks too have layers called b2


def resolve(
    path: Path, names: Collection[str], networks: Mapping[str, nn.Module]
) -> tuple[dict[tuple[str, str], dict[str, str]], list[str]]:
    """The names of tensors by part, of each layer that they are of; and those that are of none."""
    encoders = [name for name in networks if name != "unet"]
    spelled = {name: spellings(name, layers_of(network)) for name, network in networks.items()}
    prefixes = [
        (name, prefix) for name in networks for prefix in PREFIXES[name] + (ONLY if encoders == [name] else ())
    ]
    places: dict[tuple[str, str], dict[str, str]] = {}
    unmatched = []
    for name in names:
        ending = ENDING.search(name)
        module = name[: ending.start()] if ending else name
        found = {
            (component, spelled[component][rest])
            for component, prefix in prefixes
            if module.startswith(prefix)
            and (rest := module.removeprefix(prefix).replace(".", "_")) in spelled[component]
        }
        if ending is None or len(found) != 1:
            unmatched.append(name)
            continue
        place, part = found.pop(), str(ending["matrix"] or ending["peft"] or ending["part"])
        other = places.setdefault(place, {}).setdefault(PARTS.get(part, part), name)
        if other != name:
            raise UserError(f"{path}: {other} and {name} are both of {'.'.join(place)}: save it in one spelling")
    return places, unmatched


def check_numbers(path: Path, parts: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    for part, tensor in parts.items():
        if not tensor.is_floating_point() and part != "alpha":
            raise UserError(f"{path}: {names[part]} has whole numbers: quantised adapters are not read")
        if not tensor.float().isfinite().all():
            raise UserError(f"{path}: {names[part]} is not finite: the file is spoilt, fetch or train it again")


def scaled(path: Path, layer: str, parts: dict[str, Tensor], config: Mapping[str, Any]) -> tuple[Change, bool]:
    """The change of a layer, and whether the file says how it is scaled: by alpha, or by PEFT's configuration."""
    kind = kind_of(set(parts))
    if kind is None:
        raise UserError(f"{path}: {layer} has {', '.join(sorted(parts))}, which is of no kind that is read")
    alpha = parts.pop("alpha", None)
    value = peft_alpha(path, config, layer) if alpha is None else alpha
    try:
        rank = rank_of(kind, parts) if kind != "LoKr" else rank_of(kind, parts) or config.get("r")
        if rank is None:
            return Change(kind, parts, 1.0), True
        root = math.sqrt(rank) if config.get("use_rslora") and alpha is None else rank
        scale = float(value or rank) / root
        if not (rank > 0 and math.isfinite(scale)):
            raise ValueError(scale)
        return Change(kind, parts, scale), value is not None
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError):
        raise UserError(f"{path}: the rank or alpha of {layer} is no number: fetch or train it again") from None


def peft_configs(path: Path, metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """PEFT's configurations by network: diffusers writes them into the header, PEFT beside the file. UserError for
    those that are broken."""
    beside = path.with_name("adapter_config.json")
    text = metadata.get("lora_adapter_metadata")
    source = f"{path}: lora_adapter_metadata" if text else str(beside)
    if not text and (path.name != "adapter_model.safetensors" or not beside.is_file()):
        return {}
    configs: dict[str, dict[str, Any]] = {}
    try:
        content = json.loads(text or beside.read_bytes())
        for key, value in content.items():
            component, _, option = key.partition(".")
            configs.setdefault(component, {})[option] = value
        configs = configs if text else dict.fromkeys(PREFIXES, content)
        for config in configs.values():
            config["alpha_pattern"] = dict(config.get("alpha_pattern") or {})
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{source} is broken: fetch or save it again") from None
    return configs


def peft_alpha(path: Path, config: Mapping[str, Any], layer: str) -> Any:
    """Of a layer; None where the configuration, or its absence, says none."""
    for pattern, alpha in config.get("alpha_pattern", {}).items():
        name = pattern.removeprefix("^").replace("\\.", ".")
        if not re.fullmatch(r"[\w.]+", name):
            raise UserError(f"{path}: alpha_pattern {pattern!r} is no layer's name: such patterns are not read")
        if f".{layer}".endswith(f".{name}"):
            return alpha
    return config.get("lora_alpha", config.get("alpha"))


def mismatch_of(change: Change, layer: nn.Module) -> str | None:
    """Why a change cannot be added to a layer; nothing is computed for it."""
    on_meta = change.to("meta")
    try:
        if "diff_b" in change.parts and getattr(layer, "bias", None) is None:
            return "it has no bias"
        for name in ("weight", "bias"):
            if (value := getattr(layer, name, None)) is not None:
                on_meta.delta(name, value.detach().to("meta"))
    except KeyError as error:
        return f"{error} is missing"
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        return str(error).splitlines()[0] if type(error) is ValueError else "its matrices do not fit each other"
    return None


def family_error(path: Path, header: Header, networks: Mapping[str, nn.Module], problem: str) -> UserError:
    """The error of an adapter for other networks, with the families of both where they are known."""
    adapter = adapter_of(header.tensors)
    state = networks["unet"].state_dict()
    shapes = {name: headers.Tensor("F32", tuple(tensor.shape)) for name, tensor in state.items()}
    own, families = family_of(shapes), adapter.families if adapter else ()
    text = f"{path}: {problem}"
    if families and (own is None or own.name not in families):
        text += f": it is for {' or '.join(families)}"
        text += "" if set(families) & set(DRAWN) else ", which is not drawn"
    return UserError(f"{text}{f'; the checkpoint is {own.name}' if own else ''}; name an adapter for this checkpoint")


class Use(NamedTuple):
    """An adapter with its weights: of the U-Net, and of the text encoders."""

    adapter: Adapter
    weight: float
    text_weight: float


Shares = Sequence[tuple[Change, float]]


def shares_of(uses: Sequence[Use]) -> dict[tuple[str, str], list[tuple[Change, float]]]:
    """The changes of each layer, with their weights; those of weight 0 are left out."""
    found: dict[tuple[str, str], list[tuple[Change, float]]] = {}
    for use in uses:
        for (component, layer), change in use.adapter.changes.items():
            if weight := use.weight if component == "unet" else use.text_weight:
                found.setdefault((component, layer), []).append((change, weight))
    return found


def adapt(value: Tensor, name: str, shares: Shares, dora_norm: str) -> Tensor:
    """W + sum of w_i C_i, each change reckoned from W alone; summed in float32, in the precision and layout of W."""
    with torch.autocast(value.device.type, enabled=False):
        total = value.float()
        for change, weight in shares:
            if (added := change.delta(name, value, dora_norm)) is not None:
                total = torch.add(total, added, alpha=weight)
    return total.to(value.dtype)


class Adapted(nn.Module):
    """A parametrization: the weight, changed when it is used."""

    def __init__(self, name: str, shares: Shares, dora_norm: str, device: torch.device) -> None:
        super().__init__()
        self.name, self.dora_norm = name, dora_norm
        self.shares = [(change.to(device), weight) for change, weight in shares]  # not anew each time it runs

    def forward(self, value: Tensor) -> Tensor:
        return adapt(value, self.name, self.shares, self.dora_norm)


@contextmanager
def adapted(
    networks: Mapping[str, nn.Module], uses: Sequence[Use], dora_norm: str = "changed", merged: bool = True
) -> Iterator[None]:
    """The networks with these adapters, within the block; after it they are as they were, to the last bit.

    merged: the changed weights are made once, and lie beside the original ones meanwhile; otherwise each is made when
    its layer runs, which takes no memory but more time. dora_norm: see `weight_changes.decomposed`.
    """
    if dora_norm not in DORA_NORMS:
        raise unknown("dora_norm", dora_norm, DORA_NORMS)
    originals: list[tuple[nn.Parameter, Tensor]] = []
    parametrized: list[tuple[nn.Module, str]] = []
    try:
        for (component, place), shares in shares_of(uses).items():
            layer = networks[component].get_submodule(place)
            for name in ("weight", "bias"):
                if not any(changes(change, name) for change, _ in shares):
                    continue
                parameter = getattr(layer, name)
                if merged:
                    originals.append((parameter, parameter.data))
                    parameter.data = adapt(parameter.data, name, shares, dora_norm)
                else:
                    change = Adapted(name, shares, dora_norm, parameter.device)
                    parametrize.register_parametrization(layer, name, change, unsafe=True)
                    parametrized.append((layer, name))
        yield
    finally:
        for parameter, data in originals:
            parameter.data = data
        for layer, name in parametrized:
            parametrize.remove_parametrizations(layer, name, leave_parametrized=False)


def changes_of(
    networks: Mapping[str, nn.Module], uses: Sequence[Use], dora_norm: str
) -> dict[nn.Parameter, Callable[[Tensor], Tensor]]:
    """What makes the changed weights out of the original ones, by the parameters that have any."""
    found: dict[nn.Parameter, Callable[[Tensor], Tensor]] = {}
    for (component, place), shares in shares_of(uses).items():
        layer = networks[component].get_submodule(place)
        for name in ("weight", "bias"):
            if any(changes(change, name) for change, _ in shares):
                found[getattr(layer, name)] = partial(adapt, name=name, shares=shares, dora_norm=dora_norm)
    return found


def changes(change: Change, name: str) -> bool:
    return bool(change.kind) if name == "weight" else "diff_b" in change.parts
