"""What files of proteins say of themselves, and what they are compared by."""

import json

import numpy as np
import pytest

from inkwash.errors import UserError
from inkwash.systems.protein import contigs, output
from inkwash.systems.protein.files import read_chains
from inkwash.systems.protein.recorded import REMARK, recorded

RECIPE = {"contig": "4-8/P255-258/6 " * 20, "model": 'my "模型";\n; data_', "seed": 7, "motif": {"name": "a b.pdb"}}


def written(file, recipe, shift=0.0):
    steps = np.cumsum(np.full((8, 3), 2.2), 0) + shift
    chain = steps[:, None] + np.array([[-1.2, 0.3, 0], [0, 0, 0], [1.2, -0.4, 0.5]])
    output.write_backbone(file, chain, recipe)
    return file


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_a_structure_gives_its_recipe_back_and_is_read_as_before(kind, tmp_path):
    file = written(tmp_path / f"a.{kind}", RECIPE)
    found = recorded(file)
    assert found.recipe == RECIPE and found.suffix == f".{kind}"
    assert len(read_chains(file)["A"].labels) == 8
    assert all(len(line) <= 80 for line in file.read_text().splitlines() if line.startswith(REMARK))
    assert contigs.header(file) is None  # its remarks are no motif's
    assert recorded(written(tmp_path / f"b.{kind}", RECIPE | {"seed": 8})).content == found.content
    assert recorded(written(tmp_path / f"c.{kind}", RECIPE, 0.001)).content != found.content


def test_the_figures_of_a_run_give_its_recipe_back_and_are_compared_without_it(tmp_path):
    def saved(rows, name="a.json"):
        (tmp_path / name).write_text(json.dumps(rows))
        return recorded(tmp_path / name)

    rows = [{"seed": 1, "rg": 9.5}, {"seed": 2, "rg": 9.7}]
    found = saved([row | {"recipe": RECIPE} for row in rows])
    assert found.recipe == RECIPE and found.content == rows
    for other in ([], {}, [1], rows, {"recipe": {}}, "words"):
        assert saved(other) is None


def test_what_has_no_recipe_and_what_has_a_broken_one(tmp_path):
    file = written(tmp_path / "a.pdb", RECIPE)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(REMARK)))
    assert recorded(file) is None
    of = [i for i, line in enumerate(lines) if line.startswith(REMARK)]
    file.write_text("".join(lines[: of[-1]] + lines[of[-1] + 1 :]))
    with pytest.raises(UserError, match="its recipe is broken"):
        recorded(file)
