"""What can be asked of an engine."""

import pytest

from inkwash.errors import UserError
from inkwash.systems.base import File
from inkwash.systems.engines.request import Generate, nearest

FILE = File("0" * 64, "a.png")


def test_several_pictures_are_asked_for_one_by_one():
    parts = Generate(model="qwen", prompt="a fox", n=3, seed=7).subrequests()
    assert [(part.n, part.seed) for part in parts] == [(1, 7), (1, 8), (1, 9)]
    last = Generate(model="qwen", prompt="a fox", n=2, seed=2**32 - 2)
    assert last.subrequests()[-1].seed == 2**32 - 1
    with pytest.raises(UserError, match="seed = 4294967295"):
        Generate(model="qwen", prompt="a fox", n=2, seed=2**32 - 1).subrequests()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 512}, "width and height: give both"),
        ({"width": 500, "height": 512}, "width = 500: choose a multiple of 16 pixels, as 496"),
        ({"width": 512, "height": 2064}, "height = 2064"),
        ({"mask": FILE}, "mask means nothing without an image"),
        ({"seed": 2**32}, "seed = 4294967296"),
        ({"n": 0}, "n = 0"),
    ],
)
def test_what_goes_together(values, message):
    with pytest.raises(UserError, match=message):
        Generate(model="qwen", prompt="a fox", **values)


def test_a_prompt_of_which_nothing_is_seen_is_refused():
    with pytest.raises(UserError, match="the prompt is empty"):
        Generate(model="qwen", prompt=" ").check({})


@pytest.mark.parametrize(("side", "near"), [(1, 16), (16, 16), (23, 16), (25, 32), (1000, 992), (5000, 2048)])
def test_the_nearest_side_that_is_drawn(side, near):
    assert nearest(side) == near
