"""The cache: what stands in it is not computed again, and nothing of another's is touched."""

from pathlib import Path

import numpy as np
import pytest

from inkwash.errors import UserError
from inkwash.systems.crystals.cache import cached, content
from inkwash.systems.crystals.data import Crystal


def crystal(length: float, name: str = "") -> Crystal:
    return Crystal(length * np.eye(3), np.zeros((1, 3)), np.array([6]), {}, name)


def test_each_content_is_computed_once(tmp_path: Path) -> None:
    calls: list[float] = []

    def compute(of: Crystal) -> list[float]:
        calls.append(of.lattice[0, 0])
        return [of.lattice[0, 0], 1 / 3]

    file = tmp_path / "deep" / "numbers.jsonl"
    crystals = [crystal(2), crystal(3), crystal(2, "the same by another name")]
    first = cached(crystals, compute, file, "lengths")
    assert first == [[2, 1 / 3], [3, 1 / 3], [2, 1 / 3]] and calls == [2, 3]
    assert cached([crystal(3), crystal(4)], compute, file, "lengths") == [[3, 1 / 3], [4, 1 / 3]]
    assert calls == [2, 3, 4]


def test_a_line_that_was_not_written_to_its_end_is_computed_again(tmp_path: Path) -> None:
    file = tmp_path / "numbers.jsonl"
    cached([crystal(2), crystal(3)], lambda of: of.lattice[0, 0], file, "lengths")
    file.write_text(file.read_text()[:-5])
    assert cached([crystal(2), crystal(3)], lambda of: -1, file, "lengths") == [2, -1]
    assert cached([crystal(2), crystal(3)], lambda of: 0, file, "lengths") == [2, -1]


@pytest.mark.parametrize("text", ["a diary\n", '{"of crystals": "widths"}\n'])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "numbers.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=r"numbers\.jsonl"):
        cached([crystal(2)], lambda of: 1, file, "lengths")
    assert file.read_text() == text


def test_content_is_of_atoms_and_cell() -> None:
    one = crystal(3)
    assert content(one) == content(one._replace(properties={"gap": 1.0}, coordinates=-np.zeros((1, 3))))
    others = [
        crystal(3.001),
        one._replace(numbers=np.array([7])),
        one._replace(coordinates=np.full((1, 3), 0.001)),
    ]
    assert len({content(each) for each in [one, *others]}) == 4
