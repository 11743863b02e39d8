"""What a model says without torch."""

import subprocess
import sys
from dataclasses import replace

import pytest

from inkwash.systems import plans, systems
from inkwash.systems.base import File, Limit, UserError, limits, narrow, plan
from inkwash.systems.segmentation.limits import operations
from inkwash.systems.segmentation.request import Segment
from inkwash.weights.files import WEIGHTS
from tests.systems.segmentation.toy import model

VERB = systems()["segmentation"].verbs["segment"]
REQUEST = Segment(model="toy", pictures=File("0" * 64, "a.png"))


def test_defaults_are_the_model_s_and_a_plain_one_has_no_samples(tmp_path):
    model().save(tmp_path / "noisy")
    model(engine="plain").save(tmp_path / "plain")
    found = limits(VERB, tmp_path / "noisy")
    assert found["samples"] == Limit(default=3) and found["steps"].default == 3 and found["flips"].absent
    narrow(VERB, REQUEST, tmp_path / "plain")
    with pytest.raises(UserError, match="samples means nothing with the model plain"):
        narrow(VERB, replace(REQUEST, samples=5), tmp_path / "plain")
    with pytest.raises(UserError, match="flips means nothing with the model noisy"):
        narrow(VERB, replace(REQUEST, flips=True), tmp_path / "noisy")


def test_a_plan_grows_with_what_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "speed", lambda: 1e10)
    model().save(tmp_path)

    def seconds(request):
        return plan(VERB, request, tmp_path, "cpu", 1).seconds

    once = seconds(REQUEST)
    assert seconds(replace(REQUEST, samples=9)) == pytest.approx(3 * once)
    assert seconds(replace(REQUEST, steps=6)) == pytest.approx(2 * once)
    assert seconds(replace(REQUEST, pictures=(REQUEST.pictures,) * 4)) == pytest.approx(4 * once)
    assert plan(VERB, REQUEST, tmp_path, "cuda", 1).seconds is None


def test_the_work_of_a_network_is_about_what_torch_counts(tmp_path):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from inkwash.systems.segmentation.networks import SegmentationNetwork

    made = model()
    made.config["network"] = made.config["network"] | {"widths": [16, 24, 32, 32]}
    network = SegmentationNetwork(**made.config["network"])
    made.network.networks[0] = network
    made.save(tmp_path)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 2, 64, 64), torch.zeros(1), network.encode(torch.zeros(1, 3, 64, 64)))
    assert 2 * operations(tmp_path / WEIGHTS, 4) * 64**2 == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_room_is_imported_without_torch():
    code = """
import sys
import inkwash.systems.segmentation, inkwash.systems.segmentation.limits, inkwash.systems.segmentation.request
assert not {"torch", "scipy", "skimage"} & {*sys.modules}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
