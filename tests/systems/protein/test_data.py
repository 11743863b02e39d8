"""Chains are read whole or refused, selected by shape, and kept with their kin when they are split."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.protein import data
from inkwash.systems.protein.data import Chain
from tests.systems.protein import made
from tests.systems.protein.chains import REAL, chains, globule, save

needs_data = pytest.mark.skipif(not REAL.is_file(), reason="the chains lie beside the repository")


def helix(length: int) -> np.ndarray:
    """A rod: CA of an ideal helix, 1.5 angstrom a residue."""
    turn = np.deg2rad(100) * np.arange(length)
    ca = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], 1)
    return np.stack([ca - 0.8, ca, ca + 0.8], 1).astype(np.float32)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    written = chains(5)
    for a, b in zip(written, data.load_chains(save(tmp_path / "a.npz", written)), strict=True):
        assert a.name == b.name and (a.atoms == b.atoms).all()


def broken(**changes: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {"names": np.array(["1ABC_A", "2ABC_A"]), "offsets": np.array([0, 4, 9]), "ncac": np.ones((9, 3, 3))}
    return arrays | changes


@pytest.mark.parametrize(
    "arrays",
    [
        broken(offsets=np.array([0, 4])),
        broken(offsets=np.array([0, 4, 8])),
        broken(offsets=np.array([0, 9, 9])),
        broken(offsets=np.array([1, 4, 9])),
        broken(ncac=np.ones((9, 4, 3))),
        broken(ncac=np.full((9, 3, 3), np.nan)),
        broken(seq=np.full(8, 65, np.uint8)),
        {"names": np.array(["1ABC_A"])},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=r"a\.npz"):
        data.load_chains(tmp_path / "a.npz")


def test_what_is_no_table_of_chains_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no chains")
    for path in (tmp_path / "a.txt", tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match=str(path)):
            data.load_chains(path)


def test_a_folder_of_structures_is_read(tmp_path: Path) -> None:
    """Every chain of every PDB file; a missing atom leaves a gap that no training takes."""
    pytest.importorskip("biotite")
    atoms = globule(20)
    for name, letters, missing in (("b", "A", None), ("a_1", "AB", 30)):
        lines = []
        for letter in letters:
            for i, (x, atom) in enumerate(zip(atoms.reshape(-1, 3), 20 * ["N", "CA", "C"], strict=True)):
                place = "".join(f"{value:8.3f}" for value in x)
                if i != missing:
                    residue = f"ATOM  {i + 1:5d}  {atom:<3s} ALA {letter}{i // 3 + 1:4d}    "
                    lines.append(f"{residue}{place}  1.00  0.00           {atom[0]}")
        (tmp_path / f"{name}.pdb").write_text("\n".join([*lines, "END"]) + "\n")
    (tmp_path / "notes.txt").write_text("not a structure")
    read = data.load_chains(tmp_path)
    assert [(chain.name, chain.sequence) for chain in read] == [(n, "A" * 20) for n in ("a_1_A", "a_1_B", "b_A")]
    assert np.allclose(read[2].atoms, atoms, atol=1e-3)
    assert [data.compact(chain) for chain in read] == [False, False, True]
    assert len({len(part) for part in data.split(read[:2])}) == 2  # of one file, so together


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    pytest.importorskip("biotite")
    (tmp_path / "below").mkdir()
    made.save(tmp_path / "a.pdb", made.lines(5))
    made.save(tmp_path / "below" / "dna.pdb", [made.atom("P", "DA", "A", 1, (0, 0, 0))])
    (tmp_path / "z.cif").write_text("no structure")
    notes: list[str] = []
    assert [chain.name for chain in data.load_chains(tmp_path, notes.append)] == ["a_A"]
    first = f"{tmp_path}/below/dna.pdb: no amino acids in it; a PDB or mmCIF file of a protein is needed"
    assert notes == [f"left out, 2 files that cannot be read: below/dna.pdb, z.cif; of the first: {first}"]
    (tmp_path / "a.pdb").unlink()
    with pytest.raises(UserError, match=r"none of its files can be read; of the first: .*dna\.pdb: no amino acids"):
        data.load_chains(tmp_path)


def test_which_chains_are_left_out_and_why_is_said() -> None:
    """The first reason counts: a rod that is too long is too long."""
    gap, torn = globule(30), globule(31)
    gap[7, 2] = np.nan
    torn[15:] += 9
    atoms = [globule(30), globule(9), helix(101), gap, torn, helix(60), helix(61), globule(20), globule(100)]
    given = [Chain(f"{i}ABC_A", x) for i, x in enumerate(atoms)]
    notes: list[str] = []
    assert [chain.name[0] for chain in data.usable(given, 20, 100, notes.append)] == ["0", "7", "8"]
    assert notes == [
        "left out, fewer than 20 residues: 1 chain, 1ABC_A",
        "left out, more than 100 residues: 1 chain, 2ABC_A",
        "left out, N, CA or C of a residue missing: 1 chain, 3ABC_A",
        "left out, broken, CA 4.2 A or more apart: 1 chain, 4ABC_A",
        "left out, not compact: 2 chains, 5ABC_A, 6ABC_A",
    ]


def test_rods_and_broken_chains_are_not_compact() -> None:
    """The radius of an ideal helix of n residues is about 1.5 n / sqrt(12): above the limit from 40 residues on."""
    assert data.radius_of_gyration(helix(60)[:, 1]) == pytest.approx(1.5 * 60 / 12**0.5, rel=0.01)
    assert not data.compact(Chain("1ABC_A", helix(60)))
    whole = globule(60)
    assert data.compact(Chain("1ABC_A", whole))
    torn = whole.copy()
    torn[30:] += [0, 0, 1.0]
    torn[30:] += 4.3 * (whole[30, 1] - whole[29, 1]) / 3.8 - (torn[30, 1] - whole[29, 1])
    assert not data.compact(Chain("1ABC_A", torn))
    assert not data.compact(Chain("1ABC_A", np.where(np.arange(60)[:, None, None] == 7, np.nan, whole)))


# of three entries, by two sequences of the third
@example(
    [(16, "B", "O"), (30, "B", "K"), (15, "B", "L"), (15, "B", "L"), (2, "A", "N"), (2, "C", "O"), (2, "C", "K")]
)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ABC"), st.sampled_from("KLMNO")), max_size=60))
def test_kin_stay_together_in_any_order(drawn: list[tuple[int, str, str]]) -> None:
    """Chains of an entry, of a sequence, and so on: no two parts share an entry or a sequence."""
    made = [Chain(f"{entry}_{name}", np.zeros((1, 3, 3)), letter * (entry % 7)) for entry, name, letter in drawn]
    parts = data.split(made)
    assert sorted(c.name for part in parts for c in part) == sorted(c.name for c in made)
    for key in (lambda c: c.name.split("_")[0], lambda c: c.sequence or c.name):
        of = [{key(chain) for chain in part} for part in parts]
        assert not (of[0] & of[1] or of[0] & of[2] or of[1] & of[2])
    names = [sorted(chain.name for chain in part) for part in data.split(made[::-1])]
    assert names == [sorted(chain.name for chain in part) for part in parts]


def test_the_shares_of_a_split() -> None:
    shares = [len(part) / 3000 for part in data.split(chains(3000, 1, 1))]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_windows_are_compact_stretches_of_their_chains() -> None:
    whole = [Chain("1ABC_A", globule(60), "".join(map(chr, range(65, 125)))), Chain("2ABC_A", globule(22))]
    found = data.windows(whole, 20, 30)
    assert [window.name for window in found] == ["1ABC_A"] and data.compact(found[0])
    start = ord(found[0].sequence[0]) - 65
    assert 20 <= len(found[0].sequence) <= 30
    assert (found[0].atoms == whole[0].atoms[start : start + len(found[0].sequence)]).all()


def test_points_are_centred_in_nm() -> None:
    chain = chains(1)[0]
    for atoms, own in ((3, chain.atoms.reshape(-1, 3)), (1, chain.atoms[:, 1])):
        x = data.points(chain, atoms)
        assert abs(x.mean(0)).max() < 1e-6
        assert np.allclose(x - x[0], (own - own[0]) / 10, atol=1e-6)


def test_batches_are_of_alike_lengths_and_all_chains_come() -> None:
    lengths = np.arange(20, 101)
    batch = data.batches_by_length(lengths, 8, seed=3)
    seen = [batch(k) for k in range(400)]
    assert all(np.ptp(lengths[rows]) <= 8 for rows in seen) and set(np.concatenate(seen)) == set(range(81))
    assert all((a == b).all() for a, b in zip(seen[:5], map(batch, range(5)), strict=True))
    pairs = np.array([(lengths[rows] ** 2).sum() for rows in seen]) / 64**2
    assert 0.6 * 8 < pairs.mean() < 1.5 * 8


@needs_data
def test_the_data_set() -> None:
    """As its source says: 2,004 chains of 20 to 100 residues, of which about half are no rods."""
    read = data.load_chains(REAL)
    lengths = [len(chain.atoms) for chain in read]
    assert (len(read), min(lengths), max(lengths)) == (2004, 20, 100)
    assert all(len(chain.sequence) == len(chain.atoms) for chain in read)
    kept = [chain for chain in read if data.compact(chain)]
    assert [len(part) for part in data.split(kept)] == [789, 125, 210]
