"""By ONNX Runtime the same pictures as by torch, and no torch is loaded for them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.cli import main
from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.systems.restoration.cascade import Cascade
from inkwash.systems.restoration.editor import Editor
from inkwash.systems.restoration.levels import to_network
from inkwash.systems.restoration.upscaler import Upscaler
from tests.systems.restoration.toy import cascade, editor, picture, upscaler

pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def upscaling(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "larger"
    upscaler(factor=3).save(folder)
    assert main(["export", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def editing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "edit"
    editor().save(folder)
    assert main(["export", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "kinds"
    cascade().save(folder)
    assert main(["export", str(folder)]) == 0
    return folder


def test_graphs_draw_what_torch_draws(drawing):
    graphs, other = Cascade.load(drawing), Cascade.load(drawing, runtime="torch")
    assert (graphs.runtime, other.runtime) == ("onnx", "torch")
    for options in ({"noise_level": 0.0}, {"noise_level": 0.2}, {"truncated": True}):
        made, expected = (model.draw([0, 1], [5, 6], **options) for model in (graphs, other))
        for one, known in zip(made, expected, strict=True):
            np.testing.assert_allclose(one, known, atol=1e-4)


@pytest.mark.parametrize("size", [(4, 6), (7, 5), (15, 27)])
@pytest.mark.parametrize("options", [{"noise_level": 0.3}, {"project": True}])
def test_graphs_enlarge_as_torch_does(size, options, upscaling):
    """Whole, of odd sides, and by windows."""
    graphs, other = Upscaler.load(upscaling), Upscaler.load(upscaling, runtime="torch")
    assert (graphs.runtime, other.runtime) == ("onnx", "torch")
    low = to_network(picture(1, *size), 255)
    low = low[..., : size[0] // 2 * 2, : size[1] // 2 * 2]
    expected = other.enlarge(torch.from_numpy(low), [7], **options)
    np.testing.assert_allclose(graphs.enlarge(low, [7], **options), expected, atol=1e-4)


@pytest.mark.parametrize("engine", ["diffusion", "plain"])
def test_graphs_of_weights_that_were_trained_on_answer_with_these(engine, upscaling, tmp_path):
    """Weights are put in when a graph is loaded: a training that goes on needs no new export."""
    upscaler(seed=5, factor=3, engine=engine).save(tmp_path)
    (tmp_path / "network.onnx.gz").write_bytes((upscaling / "network.onnx.gz").read_bytes())
    graphs, other = Upscaler.load(tmp_path), Upscaler.load(tmp_path, runtime="torch")
    low = picture(2, 9, 11, bits=16)
    made, expected = (model.upscale(low, seed=1).astype(int) for model in (graphs, other))
    assert np.abs(made - expected).max() <= 8  # of 65535


@pytest.mark.parametrize(("height", "width"), [(16, 16), (21, 50)])
def test_graphs_edit_as_torch_does(height, width, editing):
    graphs, other = Editor.load(editing), Editor.load(editing, runtime="torch")
    given, hole = picture(3, height, width, bits=16), np.zeros((height, width))
    hole[4:11, 3:12] = 1
    for task, options in (("inpaint", {"mask": hole}), ("uncrop", {"outpaint": 0.2}), ("restore", {})):
        found, expected = (model.edit(given, task, seed=2, **options) for model in (graphs, other))
        assert np.abs(found.samples.astype(int) - expected.samples.astype(int)).max() <= 8
        np.testing.assert_allclose(found.spread, expected.spread, atol=1e-4)


def test_without_graphs_they_are_asked_for(tmp_path):
    editor().save(tmp_path)
    assert Editor.load(tmp_path).runtime == "torch"
    with pytest.raises(UserError, match=r"network.onnx.gz: no such file; write it with `inkwash export`"):
        Editor.load(tmp_path, runtime="onnx")


def test_pictures_are_made_without_torch_and_their_recipes_say_by_what(upscaling, editing, drawing, tmp_path):
    photo, out = upscaling.parent / "one photo.png", ["-o", str(tmp_path / "out")]
    Image.fromarray(picture()).save(photo)
    words = [
        ["upscale", str(photo), "--model", str(upscaling), *out],
        ["edit", str(photo), "--model", str(editing), "--task", "restore", *out],
        ["cascade", "generate", "--kind", "disc", "--seed", "3", "--model", str(drawing), *out],
    ]
    code = "import sys\nfrom inkwash.cli import main\n"
    code += f"assert [main(one) for one in {words!r}] == [0, 0, 0]\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for name in ("one photo-x3-1.png", "one photo-restore-1.png", "disc-3.png"):
        assert read_recipe(tmp_path / "out" / name)["runtime"] == "onnx"
    made = str(tmp_path / "out" / "one photo-x3-1.png")
    assert main(["again", made, "--inputs", str(photo.parent)]) == 0
