"""What a model narrows, and what is said before it begins."""

import pytest
import torch

from inkwash.errors import UserError
from inkwash.systems.base import File, narrow
from inkwash.systems.detection import SYSTEM
from inkwash.systems.detection.limits import limits, plan
from inkwash.systems.detection.request import Detect
from tests.systems.detection.toy import model

FILE = File("0" * 64, "a.png")


def test_a_model_without_diffusion_has_no_boxes_steps_or_samples(tmp_path):
    model(engine="fcos").save(tmp_path / "fcos")
    model().save(tmp_path / "toy")
    assert limits(tmp_path / "toy")["steps"].default == 3
    for option in ("boxes", "steps", "samples"):
        request = Detect(pictures=FILE, model=str(tmp_path / "fcos"), **{option: 2})
        with pytest.raises(UserError, match=f"{option} means nothing with the model fcos"):
            narrow(SYSTEM.verbs["detect"], request, tmp_path / "fcos")
        narrow(SYSTEM.verbs["detect"], request, tmp_path / "toy")


def test_a_plan_counts_the_work_of_the_backbone_once(tmp_path, monkeypatch):
    """As many products as the layers make: counted at the layers themselves."""
    made = model()
    made.save(tmp_path)
    seen = []
    monkeypatch.setattr("inkwash.systems.plans.seconds", lambda work, *_: seen.append(work) or 1.0)
    for options in ({"steps": 1}, {"steps": 3}, {"steps": 3, "samples": 2}):
        plan(Detect(pictures=FILE, model=str(tmp_path), **options), tmp_path, "cpu", 1)
    work = 0

    def count(layer, inputs, output):
        nonlocal work
        work += 2 * layer.weight.numel() * output[0, 0].numel()

    for layer in made.network.backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    made.network.backbone(torch.zeros(1, 3, 48, 48))
    head = (seen[1] - seen[0]) / 2
    assert seen[2] - seen[1] == pytest.approx(3 * head) and seen[0] - head == pytest.approx(work, rel=0.01)
    two = Detect(pictures=(FILE, File("1" * 64, "b.png")), model=str(tmp_path), steps=1)
    plan(two, tmp_path, "cpu", 1)
    assert seen[3] == pytest.approx(2 * seen[0])
