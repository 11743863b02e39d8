"""What a model answers: the picture and the seed decide, the backbone looks once, all steps count."""

import numpy as np
import pytest
import torch

from inkwash import diffusion
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Prediction
from inkwash.diffusion.samplers import StepResult
from inkwash.errors import UserError
from inkwash.systems.detection import model as module
from inkwash.systems.detection.calibration import calibrated
from inkwash.systems.detection.model import DetectionModel, renewal
from tests.systems.detection.toy import facts, model, shapes
from tests.systems.segmentation.test_model import calls

PICTURES = [shapes(i)[0] for i in range(3)]


@pytest.mark.parametrize(("boxes", "steps", "samples"), [(5, 1, 1), (20, 4, 1), (8, 2, 3)])
def test_the_backbone_sees_a_picture_once_whatever_the_boxes_steps_and_samples(boxes, steps, samples):
    made = model()
    backbone, head = calls(made.network.backbone, "forward"), calls(made.network.head, "forward")
    found = made.detect(PICTURES[0], boxes=boxes, steps=steps, samples=samples)
    assert len(backbone) == 1 and len(head) == steps * samples
    assert 0 < len(found.boxes) <= 2 * boxes * steps * samples  # both are free, without training anew


@pytest.mark.parametrize("asked", [{"boxes": 0}, {"steps": 0}, {"samples": -1}])
def test_none_of_a_thing_is_no_default(asked):
    (name,) = asked
    with pytest.raises(UserError, match=f"{name} = {asked[name]}: choose a whole number from 1"):
        model().detect(PICTURES[0], **asked)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("engine", ["diffusiondet", "fcos"])
def test_a_batch_has_the_boxes_of_its_pictures_one_by_one(engine, samples):
    made = model(engine=engine)
    together = made.detect_all(PICTURES, seed=5, samples=samples)
    for picture, found in zip(PICTURES, together, strict=True):
        alone = made.detect(picture, seed=5, samples=samples)
        assert len(alone.boxes) > 5 and alone.kinds.tolist() == found.kinds.tolist()  # in the same order
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-4 * 48, rtol=0)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4, rtol=0)


def test_the_first_picture_of_a_batch_does_not_decide_for_the_others():
    """Renewal looks at each: with another picture in front, the same boxes."""
    made = model()
    one, other = made.detect_all([PICTURES[0], PICTURES[2]]), made.detect_all([PICTURES[1], PICTURES[2]])
    np.testing.assert_allclose(one[1].boxes, other[1].boxes, atol=1e-3)
    assert one[0].boxes.shape != other[0].boxes.shape or abs(one[0].boxes - other[0].boxes).max() > 0.1


def test_pictures_of_several_sizes_come_back_in_their_order():
    made = model()
    pictures = [PICTURES[0], shapes(5, (30, 60))[0], PICTURES[1]]
    for picture, found in zip(pictures, made.detect_all(pictures), strict=True):
        np.testing.assert_allclose(found.boxes, made.detect(picture).boxes, atol=1e-3)


def test_the_seed_decides():
    made = model()
    one, again, other = (made.detect(PICTURES[0], seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.boxes, again.boxes)
    assert one.boxes.shape != other.boxes.shape or abs(one.boxes - other.boxes).max() > 0.1


def a_step(s, sure, noise):
    logits = torch.where(sure, 2.0, -2.0)[:, None, :, None]
    prediction = Prediction(torch.zeros(2, 4, 4), None, {"logits": logits})
    process = diffusion.Gaussian(diffusion.cosine())
    return renewal(StepResult(torch.full((2, 4, 4), 7.0), process.at(0.8), process.at(s), prediction), noise)


def test_renewal_draws_boxes_that_are_not_sure_from_their_picture_s_own_noise():
    sure = torch.tensor([[True, False, True, False], [False, True, True, True]])
    found = a_step(0.5, sure, Noise([3, 9], (4, 4), device="cpu"))
    assert (found[sure] == 7).all()
    for row, seed in enumerate((3, 9)):
        fresh = Noise([seed], (4, 4), device="cpu").normal()[0]
        assert torch.equal(found[row][~sure[row]], fresh[~sure[row]])


def test_renewal_leaves_the_last_step_and_draws_nothing_there():
    noise = Noise([3, 9], (4, 4), device="cpu")
    assert a_step(0.0, torch.zeros(2, 4, dtype=torch.bool), noise) is None
    assert noise == Noise([3, 9], (4, 4), device="cpu")


def test_the_boxes_of_all_steps_are_together(monkeypatch):
    made, seen = model(), []
    joined = module.joined
    monkeypatch.setattr(module, "joined", lambda parts: seen.append(len(parts)) or joined(parts))
    made.detect(PICTURES[0], steps=4)
    assert seen == [4]  # the last one, too


def test_boxes_are_in_the_picture_s_pixels_and_within_it():
    made = model()
    large = np.kron(PICTURES[0], np.ones((3, 3, 1), np.uint8))
    small, found = made.detect(PICTURES[0]), made.detect(large)
    assert (found.boxes >= 0).all() and (found.boxes[:, 2:] <= [48 * 3, 40 * 3]).all()
    assert (small.boxes[:, 2:] <= [48, 40]).all() and (small.boxes[:, 2:] > small.boxes[:, :2]).all()
    assert found.boxes.max() > 100  # and not those of the picture as the network sees it


def test_scores_are_calibrated_and_their_order_stays():
    plain, found = model().detect(PICTURES[0]), model(calibration=[0.5, -1.0]).detect(PICTURES[0])
    np.testing.assert_allclose(found.scores, calibrated(plain.scores, 0.5, -1.0), atol=1e-6)
    np.testing.assert_array_equal(found.boxes, plain.boxes)
    assert (np.diff(found.scores) <= 0).all()
    half = found.above(float(np.median(found.scores)))
    assert 0 < len(half.boxes) < len(found.boxes) and half.spread is None
    assert half.scores.min() >= np.median(found.scores)


def test_several_samples_say_how_far_boxes_are_spread():
    found = model().detect(PICTURES[0], samples=4)
    assert found.spread.shape == found.boxes.shape and (found.spread >= 0).all() and found.spread.max() > 0
    assert set(np.round(found.found * 4, 5)) <= {1.0, 2.0, 3.0, 4.0}
    assert model().detect(PICTURES[0]).spread is None


def test_it_is_saved_and_loaded_as_it_is(tmp_path):
    made = model(choices={"abc": "p1"}, ids=[3, 90])
    made.save(tmp_path)
    again = DetectionModel.load(tmp_path)
    assert again.config == made.config and again.hash is not None
    for name, value in made.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[name], value, atol=2e-3, rtol=1e-3)  # float16


def test_facts_name_all_that_is_needed():
    found = facts()
    del found["calibration"]
    with pytest.raises(KeyError, match="calibration"):
        DetectionModel.build(found)


@pytest.mark.parametrize("picture", [np.zeros((2, 2), np.uint8), np.full((5, 300), 7, np.uint16), np.eye(40)])
def test_any_picture_has_an_answer(picture):
    found = model().detect(picture)
    assert np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()


@pytest.mark.parametrize("shape", [(20, 30, 4), (20,), (0, 30, 3), (1, 30)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(UserError, match="the picture: "):
        model().detect(np.zeros(shape, np.uint8), steps=1)
    with pytest.raises(UserError, match="not finite"):
        model().detect(np.full((20, 30), np.nan), steps=1)
