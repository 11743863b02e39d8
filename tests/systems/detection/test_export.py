"""By ONNX Runtime the same boxes as by torch, and no torch is loaded for them."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.systems.detection.data import read_data
from inkwash.systems.detection.model import DetectionModel
from tests.systems.detection.toy import NETWORK, folder, model, shapes

pytest.importorskip("onnxscript")
KINDS = {"diffusiondet": {}, "fcos": {"engine": "fcos", "network": NETWORK | {"levels": 1}}}
PICTURES = [shapes(i)[0] for i in range(3)] + [shapes(3, size)[0] for size in ((30, 60), (120, 50))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of each kind a model that is exported."""
    found = {kind: tmp_path_factory.mktemp("models") / kind for kind in KINDS}
    for kind, place in found.items():
        model(**KINDS[kind]).save(place)
        assert main(["export", str(place)]) == 0
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"boxes": 30, "steps": 1, "seed": 5}, {"samples": 3, "steps": 2}])
def test_graphs_answer_as_torch_does(kind, options, folders):
    """Alone and together, whatever the number of boxes and the size of the pictures."""
    graphs, torch = DetectionModel.load(folders[kind]), DetectionModel.load(folders[kind], runtime="torch")
    assert (graphs.runtime, torch.runtime) == ("onnx", "torch")
    together = graphs.detect_all(PICTURES, **options)
    for picture, found, expected in zip(PICTURES, together, torch.detect_all(PICTURES, **options), strict=True):
        assert len(expected.boxes) > 3 and found.kinds.tolist() == expected.kinds.tolist()
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(graphs.detect(picture, **options).boxes, found.boxes, atol=1e-2)
    if kind == "diffusiondet" and "samples" in options:
        np.testing.assert_allclose(together[0].found, torch.detect(PICTURES[0], **options).found)


def test_a_training_that_ends_beside_graphs_saves_what_its_scores_mean(folders, tmp_path):
    pytest.importorskip("pycocotools")
    from inkwash.systems.detection.train import finish

    shutil.copytree(folders["diffusiondet"], tmp_path / "model")
    finish(tmp_path / "model", read_data(folder(tmp_path / "data", 3)).examples)
    assert DetectionModel.load(tmp_path / "model").runtime == "onnx"


def test_a_model_of_graphs_is_not_saved(folders, tmp_path):
    with pytest.raises(UserError, match=r"cannot be saved: load it with runtime torch"):
        DetectionModel.load(folders["fcos"]).save(tmp_path)


def test_boxes_are_found_without_torch_and_the_recipe_says_by_what(folders, tmp_path):
    picture = folders["diffusiondet"].parent / "one.png"
    Image.fromarray(PICTURES[0]).save(picture)
    words = ["detect", str(picture), "--model", str(folders["diffusiondet"])]
    words += ["-o", str(tmp_path / "out"), "--samples", "2", "--threshold", "0.1"]
    code = f"import sys\nfrom inkwash.cli import main\nassert main({words!r}) == 0\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    overlay = tmp_path / "out" / "one-overlay.png"
    assert read_recipe(overlay)["runtime"] == "onnx"
    assert main(["again", str(overlay), "--inputs", str(picture.parent)]) == 0
    assert main([*words, "--runtime", "torch"]) == 0
    assert read_recipe(tmp_path / "out" / "one-overlay-2.png")["runtime"] == "torch"
