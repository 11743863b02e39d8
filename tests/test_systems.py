"""`inkwash.load` of every system's models."""

import pytest
import torch

import inkwash
from inkwash.errors import UserError
from inkwash.systems.pictures.request import Generate

NONE = "cuda" if not torch.cuda.is_available() else "mps"


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan")])
def test_a_number_beyond_all_floats_is_refused(value):
    with pytest.raises(UserError, match=r"guidance = .*: a number is needed"):
        Generate(prompt="x", guidance=value)


@pytest.mark.parametrize("name", ["emoji", "exchange", "e2e"])
@pytest.mark.parametrize(
    ("machine", "says"),
    [
        ({"device": "foo"}, "unknown device 'foo': choose from: cpu, cuda, mps"),
        ({"device": NONE}, f"device '{NONE}' is not available here: choose cpu"),
        ({"device": f"{NONE}:1"}, f"device '{NONE}:1' is not available here"),
        ({"threads": 0}, "threads = 0: choose a whole number from 1"),
        ({"threads": -1}, "threads = -1"),
        ({"threads": 100_000}, "threads = 100000: choose a whole number from 1 to 1024"),
        ({"threads": 1.5}, "threads = 1.5"),
    ],
)
def test_a_machine_that_is_not_there_is_said(name, machine, says):
    with pytest.raises(UserError) as caught:
        inkwash.load(name, **machine)
    assert str(caught.value).startswith(says)
