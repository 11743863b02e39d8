"""Predictions are found under the names that each predictor gives, and what is none is said."""

from pathlib import Path

import pytest

from inkwash.errors import UserError
from inkwash.systems.protein.predicted import predictions

COLABFOLD = "{}_{}_rank_{:03d}_alphafold2_ptm_model_{}_seed_000.pdb"
NAMES = ["out-0", "out-0-1", "My.motif_2", "x_model"]


def found(*files, names=NAMES, notes=None):
    chosen = predictions([Path("p") / file for file in files], names, [].append if notes is None else notes.append)
    return {design: str(file.relative_to("p")) for design, file in chosen.items()}


@pytest.mark.parametrize(
    "files",
    [
        ["out-0-3.pdb"],
        [COLABFOLD.format("out-0-3", "unrelaxed", 1, 4), COLABFOLD.format("out-0-3", "relaxed", 1, 4),
         COLABFOLD.format("out-0-3", "unrelaxed", 2, 1)],
        [COLABFOLD.format("out-0-3", "relaxed", 1, 4), COLABFOLD.format("out-0-3", "relaxed", 10, 4)],
        [f"fold_out_0_3/fold_out_0_3_model_{i}.cif" for i in range(5)],
        ["out-0-3/out-0-3_model.cif", "out-0-3/seed-1_sample-0/out-0-3_seed-1_sample-0_model.cif"],
        ["out-0-3/out-0-3_model.cif", "out-0-3/seed-1_sample-0/model.cif", "out-0-3/seed-1_sample-1/model.cif"],
        [f"boltz_results_all/predictions/out-0-3/out-0-3_model_{i}.pdb" for i in (0, 1, 10)],
        [f"out-0-3/pred.model_idx_{i}.cif" for i in range(5)],
        [f"out-0-3/ranked_{i}.pdb" for i in range(5)],
    ],
)  # fmt: skip
def test_the_first_of_each_predictors_files_is_taken(files):
    for order in (files, files[::-1]):
        notes = []
        assert found(*order, notes=notes) == {("out-0", 3): files[0]}
        assert notes == ([f"left out: {len(files) - 1} more files of the same designs, of lower rank, relaxed, or "
                          "there twice"] if files[1:] else [])  # fmt: skip


def test_small_letters_and_other_signs_are_the_same_name():
    assert found("fold_my_motif_2_7_model_0.cif") == {("My.motif_2", 7): "fold_my_motif_2_7_model_0.cif"}
    assert found("my.motif_2-7_model.cif") == {("My.motif_2", 7): "my.motif_2-7_model.cif"}


def test_of_two_backbones_that_are_one_in_such_names_neither_is_guessed():
    notes = []
    files = ["a-b-1.pdb", "fold_a_b_2_model_0.cif"]
    assert found(*files, names=["a-b", "a_b"], notes=notes) == {("a-b", 1): "a-b-1.pdb"}
    assert notes == ["left out, as no design's names: fold_a_b_2_model_0.cif"]


def test_names_that_end_like_a_predictors_are_their_own():
    assert found("x_model-3.pdb") == {("x_model", 3): "x_model-3.pdb"}
    assert found("x_model-3_model_0.cif") == {("x_model", 3): "x_model-3_model_0.cif"}
    assert found("out-0-1-2.pdb", "out-0-1.pdb") == {("out-0-1", 2): "out-0-1-2.pdb", ("out-0", 1): "out-0-1.pdb"}


@pytest.mark.parametrize("file", ["other-1.pdb", "out-0.pdb", "model.cif", "templates/ranked_0.pdb", "out-0-3_x.pdb"])
def test_what_is_no_design_is_no_prediction(file):
    with pytest.raises(UserError, match=r"none is a prediction of these backbones; .* My\.motif_2-1"):
        found(file)
    notes = []
    assert found(file, "out-0-4.pdb", notes=notes) == {("out-0", 4): "out-0-4.pdb"}
    assert notes == [f"left out, as no design's names: {Path(file).name}"]
