"""The best model of a training is kept, and no other."""

import json
import math

import pytest
from torch import nn

from inkwash.diffusion import DiffusionError
from inkwash.errors import UserError
from inkwash.systems.best import finite_samples, keep_best, save_best
from inkwash.systems.torch_model import TorchModel


class Line(TorchModel):
    system = "line"

    def __init__(self):
        self.network, self.config = nn.Linear(1, 1), {"other": 1}

    def facts(self):
        return self.config


@pytest.mark.parametrize(
    ("lower", "scores", "kept"),
    [
        (False, [math.nan, 0.5, 0.4, 0.5, 0.6], [0, 0.5, 0.5, 0.5, 0.6]),
        (True, [math.nan, 0.5, 0.6, 0.5, 0.4], [0, 0.5, 0.5, 0.5, 0.4]),
    ],
)
def test_the_best_so_far_is_kept_and_a_score_that_is_no_number_is_not(lower, scores, kept, tmp_path):
    model, best = Line(), tmp_path / "best"
    for step, (score, expected) in enumerate(zip(scores, kept, strict=True)):
        before = keep_best(model, best, step, "figure", score, lower, at=step)
        if not expected:
            assert before is None and not best.exists()
            continue
        facts = json.loads((best / "system.json").read_text())
        assert facts["best"]["figure"] == expected and before == (None if facts["at"] == step else expected)
        assert facts["other"] == 1 and scores[facts["best"]["step"]] == expected
    model.network.weight.data += 1
    save_best(model, best, tmp_path / "model")
    for name in ("model.safetensors", "system.json"):
        assert (tmp_path / "model" / name).read_bytes() == (best / name).read_bytes()


def test_before_there_is_a_best_one_the_model_is_saved_as_it_is(tmp_path):
    save_best(Line(), tmp_path / "best", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").exists() and not (tmp_path / "best").exists()


def test_samples_that_are_not_finite_are_one_line():
    with pytest.raises(UserError, match=r"step 7: samples are not finite \(inf\): lower learning_rate"), \
            finite_samples(7):  # fmt: skip
        raise DiffusionError("inf")
