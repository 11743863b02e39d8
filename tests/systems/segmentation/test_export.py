"""By ONNX Runtime the same masks as by torch, and no torch is loaded for them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.systems.segmentation.model import SegmentationModel
from tests.systems.segmentation.cells import cells
from tests.systems.segmentation.toy import NETWORK, model

pytest.importorskip("skimage")
pytest.importorskip("onnxscript")
PICTURE = cells(0, 44)[0]
KINDS = {
    "segdiff": {},
    "plain": {"engine": "plain", "members": 2},
    "beside": {"network": NETWORK | {"condition": "concat"}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_answer_as_torch_does(kind, tmp_path):
    model(**KINDS[kind]).save(tmp_path)
    assert main(["export", str(tmp_path)]) == 0
    graphs, torch = SegmentationModel.load(tmp_path), SegmentationModel.load(tmp_path, runtime="torch")
    assert (graphs.runtime, torch.runtime) == ("onnx", "torch")
    for size in (44, 100):  # whole, and by windows
        picture = cells(1, size)[0]
        np.testing.assert_allclose(graphs.draw(picture, 3, seed=5), torch.draw(picture, 3, seed=5), atol=1e-4)
    found, expected = graphs.segment(PICTURE, seed=1), torch.segment(PICTURE, seed=1)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-4)
    with pytest.raises(UserError, match=r"cannot be saved: load it with runtime torch"):
        graphs.save(tmp_path / "copy")
    with pytest.raises(UserError, match=r"runtime onnx knows the CPU only"):
        SegmentationModel.load(tmp_path, device="cuda", runtime="onnx")


def test_few_steps_are_learned_by_graphs_too(tmp_path):
    model().save(tmp_path / "toy")
    assert main(["export", str(tmp_path / "toy")]) == 0
    Image.fromarray(PICTURE).save(tmp_path / "one.png")
    assert (
        main(["tune", str(tmp_path / "toy"), "--data", str(tmp_path / "one.png"), "--samples", "8", "--steps", "2"])
        == 0
    )
    assert (tmp_path / "toy" / "tables.json").is_file()


def test_without_graphs_they_are_asked_for(tmp_path):
    model().save(tmp_path)
    assert SegmentationModel.load(tmp_path).runtime == "torch"
    with pytest.raises(UserError, match=r"network-0.onnx.gz: no such file; write it with `inkwash export`"):
        SegmentationModel.load(tmp_path, runtime="onnx")


def test_a_picture_is_segmented_without_torch_and_its_recipe_says_by_what(tmp_path):
    model().save(tmp_path / "toy")
    assert main(["export", str(tmp_path / "toy")]) == 0
    Image.fromarray(PICTURE).save(tmp_path / "one.png")
    words = ["segment", str(tmp_path / "one.png"), "--model", str(tmp_path / "toy"), "-o", str(tmp_path / "out")]
    code = f"import sys\nfrom inkwash.cli import main\nassert main({words!r}) == 0\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert read_recipe(tmp_path / "out" / "one-mask.png")["runtime"] == "onnx"
    assert main(["again", str(tmp_path / "out" / "one-mask.png"), "--inputs", str(tmp_path)]) == 0
    assert main([*words, "--runtime", "torch", "--json"]) == 0
    assert json.loads(json.dumps(read_recipe(tmp_path / "out" / "one-mask-2.png")))["runtime"] == "torch"
