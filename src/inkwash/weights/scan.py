"""What lies in a folder of models of any tool: each file by its header; nothing is copied, nothing written there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from inkwash.errors import UserError
from inkwash.weights import adapters, families, headers
from inkwash.weights.adapters import adapter_of
from inkwash.weights.families import EMBEDDING, ENCODER, MODEL, VAE, family_of
from inkwash.weights.files import save_json
from inkwash.weights.headers import AGAIN, Header, Pickle, Tensor, read_header

READ = (".safetensors", ".sft", ".gguf")
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".incomplete", ".aria2", ".tmp")
WITHOUT_WEIGHTS = re.compile("Tokenizer|Scheduler|Processor|Extractor|Guider|Onnx")  # components of diffusers
SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.safetensors)")
PRECISIONS = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "fp8",
    "F8_E5M2": "fp8",
    "I8": "int8",
}
# where a whole checkpoint keeps its companions
HELD = {
    families.CLIP_L: (
        "cond_stage_model.transformer.",
        "conditioner.embedders.0.transformer.",
        "text_encoders.clip_l.",
    ),
    families.CLIP_H: ("cond_stage_model.model.",),
    families.CLIP_G: ("conditioner.embedders.0.model.", "conditioner.embedders.1.model.", "text_encoders.clip_g."),
    families.T5: ("text_encoders.t5xxl.",),
}
VAE_HELD = ("first_stage_model.", "vae.")
INKWASH = "model of inkwash"
FACTS = {"kind", "family", "needs", "size", "notes"}  # of a file, in the cache


class Found(NamedTuple):
    """A line of a scan. name: its path as shown; size: bytes of the weights; needs: what it does not hold, as kind
    and family; notes: what else its header says; problem: why it could not be read."""

    path: Path
    name: str
    size: int
    kind: str = ""
    family: str = ""
    needs: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


def scan(folder: Path, cache: Path | None = None, hashes: bool = False) -> list[Found]:
    """Every file of weights below a folder, in the order of their paths, and of those that lie elsewhere by ComfyUI's
    extra_model_paths.yaml or InvokeAI's list in it. UserError only for a folder that is not there.

    cache: a file in which what headers say is kept, by path, size and time of change. hashes: with those of A1111 and
    Civitai, for which files are read whole.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder")
    kept = _load_cache(cache)
    used: dict[str, Any] = {}
    found, seen = list[Found](), set[str]()
    invoke = _invoke_names(folder)
    for root, problem in [(folder, ""), *_extra_folders(folder)]:
        if problem:
            found.append(Found(root, str(root), 0, problem=problem))
        else:
            found += [_look(unit, kept, used, hashes) for unit in _units(root, root == folder, seen)]
    inside = {os.path.realpath(one.path) for one in found}
    for path in (Path(path) for path in invoke if path not in inside and os.path.isabs(path)):  # left where they lay
        units = _units(path, False, seen) if os.path.isdir(path) else _files([path], path.parent, False)
        found += [_look(unit, kept, used, hashes) for unit in units]
    found = [_named(one, invoke) for one in found]
    if cache and used != kept["files"]:
        _save_cache(cache, kept["files"] | used)
    return _same_names(found)


class _Unit(NamedTuple):
    """Files that are one network, or a folder of several."""

    name: str
    files: tuple[Path, ...]
    folder: Path | None = None
    problem: str = ""


def _units(root: Path, relative: bool, seen: set[str]) -> Iterator[_Unit]:
    """What lies below a folder. Links to folders are followed, but to none twice."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
            folders = [Path(entry) for entry in inside if os.path.isdir(entry)]  # of a link to itself, too
            files = [Path(entry) for entry in inside if not os.path.isdir(entry)]
            if folder.name.startswith("models--"):  # the cache of Hugging Face: snapshots link to what lies in blobs
                blobs = [file for inner in folders if inner.name == "blobs" for file in sorted(inner.iterdir())]
                files += [file for file in blobs if file.suffix == ".incomplete"]
                folders = [inner for inner in folders if inner.name == "snapshots"]
        except OSError as error:
            yield _Unit(_shown(folder, root, relative), (), problem=f"cannot be read ({error.strerror or error})")
            continue
        names = {file.name for file in files}
        if "pyvenv.cfg" in names:
            continue
        if "system.json" in names:
            yield _Unit(_shown(folder, root, relative), (), folder)
            continue
        if "model_index.json" in names:
            yield _Unit(_shown(folder, root, relative), (), folder)
            components = set(_components(folder) or ())
            folders = [inner for inner in folders if inner.name not in components]
        waiting += [inner for inner in reversed(folders) if not inner.name.startswith(".")]
        yield from _files(files, root, relative)


def _files(files: list[Path], root: Path, relative: bool) -> Iterator[_Unit]:
    shards: dict[str, list[Path]] = {}
    for file in files:
        ending = file.suffix.lower()
        if file.name.startswith("."):
            continue
        if found := SHARD.fullmatch(file.name):
            shards.setdefault(found[1] + "-*-of-" + found[2] + found[3], []).append(file)
        elif ending in (*READ, *PICKLES):
            yield _Unit(_shown(file, root, relative), (file,))
        elif ending in UNFINISHED and (file.parent.name == "blobs" or _weights(file.stem)):
            yield _Unit(_shown(file, root, relative), (file,), problem=f"half-downloaded: {AGAIN}")
    for name, parts in shards.items():
        count = int(name.rpartition("-of-")[2].partition(".")[0])
        missing = f"{count - len(parts)} of {count} shards are missing: {AGAIN}" if len(parts) < count else ""
        yield _Unit(_shown(parts[0].parent / name, root, relative), tuple(parts), problem=missing)


def _weights(name: str) -> bool:
    return name.lower().endswith((*READ, *PICKLES))


def _shown(path: Path, root: Path, relative: bool) -> str:
    """A path below the scanned folder; a snapshot of Hugging Face's cache by the name of its model."""
    text = path.relative_to(root).as_posix() if relative and path != root else str(path)
    return re.sub(
        r"(?:^|(?<=/))models--([^/]+?)/snapshots/(\w{7})\w*", lambda m: m[1].replace("--", "/") + "@" + m[2], text
    )


def _look(unit: _Unit, kept: Mapping[str, Any], used: dict[str, Any], hashes: bool) -> Found:
    path = unit.folder or (unit.files[0] if unit.files else Path(unit.name))
    if unit.problem:
        return Found(path, unit.name, 0, problem=unit.problem)
    try:
        facts = _of_folder(unit.folder, kept, used) if unit.folder else _facts(unit.files, kept, used)
        notes = [*facts.get("notes", []), *_beside(path)]
        if hashes:
            notes += _hashes(path) if len(unit.files) == 1 else ["no hash, as it is several files"]
        if "pickle" in facts:
            return Found(path, unit.name, facts["size"], "pickle", notes=tuple(notes), problem=facts["pickle"])
    except (UserError, OSError) as error:
        text = str(error) if isinstance(error, UserError) else f"cannot be read ({error.strerror or error})"
        return Found(path, unit.name, 0, problem=text)
    needs = tuple((kind, name) for kind, name in facts["needs"])
    return Found(path, unit.name, facts["size"], facts["kind"], facts["family"], needs, tuple(notes))


def _facts(files: tuple[Path, ...], kept: Mapping[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    """What the header says of a network, read or remembered."""
    key = os.path.abspath(files[0])
    stamps = [[file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    old = kept["files"].get(key)
    if old and old["stamps"] == stamps:
        used[key] = old
        return dict(old["facts"])
    try:
        read = [read_header(file) for file in files]
        facts = describe(read[0] if len(read) == 1 else _merged(read))
    except Pickle as error:
        facts = {"pickle": str(error), "size": sum(size for size, _ in stamps)}
    except UserError as error:
        if files[0].suffix.lower() in PICKLES and stamps[0][0]:
            raise UserError("no pickle that we know by its first bytes: not opened") from None
        raise error
    used[key] = {"stamps": stamps, "facts": facts}
    return facts


def _merged(shards: list[Header]) -> Header:
    tensors = {name: tensor for shard in shards for name, tensor in shard.tensors.items()}
    sizes = sum((Counter(shard.sizes) for shard in shards), Counter())
    return shards[0]._replace(tensors=tensors, size=sum(shard.size for shard in shards), sizes=sizes)


def describe(header: Header) -> dict[str, Any]:
    """kind, family, needs, size and notes of the network in a file."""
    facts: dict[str, Any] = {"kind": "unknown", "family": "", "needs": [], "size": header.size, "notes": []}
    notes = facts["notes"]
    tensors = header.tensors
    quantised = _quantisation(header)
    if adapter := adapter_of(tensors):
        facts |= {"kind": adapter.kind, "family": " or ".join(adapter.families)}
        notes += [f"rank {adapter.rank}"] * bool(adapter.rank) + [f"{adapter.modules} modules"]
        return facts | {"notes": [*notes, *_metadata(header.metadata)]}
    family = family_of(tensors)
    if family:
        facts |= {"kind": family.kind, "family": family.name}
        if family.kind == MODEL:
            beside = [key for key in tensors if not key.startswith("model.diffusion_model.")]
            held = {name for name, prefixes in HELD.items() if any(key.startswith(prefixes) for key in beside)}
            whole = any(key.startswith(VAE_HELD) for key in beside)
            needs = [] if whole or not family.vae else [[VAE, family.vae]]
            facts["needs"] = needs + [[ENCODER, name] for name in family.encoders if name not in held]
            if whole or held:
                facts["kind"] = "checkpoint"
            elif not family.encoders:
                notes.append("its text encoder is not listed")
    elif embedding := _embedding(tensors):
        facts |= {"kind": EMBEDDING, "family": embedding}
    notes += quantised or [_precision(header)]
    return facts | {"notes": [*filter(None, notes), *_metadata(header.metadata)]}


def _embedding(tensors: Mapping[str, Tensor]) -> str:
    """The family of the only tensor of an embedding: A1111's, or a token in angle brackets, as diffusers has it."""
    if len(tensors) == 1:
        ((name, tensor),) = tensors.items()
        if (name == "emb_params" or re.fullmatch(r"<.+>", name)) and len(tensor.shape) in (1, 2):
            return {768: "SD 1", 1024: "SD 2"}.get(tensor.shape[-1], "")
    return ""


def _precision(header: Header) -> str:
    """The type that takes most of the bytes."""
    dtype = max(header.sizes, key=lambda key: header.sizes[key], default="")
    return PRECISIONS.get(dtype, dtype)


def _quantisation(header: Header) -> list[str]:
    names = "\n".join(header.tensors) + "\n"
    if header.format == "GGUF":
        return [f"GGUF {max(header.sizes, key=lambda key: header.sizes[key], default='')}"]
    if ".qweight\n" in names and ".wscales\n" in names:
        return ["quantised by Nunchaku"]
    if ".quant_state.bitsandbytes__" in names:
        return ["quantised by bitsandbytes"]
    try:
        layers = json.loads(header.metadata.get("_quantization_metadata") or "{}").get("layers", {})
        formats = sorted({str(layer["format"]) for layer in layers.values()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        formats = []
    if formats:
        return [f"quantised: {', '.join(formats)}"]
    if ".comfy_quant\n" in names:
        return [f"quantised by ComfyUI ({_precision(header)})"]
    if _precision(header) == "fp8":
        scaled = any(key in names for key in (".scale_weight\n", ".weight_scale\n", "scaled_fp8\n"))
        return ["fp8 scaled" if scaled else "fp8"]
    return []


def _metadata(metadata: Mapping[str, str]) -> list[str]:
    """Base model, resolution and trigger words, as kohya's and modelspec's metadata have them."""
    notes = []
    if base := metadata.get("modelspec.architecture") or metadata.get("ss_base_model_version"):
        notes.append(f"says it is for {base}")
    resolution = metadata.get("modelspec.resolution") or metadata.get("ss_resolution", "")
    if sides := re.findall(r"\d+", resolution)[:2]:
        notes.append("x".join(sides * (3 - len(sides))))
    words = metadata.get("modelspec.trigger_phrase") or ", ".join(_tags(metadata.get("ss_tag_frequency", "")))
    return [*notes, f"words: {words}"] if words else notes


def _tags(text: str, count: int = 5) -> list[str]:
    """The most frequent tags of the pictures that it was trained on."""
    total = Counter[str]()
    try:
        for tags in json.loads(text or "{}").values():
            total.update({str(tag).strip(): int(number) for tag, number in tags.items()})
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return []
    return [tag for tag, _ in total.most_common(count) if tag]


def _beside(path: Path) -> list[str]:
    """What the .civitai.info beside a file says."""
    try:
        info = _load_json(path.with_name(path.stem + ".civitai.info"))
    except (OSError, UserError):
        return []
    notes = [f"Civitai says {info['baseModel']}"] if isinstance(info.get("baseModel"), str) else []
    words = info.get("trainedWords")
    if isinstance(words, list) and words:
        notes.append(f"words: {', '.join(str(word) for word in words[:5])}")
    return notes


def _hashes(path: Path) -> list[str]:
    """AutoV2 of the whole file; AutoV3 of what follows a safetensors header."""
    whole, data = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as file:
        start = file.read(8)
        header = start + file.read(min(int.from_bytes(start, "little"), headers.LARGEST))
        whole.update(header)
        while chunk := file.read(1 << 20):
            whole.update(chunk)
            data.update(chunk)
    notes = [f"AutoV2 {whole.hexdigest()[:10]}"]
    return [*notes, f"AutoV3 {data.hexdigest()[:12]}"] if header[8:9] == b"{" else notes


def _load_json(path: Path) -> dict[str, Any]:
    """A small file of another tool. UserError for one that is no JSON object."""
    if path.stat().st_size > 10_000_000:
        raise UserError(f"{path.name} is too large")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UserError(f"{path.name} is broken: {AGAIN}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name} is broken: {AGAIN}")
    return content


def _components(folder: Path) -> dict[str, str] | None:
    """The classes of a diffusers folder's networks, by the name of their folder; None where its index is broken."""
    try:
        index = _load_json(folder / "model_index.json")
    except (OSError, UserError):
        return None
    pairs = {name: pair for name, pair in index.items() if isinstance(pair, list) and len(pair) == 2}
    return {name: str(kind) for name, (_, kind) in pairs.items() if kind is not None}


def _of_folder(folder: Path, kept: Mapping[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    """What a folder of inkwash or diffusers holds: its network's family. UserError where a component is missing."""
    if os.path.isfile(folder / "system.json"):
        size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
        system = str(_load_json(folder / "system.json").get("system", ""))
        return {"kind": INKWASH, "family": system, "needs": [], "size": size, "notes": []}
    index = _load_json(folder / "model_index.json")
    components = _components(folder) or {}
    missing, size = [], 0
    network: dict[str, Any] = {}
    notes: list[str] = []
    for name, kind in components.items():
        inside = folder / name
        if not os.path.isdir(inside):
            missing.append(name)
            continue
        if WITHOUT_WEIGHTS.search(kind):
            continue
        weights, problem = _variant(inside)
        if problem:
            missing.append(f"{name} ({problem})")
        elif weights:
            facts = _facts(weights, kept, used)
            if "pickle" in facts:
                notes.append(f"{name} is a pickle")
            elif name in ("unet", "transformer", "prior"):
                network = facts
            size += facts["size"]
    if missing:
        raise UserError(f"a diffusers folder ({index.get('_class_name')}) without {', '.join(missing)}: {AGAIN}")
    known = network.get("family")
    return {
        "kind": "diffusers folder" if known else "unknown",
        "family": known or "",
        "needs": [],
        "size": size,
        "notes": [str(index.get("_class_name")), *network.get("notes", []), *notes],
    }


def _variant(folder: Path) -> tuple[tuple[Path, ...], str]:
    """The files of one variant of a component's weights, and what is wrong with it."""
    variants: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".bin"):
            shard = SHARD.fullmatch(file.name)
            variants.setdefault(f"{shard[1]}-of-{shard[2]}" if shard else file.name, []).append(file)
    if not variants:
        return (), "no weights"
    absent = {}
    for name, files in variants.items():
        shards = re.search(r"-of-(\d{5})$", name)
        absent[name] = int(shards[1]) - len(files) if shards else 0
    # safetensors before pickles, whole ones before others, plain ones before fp16
    name = min(variants, key=lambda key: (variants[key][0].suffix == ".bin", absent[key] > 0, key.count("."), key))
    return tuple(variants[name]), f"{absent[name]} shards" if absent[name] else ""


def _extra_folders(folder: Path) -> list[tuple[Path, str]]:
    """The folders that ComfyUI's extra_model_paths.yaml names, each with what is wrong with it, if anything is."""
    places = [folder, folder.parent] if folder.name == "models" else [folder]
    found = list[tuple[Path, str]]()
    for file in (place / "extra_model_paths.yaml" for place in places):
        if not os.path.isfile(file):
            continue
        import yaml  # here, as few have such a file

        try:
            if file.stat().st_size > 1_000_000:
                raise ValueError
            sections = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            groups = [section for section in sections.values() if isinstance(section, dict)]
        except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
            found.append((file, "broken: its folders are not looked at"))
            continue
        for group in groups:
            base = Path(os.path.expandvars(os.path.expanduser(str(group.get("base_path") or ""))))
            lines = [
                line.strip()
                for key, text in group.items()
                if key not in ("base_path", "is_default", "custom_nodes", "configs") and isinstance(text, str)
                for line in text.splitlines()
            ]
            for path in (file.parent / base / line for line in lines if line):
                found.append((path, "" if os.path.isdir(path) else f"no such folder; {file.name} names it"))
    return found


def _invoke_names(folder: Path) -> dict[str, str]:
    """What InvokeAI calls its models, by their real paths; by its own list, read as it lies on the disk."""
    root = folder.parent if folder.name == "models" else folder
    file = root / "databases" / "invokeai.db"
    if not os.path.isfile(file):
        return {}
    try:
        # immutable: not even the files that SQLite lays beside a list to read it
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)) as opened:
            configs = [json.loads(text) for (text,) in opened.execute("SELECT config FROM models")]
        return {os.path.realpath(root / "models" / str(one["path"])): str(one["name"]) for one in configs}
    except (sqlite3.Error, ValueError, TypeError, KeyError, RecursionError):
        return {}


def _named(one: Found, invoke: Mapping[str, str]) -> Found:
    name = invoke.get(os.path.realpath(one.path)) or invoke.get(os.path.realpath(one.path.parent))
    return one._replace(notes=(f"{name} in InvokeAI", *one.notes)) if name else one


def _same_names(found: list[Found]) -> list[Found]:
    """The same, with a note where files of one name would be taken for each other."""
    names = Counter(one.path.name for one in found if one.path.suffix)
    return [
        one._replace(notes=(*one.notes, "not the only file of this name")) if names[one.path.name] > 1 else one
        for one in found
    ]


def companions(found: list[Found], one: Found) -> list[tuple[str, str, list[Found]]]:
    """What a file needs, as kind and family, each with the files that fit."""
    return [
        (kind, name, [other for other in found if (other.kind, other.family) == (kind, name)])
        for kind, name in one.needs
    ]


def _identity() -> str:
    """Of what reads and names: what older tables said is read anew."""
    digest = hashlib.sha256()
    for module in (headers, families, adapters, sys.modules[__name__]):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def _load_cache(cache: Path | None) -> dict[str, Any]:
    empty: dict[str, Any] = {"identity": _identity(), "files": {}}
    try:
        kept: dict[str, Any] = json.loads(cache.read_text(encoding="utf-8")) if cache else empty
        sound = kept["identity"] == empty["identity"] and all(
            isinstance(old["stamps"], list) and ("pickle" in old["facts"] or old["facts"].keys() >= FACTS)
            for old in kept["files"].values()
        )
        return kept if sound else empty
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return empty


def _save_cache(cache: Path, files: dict[str, Any]) -> None:
    """A scan does not fail for want of a cache. Files that are gone are forgotten."""
    try:
        here = {path: facts for path, facts in files.items() if os.path.exists(path)}
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the paths say what somebody has
        save_json(cache, {"identity": _identity(), "files": here})
    except OSError:
        pass


def memory() -> int:
    """Bytes of this machine's memory, or of the part that this process may take; 0 where nothing says it."""
    if sys.platform == "win32":
        return _windows_memory()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def _windows_memory() -> int:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((f"n{i}", ctypes.c_ulonglong) for i in range(7)),
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.n0)
