"""What a model of crystals narrows, read from its facts without loading it."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from inkwash.errors import UserError
from inkwash.systems import systems
from inkwash.systems.base import File, narrow, plan
from inkwash.systems.crystals.request import Generate

FACTS = {
    "system": "crystals", "engine": "joint", "elements": ["Ba", "Ti", "O"], "atoms": {"5": 9, "10": 1},
    "properties": {"gap": {}, "heat_ref": {}}, "network": {"width": 8, "layers": 1}, "steps": 60, "guidance": 2.0,
}  # fmt: skip
VERBS = systems()["crystals"].verbs


def folder_of(tmp_path, **facts):
    (tmp_path / "system.json").write_text(json.dumps(FACTS | facts))
    save_file({"weight": np.ones((100, 100), "f4")}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"atoms": 200}, "from 5 to 10"),
        ({"minimise": "heat"}, "did you mean heat_ref"),
        ({"target": ("gapp=1",)}, "did you mean gap"),
    ],
)
def test_what_the_model_was_not_taught_is_refused(tmp_path, options, words):
    folder = folder_of(tmp_path)
    narrow(VERBS["generate"], Generate(), folder)
    with pytest.raises(UserError, match=words):
        narrow(VERBS["generate"], Generate(**options), folder)


def test_a_model_of_no_property_has_none_to_ask_for(tmp_path):
    folder = folder_of(tmp_path, properties={})
    narrow(VERBS["generate"], Generate(), folder)
    for options in ({"minimise": "gap"}, {"target": ("gap=1",)}):
        with pytest.raises(UserError, match="means nothing with the model"):
            narrow(VERBS["generate"], Generate(**options), folder)


def test_plans_grow_with_work_and_relaxing_and_judging_are_not_foretold(tmp_path):
    folder = folder_of(tmp_path)

    def seconds(verb, **options):
        return plan(VERBS[verb], VERBS[verb].request(**options), folder, "cpu", 1).seconds

    one = seconds("generate", n=1)
    assert seconds("generate", n=100) == pytest.approx(100 * one)
    assert seconds("generate", n=1, steps=120) == pytest.approx(2 * one)
    assert seconds("generate", n=1, relax=True) is None
    assert seconds("generate", n=4, atoms=5) == pytest.approx(one)
    assert seconds("evaluate", data=File("0", "a.csv")) is None
