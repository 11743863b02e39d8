"""Weights that stay in their file."""

import gc
import mmap
import re
import struct
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inkwash.errors import UserError
from inkwash.weights.mapped import map_tensors, release

TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int64, torch.uint8)


@pytest.fixture
def file(tmp_path):
    tensors = {str(i): torch.randn(3, 5).mul(40).to(dtype) for i, dtype in enumerate(TYPES)}
    save_file(tensors | {"none": torch.zeros(0, 4), "one": torch.tensor(7.0)}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_every_bit_is_that_of_the_file(file):
    found, expected = map_tensors(file)[0], load_file(file)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype)
        assert torch.equal(found[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_what_does_not_begin_where_its_numbers_must_is_read_too(file):
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    file.write_bytes(struct.pack("<Q", length + 3) + data[8 : 8 + length] + b"   " + data[8 + length :])
    assert torch.equal(map_tensors(file)[0]["0"], load_file(file)["0"])


def test_what_is_written_never_reaches_the_file_and_is_forgotten_on_release(tmp_path):
    file, count = tmp_path / "w.safetensors", 10_000
    save_file({name: torch.zeros(count) for name in "abc"}, file)
    before, tensors = file.read_bytes(), map_tensors(file)[0]
    for tensor in tensors.values():
        tensor.add_(1)
    assert tensors["b"].sum() == count and file.read_bytes() == before
    release(tensors["b"])
    assert tensors["a"].sum() == tensors["c"].sum() == count  # though they share its first and last page
    if hasattr(mmap, "MADV_DONTNEED"):
        assert tensors["b"].sum() <= 2 * mmap.PAGESIZE / 4


def test_release_touches_nothing_that_is_no_file(file):
    mapped, own = map_tensors(file)[0], torch.ones(5000)
    release(own)
    assert own.sum() == 5000 and mapped["one"] == 7


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_pages_are_resident_only_from_use_to_release(tmp_path):
    def resident():
        return int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1000

    save_file({"a": torch.ones(16_000_000), "b": torch.ones(16_000_000)}, tmp_path / "w.safetensors")  # 64 MB each
    gc.collect()  # what other tests have mapped
    before = resident()
    tensors = map_tensors(tmp_path / "w.safetensors")[0]
    assert resident() - before < 4
    assert tensors["a"].sum() == 16_000_000
    assert 60 < resident() - before < 70
    release(tensors["a"])
    assert resident() - before < 4
    tensors["b"].sum()
    del tensors
    assert resident() - before < 4


def test_what_is_no_whole_file_of_known_numbers_is_refused(file, tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors: no such file"):
        map_tensors(tmp_path / "none.safetensors")
    data = file.read_bytes()
    file.write_bytes(data[:-8])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        map_tensors(file)
    file.write_bytes(data.replace(b'"F64"', b'"U64"'))
    with pytest.raises(UserError, match="3 has numbers of the type U64"):
        map_tensors(file)
