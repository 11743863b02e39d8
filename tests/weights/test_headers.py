import json
import os
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from inkwash.errors import UserError
from inkwash.weights.headers import Pickle, Tensor, read_header


def safetensors(head: bytes, data: int = 0) -> bytes:
    return len(head).to_bytes(8, "little") + head + bytes(data)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_header(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(tensors: list[tuple[str, tuple[int, ...], int, int]], fields: list[tuple[str, bytes]], data: int) -> bytes:
    """tensors: name, shape as torch has it, type, bytes."""
    content = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    for name, value in fields:
        content += string(name) + value
    at = 0
    for name, shape, kind, size in tensors:
        content += string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        content += struct.pack("<IQ", kind, at)
        at += size
    return content + bytes(-len(content) % 32 + data)


def test_safetensors_are_read_as_its_own_library_wrote_them(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"x": np.zeros((3, 4), np.float16), "y": np.zeros(5, np.float32)}, file, metadata={"k": "v"})
    header = read_header(file)
    assert dict(header.tensors) == {"x": Tensor("F16", (3, 4)), "y": Tensor("F32", (5,))}
    assert (header.metadata, header.size, header.sizes) == ({"k": "v"}, 44, {"F16": 24, "F32": 20})


def test_gguf_is_read_with_types_shapes_and_the_shapes_before_it_was_flattened(tmp_path):
    file = tmp_path / "a.gguf"
    original = struct.pack("<IIQ3i", 9, 5, 3, 4, 64, 1)  # a list of int32
    words = struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b")
    fields = [("general.architecture", struct.pack("<I", 8) + string("flux")), ("tokens", words)]
    fields.append(("comfy.gguf.orig_shape.b", original))
    file.write_bytes(gguf([("a", (2, 32), 2, 36), ("b", (256,), 12, 144)], fields, 180))
    header = read_header(file)
    assert header.tensors == {"a": Tensor("Q4_0", (2, 32)), "b": Tensor("Q4_K", (4, 64, 1))}
    assert header.sizes == {"Q4_0": 36, "Q4_K": 144}
    assert header.metadata == {"general.architecture": "flux"}
    file.write_bytes(file.read_bytes()[:-1])
    assert "half-downloaded" in refused(file)


@pytest.mark.parametrize("size", [2**60, 2**63, 2**64 - 1, 10**9])
def test_a_header_that_cannot_be_is_refused_before_it_is_read(tmp_path, size):
    file = tmp_path / "a.safetensors"
    file.write_bytes(size.to_bytes(8, "little") + b'{"x":')
    assert f"a header of {size:,} bytes in a file of 13" in refused(file)


def test_files_that_end_too_early_say_how_many_bytes_are_there(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"x": np.zeros((30, 40), np.float32)}, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert f"half-downloaded: {len(whole) - 1:,} of {len(whole):,} bytes" in refused(file)
    file.write_bytes(whole[:20])
    assert "half-downloaded or broken" in refused(file)
    file.write_bytes(b"")
    assert refused(file).startswith("empty")
    file.write_bytes(b"abc")
    assert "neither safetensors nor GGUF" in refused(file)


def test_a_zip_and_a_pickle_are_named_and_not_opened(tmp_path):
    file = tmp_path / "a.safetensors"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    with pytest.raises(Pickle, match="a pickle, which can run code: not opened"):
        read_header(file)
    file.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(Pickle):
        read_header(file)


@pytest.mark.parametrize(
    "head",
    [
        b"{",
        b"[]  ",
        b'{"x": 1}',
        b'{"x": {"dtype": "F16", "shape": [4], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F16", "shape": ["4"], "data_offsets": [0, 8]}}',
        b'{"x": {"dtype": ["F16"], "shape": [1], "data_offsets": [0, 8]}}',
        b'{"x": {"dtype": "F16", "shape": [1], "data_offsets": [-8, 0]}}',
        b'{"x": {"dtype": "F16", "shape": [1000000000000, "abcd"], "data_offsets": [0, 8]}}',  # a text of 4 TB
        b'{"x": {"dtype": "F16", "shape": [1000000000000, [1]], "data_offsets": [0, 8]}}',
        b'{"x": {"dtype": "F16", "shape": [' + b"9, " * 100_000 + b'9], "data_offsets": [0, 8]}}',
        b'{"x": {"dtype": "F16", "shape": [1], "data_offsets": [0, 1e999]}}',
        b'{"x": {"dtype": "F16", "shape": [1], "data_offsets": [0]}}',
        b'{"__metadata__": 5}',
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_broken_headers_are_refused_in_one_line(tmp_path, head):
    file = tmp_path / "a.safetensors"
    file.write_bytes(safetensors(head, 8))
    refused(file)


@given(
    content=st.binary(max_size=200),
    magic=st.sampled_from([b"", b"GGUF", b"GGUF\x03\x00\x00\x00", b"\x20" + bytes(7) + b"{"]),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, magic):
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(magic + content)
    try:
        read_header(file)
    except UserError as error:
        assert "\n" not in str(error)


def test_a_gguf_whose_counts_are_absurd_ends_at_its_end(tmp_path):
    file = tmp_path / "a.gguf"
    for kind in (8, 9):  # a list of texts, a list of lists
        field = string("x") + struct.pack("<IIQ", 9, kind, 2**60)
        file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60) + field + bytes(1000))
        refused(file)
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**60))
    assert "ends within its header" in refused(file)


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    pipe, link = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "nowhere")
    assert refused(pipe) == "no regular file"
    assert refused(link).startswith("cannot be read (No such file")


def test_a_header_of_a_large_file_is_read_without_its_weights(tmp_path):
    file = tmp_path / "a.safetensors"
    entry = {"dtype": "F16", "shape": [2**20, 2**20], "data_offsets": [0, 2**41]}
    head = json.dumps({"x": entry}).encode()
    with file.open("wb") as opened:
        opened.write(safetensors(head))
        try:
            opened.truncate(8 + len(head) + 2**41)
        except OSError:
            pytest.skip("this file system holds no file of 2 TB, even an empty one")
    assert read_header(file).size == 2**41
