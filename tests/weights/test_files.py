"""Weights survive a round trip, and every broken file is refused in one line."""

import pickle

import pytest
import torch
from torch import nn

from inkwash.errors import UserError
from inkwash.weights.files import atomic, load_into, load_tensors, save_tensors


def test_round_trip(tmp_path):
    tensors = {"a": torch.randn(3, 4), "steps": torch.arange(3), "empty": torch.zeros(0, 2)}
    tensors["view"] = tensors["a"].T  # shares memory and is not contiguous
    save_tensors(tmp_path / "new" / "w.safetensors", tensors, {"made": "here"})
    found, metadata = load_tensors(tmp_path / "new" / "w.safetensors")
    assert metadata == {"made": "here"}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.half() if tensor.is_floating_point() and len(tensor) else tensor
        assert torch.equal(found[name], expected)
        assert found[name].dtype == expected.dtype
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["w.safetensors"]


def test_what_is_exact_stays_in_its_own_precision(tmp_path):
    a = torch.randn(5, dtype=torch.float64)
    save_tensors(tmp_path / "w.safetensors", {"a": a}, exact=["a"])
    assert torch.equal(load_tensors(tmp_path / "w.safetensors")[0]["a"], a)


def test_a_module_is_filled_in_its_own_precision(tmp_path):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    save_tensors(tmp_path / "w.safetensors", source.state_dict(), {"k": "v"})
    assert load_into(target, tmp_path / "w.safetensors") == {"k": "v"}
    assert target.weight.dtype == torch.float32
    assert torch.equal(target.weight, source.weight.half().float())


def test_what_is_not_finite_is_not_written(tmp_path):
    for value in (torch.inf, torch.nan):
        with pytest.raises(UserError, match=r"'bad' is not finite as torch.float32"):
            save_tensors(tmp_path / "w.safetensors", {"bad": torch.tensor([1.0, value])})
    assert list(tmp_path.iterdir()) == []


def test_what_float16_does_not_have_and_facts_stay_float32(tmp_path):
    tensors = {"big": torch.tensor([1.0, 1e6]), "small": torch.tensor([0.0, 3e-7]), "fact": torch.tensor([1234.567])}
    weights = {"weight": torch.tensor([1e-9, 0.5]), "zero": torch.zeros(2)}
    save_tensors(tmp_path / "w.safetensors", {**tensors, **weights}, exact=["fact"])
    found = load_tensors(tmp_path / "w.safetensors")[0]
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert all(found[name].dtype == torch.float16 for name in weights)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "f.json").write_text("old")
    with pytest.raises(RuntimeError), atomic(tmp_path / "f.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("f.json", "old")]


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_broken_files(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(UserError, match="no such file"):
        load_tensors(path)
    for save in (
        lambda: torch.save({"a": Trap()}, path),
        lambda: torch.save({"a": Trap()}, path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(pickle.dumps(Trap())),
    ):
        save()
        with pytest.raises(UserError, match="only safetensors are loaded: a pickle can run code"):
            load_tensors(path)
    save_tensors(path, {"a": torch.ones(100)})
    whole = path.read_bytes()
    for length in (0, 4, 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="not a whole safetensors file") as caught:
            load_tensors(path)
        assert "\n" not in str(caught.value)


def test_a_header_that_looks_like_a_pickle_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    for pad in range(300):
        save_tensors(path, {"a": torch.ones(2)}, {"pad": "x" * pad})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert load_tensors(path)[0]["a"].tolist() == [1, 1]


def test_wrong_names_and_shapes(tmp_path):
    path, module = tmp_path / "w.safetensors", nn.Linear(3, 2)
    before = module.weight.clone()
    for tensors, message in (
        ({"weight": torch.ones(2, 3)}, "lacks bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "x": torch.ones(1)}, "has unexpected x"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "has wrong shapes for weight"),
    ):
        save_tensors(path, tensors)
        with pytest.raises(UserError, match=message):
            load_into(module, path)
    assert torch.equal(module.weight, before)


def test_all_shipped_weights_together_fit_into_one_wheel():
    """At most 95 MB, so that the package can be published."""
    from inkwash.weights.shipped import FOLDER

    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 95e6
