"""Scores of predictions: made ones, whose deviations are known, under the names that predictors give."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inkwash.cli.context import Local
from inkwash.errors import UserError
from inkwash.systems.base import options
from inkwash.systems.protein import files, score
from inkwash.systems.protein.atoms import to_atoms
from inkwash.systems.protein.chirality import mirrored
from inkwash.systems.protein.design import read_backbones
from inkwash.systems.protein.request_design import Score
from tests.systems.protein.made import SEQUENCE, backbone

pytest.importorskip("tmtools")
CHAIN = backbone(24, np.repeat([-63.0, -120.0, -63.0], 8), np.repeat([-42.0, 130.0, -42.0], 8))[0]
RESIDUES = [SEQUENCE[i % 10] for i in range(24)]
MOTIF = np.isin(np.arange(24), (2, 3, 4, 5, 12, 13))


def write(path, chain=CHAIN, motif=(), plddt=None, residues=RESIDUES):
    """A backbone with its motif marked, or a prediction with pLDDT."""
    atoms = to_atoms(np.asarray(chain), residues)
    atoms.b_factor = (
        np.full(len(atoms), plddt) if plddt is not None else np.isin(atoms.res_id - 1, motif).astype(float)
    )
    files.write(path, atoms)
    return path


def turned(chain):
    return chain @ Rotation.random(rng=3).as_matrix().T + np.array([4.0, -9.0, 20.0])


@pytest.fixture
def folders(tmp_path):
    """Two backbones, the first with a motif; nothing predicted yet."""
    designs, predicted = tmp_path / "designs", tmp_path / "predicted"
    designs.mkdir()
    predicted.mkdir()
    write(designs / "a.pdb", motif=np.flatnonzero(MOTIF))
    write(designs / "b.pdb", CHAIN[:20], residues=RESIDUES[:20])
    return designs, predicted


def scored(folders, note=lambda text: None):
    return {row["name"]: row for row in score.score(folders[1], read_backbones(folders[0], note), note)}


def test_a_perfect_prediction(folders):
    write(folders[1] / "a-1.pdb", turned(CHAIN), plddt=91.5)
    found = scored(folders)["a-1"]
    assert found["scTM"] == pytest.approx(1, abs=1e-3) and found["scRMSD"] == pytest.approx(0, abs=2e-3)
    assert found["motif_RMSD"] == pytest.approx(0, abs=2e-3) and found["pLDDT"] == pytest.approx(91.5)
    assert found["success"] is True and found["motif_atoms"] == "N CA C"


def test_the_mirror_image_is_no_success(folders):
    write(folders[1] / "a-1.pdb", mirrored(CHAIN), plddt=90)
    assert scored(folders)["a-1"]["success"] is False


def test_motif_rmsd_is_of_the_motif_alone_in_both_forms(folders):
    """The scaffold may lie elsewhere; of the motif one CA of six is moved by 3 A, of 18 atoms."""
    moved = CHAIN.copy()
    moved[3, 1] += (3, 0, 0)
    moved[20:] += 15
    write(folders[1] / "a-1.pdb", turned(moved), plddt=70)
    found = scored(folders)["a-1"]
    own, theirs = (x[MOTIF].reshape(-1, 3) for x in (moved, CHAIN))
    _, distance = Rotation.align_vectors(own - own.mean(0), theirs - theirs.mean(0))
    assert found["motif_RMSD"] == pytest.approx(distance / np.sqrt(18), abs=2e-3)
    assert 0 < found["motif_mean_distance"] < 0.8 * found["motif_RMSD"]
    assert found["scRMSD"] > 2 and found["success"] is False


def test_the_motif_alone_can_fail_it(folders):
    moved = CHAIN.copy()
    moved[12:14] += (0, 0, 4.5)
    write(folders[1] / "a-1.pdb", moved, plddt=70)
    found = scored(folders)["a-1"]
    assert found["scTM"] > 0.5 and found["scRMSD"] < 2 and found["motif_RMSD"] > 1 and found["success"] is False


def test_the_first_of_a_predictors_folder_is_scored(folders):
    below = folders[1] / "fold_a_2"
    below.mkdir()
    for model, plddt in ((0, 80.0), (1, 20.0)):
        write(below / f"fold_a_2_model_{model}.cif", plddt=plddt)
    said = []
    assert scored(folders, said.append)["a-2"]["pLDDT"] == pytest.approx(80)
    assert "left out: 1 more files of the same designs, of lower rank, relaxed, or there twice" in said


def test_shares_of_one_are_brought_to_a_hundred(folders):
    write(folders[1] / "a-1.pdb", plddt=0.83)
    assert scored(folders)["a-1"]["pLDDT"] == pytest.approx(83)


def test_b_factors_of_zero_are_no_plddt(folders):
    write(folders[1] / "a-1.pdb", plddt=0.0)
    rows = scored(folders)
    assert rows["a-1"]["pLDDT"] is None
    assert "pLDDT" not in {row["metric"] for row in score.summarize(list(rows.values()))}


def test_mmcif_and_ca_alone(folders):
    write(folders[1] / "a-1.cif", turned(CHAIN), plddt=50)
    write(folders[1] / "a-2.pdb", turned(CHAIN)[:, 1:2], plddt=50)
    found = scored(folders)
    for name, atoms in (("a-1", "N CA C"), ("a-2", "CA")):
        assert found[name]["motif_atoms"] == atoms and found[name]["motif_RMSD"] == pytest.approx(0, abs=2e-3)


def test_a_backbone_without_a_motif_has_no_motif_figures(folders):
    write(folders[1] / "b-1.pdb", CHAIN[:20], residues=RESIDUES[:20], plddt=50)
    found = scored(folders)["b-1"]
    assert found["motif_RMSD"] is None and found["success"] is True


def test_what_is_left_out_is_said(folders):
    write(folders[1] / "a-1.pdb", plddt=50)
    write(folders[1] / "other.pdb", plddt=50)
    said = []
    scored(folders, said.append)
    assert "left out, as no design's names: other.pdb" in said
    assert "no prediction for 1 of 2 backbones: b" in said


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("a-1.pdb", {"chain": CHAIN[:20], "residues": RESIDUES[:20]}, "20 residues; its backbone a has 24"),
        ("a-1.pdb", {"residues": ["GLY"] * 24}, "G at residue 3, where the motif of a has L"),
        ("elsewhere-1.pdb", {}, "none is a prediction of these backbones; their names begin with a-1"),
    ],
)
def test_a_prediction_of_something_else_is_refused(folders, name, changes, message):
    write(folders[1] / name, plddt=50, **changes)
    with pytest.raises(UserError, match=message):
        scored(folders)


def test_a_backbone_succeeds_with_one_of_its_designs(folders):
    write(folders[1] / "a-1.pdb", mirrored(CHAIN), plddt=50)
    write(folders[1] / "a-2.pdb", plddt=50)
    write(folders[1] / "b-1.pdb", mirrored(CHAIN[:20]), residues=RESIDUES[:20], plddt=50)
    figures = {row["metric"]: row for row in score.summarize(list(scored(folders).values()))}
    assert (figures["success"]["value"], figures["success"]["n"]) == (0.5, 2)
    assert (figures["motif RMSD < 1 A"]["value"], figures["motif RMSD < 1 A"]["n"]) == (1.0, 1)
    assert figures["scTM"]["n"] == 3


def test_the_verb_writes_a_table_and_a_report(folders, tmp_path):
    write(folders[1] / "a-1.pdb", plddt=50)
    context = Local(tmp_path)
    chosen = {"predicted": folders[1], "designs": folders[0]}
    request = Score(**{name: context.file(path, options(Score)[name]) for name, path in chosen.items()})
    (result,) = score.run([request], context)
    assert result.files[".csv"].read_text().splitlines()[1].startswith("a-1,a,")
    assert "scTM > 0.5" in result.row["text"] and result.files[".json"].is_file()
