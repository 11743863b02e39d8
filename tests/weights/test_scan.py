import hashlib
import json
import os
import sqlite3
import sys
from contextlib import closing
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from inkwash.cli.folders import _clean, _line
from inkwash.errors import UserError
from inkwash.weights import scan as module
from inkwash.weights.families import FAMILIES
from inkwash.weights.headers import BITS, Header
from inkwash.weights.scan import companions, describe, memory, scan
from tests.weights.test_headers import gguf

KINDS = {(family.kind, family.name): family for family in FAMILIES}


def marks(kind, name, dtype="F16"):
    """A header of nothing but what a family is told by."""
    return {
        key: (dtype, tuple(7 if n is None else n for n in shape or ()))
        for key, shape in KINDS[kind, name].marks[0].items()
    }


def write(path, tensors, metadata=None, cut=0):
    """A file with a true header, and holes for weights."""
    head, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * BITS[dtype] // 8
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(head).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at - cut)
    return path


def lines(folder, **how):
    return {one.name: (one.kind, one.family, one.problem) for one in scan(folder, **how)}


FLUX = marks("diffusion model", "Flux 1 schnell")
SD1 = marks("diffusion model", "SD 1")
SDXL = marks("diffusion model", "SDXL")
LORA = {
    f"lora_unet_{block}_attentions_0_transformer_blocks_0_attn2_to_k.{part}": ("F16", shape)
    for block in ("down_blocks_1", "up_blocks_1")
    for part, shape in (("lora_down.weight", (8, 768)), ("lora_up.weight", (640, 8)))
}


def prefixed(prefix, tensors):
    return {prefix + key: value for key, value in tensors.items()}


def test_a_folder_of_comfyui_with_its_other_folders(tmp_path):
    comfy, other = tmp_path / "ComfyUI", tmp_path / "elsewhere"
    write(comfy / "models/diffusion_models/flux.safetensors", FLUX)
    write(comfy / "models/vae/ae.safetensors", marks("VAE", "SD 3 or Flux 1"))
    write(comfy / "models/text_encoders/clip_l.sft", marks("text encoder", "CLIP-L"))
    write(other / "Lora/a.safetensors", LORA)
    write(other / "b/b.safetensors", LORA)
    others = f"a111:\n  base_path: {other}\n  is_default: true\n  loras: |\n    Lora\n    b\n  vae: gone\n"
    (comfy / "extra_model_paths.yaml").write_text(others + "x:\n  nothing: 5\n")
    expected = {
        "diffusion_models/flux.safetensors": ("diffusion model", "Flux 1 schnell", ""),
        "vae/ae.safetensors": ("VAE", "SD 3 or Flux 1", ""),
        "text_encoders/clip_l.sft": ("text encoder", "CLIP-L", ""),
        str(other / "Lora/a.safetensors"): ("LoRA", "SD 1", ""),
        str(other / "b/b.safetensors"): ("LoRA", "SD 1", ""),
        str(other / "gone"): ("", "", "no such folder; extra_model_paths.yaml names it"),
    }
    assert lines(comfy / "models") == expected
    assert lines(comfy) == {
        name if name.startswith("/") else f"models/{name}": line for name, line in expected.items()
    }
    (comfy / "extra_model_paths.yaml").write_text("a: [")
    assert lines(comfy)[str(comfy / "extra_model_paths.yaml")][2] == "broken: its folders are not looked at"


def test_companions_are_those_that_fit_and_what_a_checkpoint_holds_is_not_asked_for(tmp_path):
    write(tmp_path / "flux.safetensors", FLUX)
    write(tmp_path / "ae.safetensors", marks("VAE", "SD 3 or Flux 1"))
    write(tmp_path / "wrong.safetensors", marks("VAE", "SD 1, SD 2 or SDXL"))
    whole = prefixed("model.diffusion_model.", SDXL)
    whole |= {"first_stage_model.encoder.conv_in.weight": ("F16", (1,))}
    whole |= {f"conditioner.embedders.{n}.x": ("F16", (1,)) for n in ("0.transformer", "1.model")}
    write(tmp_path / "xl.safetensors", whole)
    write(tmp_path / "half.safetensors", {k: t for k, t in whole.items() if "embedders.1" not in k})
    found = {one.name: one for one in scan(tmp_path)}
    needs = companions(list(found.values()), found["flux.safetensors"])
    assert [(kind, name, [one.name for one in files]) for kind, name, files in needs] == [
        ("VAE", "SD 3 or Flux 1", ["ae.safetensors"]),
        ("text encoder", "CLIP-L", []),
        ("text encoder", "T5-XXL", []),
    ]
    assert (found["xl.safetensors"].kind, found["xl.safetensors"].needs) == ("checkpoint", ())
    assert found["half.safetensors"].needs == (("text encoder", "OpenCLIP-bigG"),)


def test_every_bad_file_is_one_line_and_the_scan_goes_on(tmp_path):
    write(tmp_path / "good.safetensors", SD1)
    write(tmp_path / "short.safetensors", SD1, cut=1)
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "huge.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    (tmp_path / "zip.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02" + bytes(100))
    (tmp_path / "text.bin").write_bytes(b"hello, hello")
    (tmp_path / "model.safetensors.part").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.safetensors").touch()
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "itself.safetensors").symlink_to(tmp_path / "itself.safetensors")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    found = lines(tmp_path)
    assert found.pop("good.safetensors") == ("diffusion model", "SD 1", "")
    problems = {name: problem for name, (_, _, problem) in found.items()}
    starts = {
        "short.safetensors": "half-downloaded: ",
        "empty.safetensors": "empty",
        "huge.safetensors": "a header of 1,152,921,504,606,846,976 bytes",
        "zip.safetensors": "a pickle",
        "old.ckpt": "a pickle",
        "text.bin": "no pickle that we know",
        "model.safetensors.part": "half-downloaded",
        "gone.safetensors": "cannot be read",
        "itself.safetensors": "cannot be read",
    }
    assert problems.keys() == starts.keys()
    for name, start in starts.items():
        assert problems[name].startswith(start) and "\n" not in problems[name]
    with pytest.raises(UserError, match="no such folder"):
        scan(tmp_path / "none")


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    write(tmp_path / "b/good.safetensors", SD1)
    (tmp_path / "a").mkdir()
    real = os.scandir

    def scandir(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert lines(tmp_path) == {
        "a": ("", "", "cannot be read (Permission denied)"),
        "b/good.safetensors": ("diffusion model", "SD 1", ""),
    }


def test_files_of_one_name_say_so(tmp_path):
    for place in ("a", "b"):
        write(tmp_path / place / "x.safetensors", LORA)
    write(tmp_path / "y.safetensors", LORA)
    notes = {one.name: one.notes for one in scan(tmp_path)}
    assert all("not the only file of this name" in notes[f"{place}/x.safetensors"] for place in "ab")
    assert "not the only file of this name" not in notes["y.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_the_cache_of_hugging_face_is_shown_by_the_names_of_its_models(tmp_path):
    model = tmp_path / "hub/models--org--net"
    blob = write(model / "blobs/0123", SD1)
    (model / "blobs/4567.incomplete").write_bytes(b"x")
    snapshot = model / "snapshots/abcdef0123456789"
    snapshot.mkdir(parents=True)
    (snapshot / "net.safetensors").symlink_to(blob)
    assert lines(tmp_path / "hub") == {
        "org/net@abcdef0/net.safetensors": ("diffusion model", "SD 1", ""),
        "models--org--net/blobs/4567.incomplete": ("", "", "half-downloaded: fetch it again"),
    }


def test_a_folder_of_invokeai_is_shown_with_its_own_names(tmp_path):
    root, elsewhere = tmp_path / "invokeai", tmp_path / "elsewhere"
    write(root / "models/1234/x.safetensors", SD1)
    write(root / "models/5678/y.safetensors", LORA)
    outside = write(elsewhere / "z.safetensors", SDXL)
    (root / "databases").mkdir()
    with closing(sqlite3.connect(root / "databases/invokeai.db")) as index, index:
        index.execute("CREATE TABLE models (id TEXT, config TEXT)")
        for path, name in (("1234/x.safetensors", "Fox"), ("5678", "Style"), (str(outside), "Big"), ("gone", "Gone")):
            index.execute("INSERT INTO models VALUES (?, ?)", (name, json.dumps({"path": path, "name": name})))
    before = sorted((root / "databases").iterdir())
    for folder in (root, root / "models"):
        found = {one.path.name: (one.family, one.notes[0]) for one in scan(folder) if not one.problem}
        assert found == {
            "x.safetensors": ("SD 1", "Fox in InvokeAI"),
            "y.safetensors": ("SD 1", "Style in InvokeAI"),
            "z.safetensors": ("SDXL", "Big in InvokeAI"),
        }
    assert sorted((root / "databases").iterdir()) == before
    (root / "databases/invokeai.db").write_text("no list")
    assert [one.path.name for one in scan(root)] == ["x.safetensors", "y.safetensors"]


def diffusers_folder(folder):
    network = {key: ("F16", shape) for key, shape in KINDS["diffusion model", "SD 1"].marks[1].items()}
    write(folder / "unet/diffusion_pytorch_model.safetensors", network)
    write(folder / "vae/diffusion_pytorch_model.safetensors", marks("VAE", "SD 1, SD 2 or SDXL"))
    (folder / "tokenizer").mkdir()
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    index |= {"vae": ["diffusers", "AutoencoderKL"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {"safety_checker": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))


def test_a_diffusers_folder_is_one_line_and_says_what_is_missing(tmp_path):
    folder = tmp_path / "sd"
    diffusers_folder(folder)
    (one,) = scan(tmp_path)
    assert (one.name, one.kind, one.family, one.notes[0]) == (
        "sd",
        "diffusers folder",
        "SD 1",
        "StableDiffusionPipeline",
    )
    assert one.size == sum(file.stat().st_size for file in folder.rglob("*.safetensors")) - sum(
        8 + int.from_bytes(file.read_bytes()[:8], "little") for file in folder.rglob("*.safetensors")
    )
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    assert scan(tmp_path)[0].problem.startswith(
        "a diffusers folder (StableDiffusionPipeline) without vae (no weights)"
    )
    part = write(folder / "vae/diffusion_pytorch_model-00001-of-00002.safetensors", SD1)
    assert "without vae (1 shards)" in scan(tmp_path)[0].problem
    write(folder / "vae/diffusion_pytorch_model.fp16.safetensors", marks("VAE", "SD 1, SD 2 or SDXL"))
    assert scan(tmp_path)[0].family == "SD 1"  # one variant that is whole is enough
    part.unlink()
    (folder / "model_index.json").write_text("{")
    assert scan(tmp_path)[0].problem == "model_index.json is broken: fetch it again"


def test_shards_are_one_line_and_missing_ones_are_counted(tmp_path):
    keys = list(FLUX.items())
    for number, part in ((1, keys[:1]), (2, keys[1:])):
        write(tmp_path / f"m-0000{number}-of-00002.safetensors", dict(part))
    assert lines(tmp_path) == {"m-*-of-00002.safetensors": ("diffusion model", "Flux 1 schnell", "")}
    (tmp_path / "m-00001-of-00002.safetensors").unlink()
    assert lines(tmp_path)["m-*-of-00002.safetensors"][2].startswith("1 of 2 shards are missing")


def test_a_second_scan_reads_only_what_has_changed(tmp_path, monkeypatch):
    cache = tmp_path / "cache/headers.json"
    file = write(tmp_path / "models/a.safetensors", SD1)
    write(tmp_path / "models/b.safetensors", LORA)
    first = scan(tmp_path / "models", cache)
    read = []
    real = module.read_header
    monkeypatch.setattr(module, "read_header", lambda path: read.append(path.name) or real(path))
    assert scan(tmp_path / "models", cache) == first and not read
    write(file, SDXL)
    assert lines(tmp_path / "models", cache=cache)["a.safetensors"] == ("diffusion model", "SDXL", "")
    assert read == ["a.safetensors"]
    for broken in (
        "",
        "[]",
        '{"identity": 1, "files": {}}',
        json.dumps({"identity": module._identity(), "files": {"a": 5}}),
    ):
        cache.write_text(broken)
        assert scan(tmp_path / "models", cache)[1].family == "SD 1"
    cache.unlink()
    cache.parent.rmdir()
    cache.parent.touch()  # where no folder can be made
    assert scan(tmp_path / "models", cache)[1].family == "SD 1"


def test_nothing_is_written_into_the_folder(tmp_path):
    write(tmp_path / "a.safetensors", SD1)
    before = {file: file.stat().st_mtime_ns for file in [tmp_path, *tmp_path.rglob("*")]}
    scan(tmp_path, hashes=True)
    assert {file: file.stat().st_mtime_ns for file in [tmp_path, *tmp_path.rglob("*")]} == before


def test_hashes_are_those_of_the_whole_file_and_of_what_follows_the_header(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"x": np.arange(9, dtype=np.float32)}, file)
    data = np.arange(9, dtype=np.float32).tobytes()
    (one,) = scan(tmp_path, hashes=True)
    assert one.notes[-2:] == (
        f"AutoV2 {hashlib.sha256(file.read_bytes()).hexdigest()[:10]}",
        f"AutoV3 {hashlib.sha256(data).hexdigest()[:12]}",
    )
    file.unlink()
    (tmp_path / "a.ckpt").write_bytes(b"\x80\x02.")  # read, not opened
    assert scan(tmp_path, hashes=True)[0].notes == (f"AutoV2 {hashlib.sha256(bytes([128, 2, 46])).hexdigest()[:10]}",)
    (tmp_path / "a.ckpt").unlink()
    write(tmp_path / "m-00001-of-00001.safetensors", SD1)
    write(tmp_path / "n-00001-of-00002.safetensors", SD1)
    write(tmp_path / "n-00002-of-00002.safetensors", SD1)
    first, second = scan(tmp_path, hashes=True)
    assert "AutoV2" in first.notes[-2] and second.notes[-1] == "no hash, as it is several files"


def test_what_trainers_and_civitai_say_is_told(tmp_path):
    tags = {"set": {"ohwx woman": 20, "smile": 3}, "other": {"smile": 30}}
    kohya = {"ss_base_model_version": "sd_v1", "ss_resolution": "(512, 768)", "ss_tag_frequency": json.dumps(tags)}
    write(tmp_path / "a.safetensors", LORA, kohya)
    spec = {
        "modelspec.architecture": "x/lora",
        "modelspec.resolution": "1024x1024",
        "modelspec.trigger_phrase": "sks",
    }
    write(tmp_path / "b.safetensors", LORA, spec)
    info = {"baseModel": "Pony", "trainedWords": ["one", "two"]}
    (tmp_path / "b.civitai.info").write_text(json.dumps(info))
    write(tmp_path / "c.safetensors", LORA, {"ss_tag_frequency": "[1]", "ss_resolution": "512"})
    (tmp_path / "c.civitai.info").write_text("[]")
    a, b, c = (one.notes[2:] for one in scan(tmp_path))
    assert a == ("says it is for sd_v1", "512x768", "words: smile, ohwx woman")
    assert b == ("says it is for x/lora", "1024x1024", "words: sks", "Civitai says Pony", "words: one, two")
    assert c == ("512x512",)


def facts(tensors, metadata=None):
    from inkwash.weights.headers import Tensor

    sizes = {}
    for dtype, shape in tensors.values():
        sizes[dtype] = sizes.get(dtype, 0) + prod(shape)
    named = {name: Tensor(*entry) for name, entry in tensors.items()}
    return describe(Header("safetensors", named, metadata or {}, 1, sizes))


@pytest.mark.parametrize(
    ("extra", "metadata", "note"),
    [
        ({}, {}, "float16"),
        ({"x.weight": ("F8_E4M3", (10**8, 10))}, {}, "fp8"),
        ({"x.weight": ("F8_E4M3", (10**8, 10)), "scaled_fp8": ("F8_E4M3", (0,))}, {}, "fp8 scaled"),
        ({"x.weight": ("F8_E4M3", (10**8, 10)), "x.scale_weight": ("F32", ())}, {}, "fp8 scaled"),
        ({"x.weight": ("I8", (10**8, 10)), "x.comfy_quant": ("U8", (20,))}, {}, "quantised by ComfyUI (int8)"),
        ({}, {"_quantization_metadata": '{"layers": {"x": {"format": "nvfp4"}}}'}, "quantised: nvfp4"),
        ({}, {"_quantization_metadata": "[5]"}, "float16"),
        ({"x.qweight": ("I8", (5, 5)), "x.wscales": ("F16", (5, 5))}, {}, "quantised by Nunchaku"),
        ({"x.weight.quant_state.bitsandbytes__nf4": ("U8", (5,))}, {}, "quantised by bitsandbytes"),
    ],
)
def test_how_a_network_is_stored_is_told(extra, metadata, note):
    told = facts(FLUX | extra, metadata)
    assert (told["family"], told["notes"]) == ("Flux 1 schnell", [note])


def test_a_gguf_is_named_by_the_same_tensors(tmp_path):
    tensors = [(key, shape, 1, 2 * prod(shape)) for key, (_, shape) in FLUX.items()]
    size = sum(entry[3] for entry in tensors)
    (tmp_path / "a.gguf").write_bytes(gguf(tensors, [], size))
    (one,) = scan(tmp_path)
    assert (one.kind, one.family, one.notes, one.size) == ("diffusion model", "Flux 1 schnell", ("GGUF F16",), size)


@pytest.mark.parametrize(
    ("tensors", "family"),
    [
        ({"emb_params": ("F32", (8, 768))}, "SD 1"),
        ({"emb_params": ("F32", (8, 1024))}, "SD 2"),
        ({"<cat>": ("F32", (768,))}, "SD 1"),
        ({"clip_l": ("F32", (8, 768)), "clip_g": ("F32", (8, 1280))}, "SDXL"),
    ],
)
def test_embeddings_are_named(tensors, family):
    told = facts(tensors)
    assert (told["kind"], told["family"]) == ("embedding", family)
    assert facts(tensors | {"another": ("F32", (8, 768))})["kind"] == (
        "embedding" if len(tensors) == 2 else "unknown"
    )


def test_a_model_of_inkwash_is_one_line(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/system.json").write_text('{"system": "pictures"}')
    write(tmp_path / "mine/unet/x.safetensors", SD1)
    assert lines(tmp_path) == {"mine": ("model of inkwash", "pictures", "")}


def test_an_environment_of_python_is_passed_over(tmp_path):
    write(tmp_path / "venv/lib/x.safetensors", SD1)
    (tmp_path / "venv/pyvenv.cfg").touch()
    assert scan(tmp_path) == []


def test_memory_is_what_the_system_says():
    assert 1 << 28 < memory() < 1 << 45


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "a.lora_down.weight", "a.lora_up.weight", "a.hada_w1_a", "a.hada_w1_b", "a.hada_w2_a", "a.hada_w2_b", "a.lokr_w1",
    "a.lokr_w2_a", "a.lokr_w2_b", "a.lokr_w1_a", "a.oft_blocks", "a.dora_scale", "emb_params", "<x>", "clip_l",
    "input_blocks.0.0.weight", "model.embed_tokens.weight", "x.comfy_quant", *FLUX, *SD1,
]  # fmt: skip
SAID = ["ss_tag_frequency", "ss_resolution", "_quantization_metadata", "modelspec.trigger_phrase", "x"]
SIZES = st.lists(st.integers(0, 2**70) | st.sampled_from([0, 1, 4, 320, 768, 3072]) | JSON, max_size=5)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F16", "F4", "other"]) | JSON,
        "shape": SIZES | JSON,
        "data_offsets": st.just([0, 0]) | JSON,
    }
)
METADATA = st.dictionaries(st.sampled_from(SAID), JSON.map(json.dumps) | JSON, max_size=3)


@given(st.dictionaries(st.sampled_from(NAMES), ENTRY | JSON, max_size=6), METADATA | JSON)
def test_whatever_a_header_holds_is_one_line(tmp_path_factory, entries, metadata):
    folder = tmp_path_factory.getbasetemp() / "any header"
    folder.mkdir(exist_ok=True)
    head = json.dumps({**entries, "__metadata__": metadata}).encode()
    (folder / "a.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    found = scan(folder)
    assert len(found) == 1 and _clean(_line(found[0], found, 10**9)).isprintable()


def test_metadata_of_numbers_that_are_none_are_passed_over(tmp_path):
    write(tmp_path / "a.safetensors", LORA, {"ss_tag_frequency": '{"x": {"y": Infinity}}'})
    assert scan(tmp_path)[0].notes == ("rank 8", "2 modules")
