"""Contigs name the residues that RFdiffusion and Genie2 would take, and whatever does not fit is named."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.protein import contigs
from inkwash.systems.protein.contigs import Segment, choose_lengths, draw_gaps, find_motif, header, parse_contig
from inkwash.systems.protein.files import read_chains
from tests.systems.protein import made

TARGETS = Path(__file__).parents[4] / "shared" / "data" / "proteins" / "motif_targets" / "genie2_design25"
TOO_LONG = {"5trv_long", "6e6r_long", "6exz_long", "7mrx_128"}


@pytest.fixture
def helix(tmp_path):
    """Residues 160 to 181 of chain A, and 5 to 9 of chain P."""
    text = made.lines(22, first=160) + made.lines(5, chain="P", first=5)
    return made.save(tmp_path / "motif.pdb", text)


def motif(path, contig, note=None):
    return find_motif(parse_contig(contig, note), read_chains(path), path.name, note)


def test_both_ends_of_a_segment_and_of_a_gap_are_in_it(helix):
    found = motif(helix, "10-30/A163-181/5")
    assert found.labels == tuple(f"A{n}" for n in range(163, 182))
    assert found.gaps == ((10, 30), (5, 5))
    assert found.span() == (34, 54)
    assert found.indices((10, 5)).tolist() == list(range(10, 29))
    assert found.contig((10, 5)) == "10/A163-181/5"
    assert np.allclose(found.coordinates, made.backbone(22)[0][3:], atol=6e-4)
    assert choose_lengths(found, (34, 34), 100) == (34, 34)
    assert choose_lengths(found, (54, 60), 100) == (54, 54)


def test_a_single_residue_is_written_twice_and_once_is_said(helix):
    notes = []
    assert motif(helix, "5/A170-170/5", notes.append).labels == ("A170",)
    assert not notes
    assert motif(helix, "5/A170/5", notes.append).labels == ("A170",)
    assert notes == ["contig: A170 is read as A170-170, the form that RFdiffusion needs"]


@pytest.mark.parametrize(("chain", "written"), [("1", "1:"), (" ", ":"), ("A", "A"), ("A", "A:")])
def test_a_chain_of_any_name_can_be_meant(tmp_path, chain, written):
    path = made.save(tmp_path / "motif.pdb", made.lines(12, chain=chain, first=-2))
    found = motif(path, f"3/{written}-1-4/2-8/{written}7-8")
    own = "A" if chain == "A" else written
    assert found.labels == tuple(f"{own}{n}" for n in (-1, 0, 1, 2, 3, 4, 7, 8))
    text = found.contig((3, 5, 1))
    assert text == f"3/{own}-1-4/5/{own}7-8/1"
    assert motif(path, text).labels == found.labels
    with pytest.raises(UserError, match=f"there is no {own}99; chain .* has -2-9"):
        motif(path, f"{written}7-99")


def test_how_a_chain_called_by_a_digit_is_written_is_said(tmp_path):
    path = made.save(tmp_path / "motif.pdb", made.lines(12, chain="1"))
    with pytest.raises(UserError, match=r"chain 1 \(in contigs 1:\) has 1-12"):
        motif(path, "5/A3-6/5")
    with pytest.raises(UserError, match=r"no residues of a motif in it; .* a chain 1 as 1:163-181"):
        motif(path, "5/13-16/5")


def test_a_header_may_have_a_chain_called_by_a_digit(tmp_path):
    """Without its colon 13-6 would be a number of new residues."""
    text = ["REMARK 999 INPUT      5   5", "REMARK 999 INPUT  1   3   6", *made.lines(12, chain="1")]
    path = made.save(tmp_path / "motif.pdb", text)
    assert header(path) == ("5-5/1:3-6", "")
    assert motif(path, header(path)[0]).labels == ("1:3", "1:4", "1:5", "1:6")


def test_segments_keep_the_order_of_the_contig(helix):
    found = motif(helix, "3/A178-180/4-9/A161-162/20-30/P6-6")
    assert found.labels == ("A178", "A179", "A180", "A161", "A162", "P6")
    assert found.sizes == (3, 2, 1)
    native = {n: place for n, place in zip(range(160, 182), made.backbone(22)[0], strict=True)}
    expected = [native[n] for n in (178, 179, 180, 161, 162)] + [made.backbone(5)[0][1]]
    assert np.allclose(found.coordinates, expected, atol=6e-4)
    assert found.gaps[0] == (3, 3)
    assert found.contig((3, 8, 21, 0)) == "3/A178-180/8/A161-162/21/P6-6"
    assert parse_contig(found.contig((3, 8, 21, 0))).segments == parse_contig("A178-180/A161-162/P6-6").segments
    assert found.indices((3, 8, 21, 0)).tolist() == [3, 4, 5, 14, 15, 37]


def test_brackets_and_gaps_side_by_side_are_read():
    assert parse_contig("['5-7/3/a10-12/B-2-4']") == parse_contig("8-10/a10-12/B-2-4")
    assert parse_contig("B-2-4").segments == (Segment("B", "-2", "4"),)
    assert parse_contig("H52a-52B/4").segments == (Segment("H", "52A", "52B"),)


@pytest.mark.parametrize(
    ("contig", "reason"),
    [
        ("10-30/X/10-30", "'X' is neither a number of residues nor a part of a chain"),
        ("10-a/A163-170", "'10-a' is neither"),
        ("10-30/A163-A170/5", "'A163-A170' is neither"),
        ("10-30//A163-170", "'' is neither"),
        ("", "'' is neither"),
        ("30-10/A163-170", "30-10 runs backwards; write 10-30"),
        ("10-30", "no residues of a motif in it"),
        ("10-30/A163-170/0 B1-50", "a chain break"),
        ("5/B163-170/5", r"B163-170 of the contig is not there: chain A has 160-181; chain P has 5-9"),
        ("5/A150-170/5", "there is no A150; chain A has 160-181"),
        ("5/A170-190/5", "there is no A190; chain A has 160-181"),
        ("5/A170-163/5", "A170-163 of the contig runs backwards; write A163-170"),
        ("5/A163-170/5/A168-172/5", "A168, A169, A170 would be there twice"),
        ("5/A163-163/A165-165/5", r"from A163 to A165 are 5\.\d A; give the contig 1 residues or more between"),
        ("50/A163-170/50", "the contig makes chains of 108 residues; the model makes at most 100"),
    ],
)
def test_a_contig_that_does_not_fit_says_why(helix, contig, reason):
    with pytest.raises(UserError, match=reason) as caught:
        choose_lengths(motif(helix, contig), None, 100)
    assert "\n" not in str(caught.value)


def test_a_broken_motif_is_refused_with_a_contig_that_would_do(tmp_path):
    text = [line for line in made.lines(22, first=160) if line[22:26].strip() not in ("170", "171")]
    path = made.save(tmp_path / "gap.pdb", text)
    with pytest.raises(UserError, match=r"A169 and A172 are not bound to each other \(2 missing between\)") as caught:
        motif(path, "5/A163-181/5")
    advice = str(caught.value).partition("made there, ")[2]
    assert advice == "A163-169/2/A172-181"
    assert motif(path, f"5/{advice}/5").gaps[1] == (2, 2)
    with pytest.raises(UserError, match="there is no A170; chain A has 160-169, 172-181"):
        motif(path, "5/A163-170/5")


def test_a_chain_that_is_broken_without_a_missing_number_is_refused(tmp_path):
    far = [line[:30] + f"{float(line[30:38]) + 9:8.3f}" + line[38:] for line in made.lines(5, first=6)]
    path = made.save(tmp_path / "torn.pdb", made.lines(5) + far)
    with pytest.raises(UserError, match="A5 and A6 are not bound to each other"):
        motif(path, "5/A3-8/5")


def test_numbers_that_a_whole_chain_skips_are_said(tmp_path):
    text = made.lines(3) + [line[:22] + f"{int(line[22:26]) + 4:4d}" + line[26:] for line in made.lines(6)[12:]]
    notes = []
    found = motif(made.save(tmp_path / "skips.pdb", text), "5/A2-9/5", notes.append)
    assert found.labels == ("A2", "A3", "A8", "A9")
    assert notes == ["skips.pdb: the numbers A4, A5, A6, A7 are skipped in a whole chain"]


def test_inserted_residues_lie_within_a_segment(tmp_path):
    codes = [("52", " "), ("52", "A"), ("52", "B"), ("53", " ")]
    text = [
        made.atom(name, "SER", "H", number, place, code)
        for (number, code), residue in zip(codes, made.backbone(4)[0], strict=True)
        for name, place in zip(("N", "CA", "C"), residue, strict=True)
    ]
    path = made.save(tmp_path / "antibody.pdb", text)
    assert motif(path, "3/H52-53/3").labels == ("H52", "H52A", "H52B", "H53")
    assert motif(path, "3/H52A-52b/3").labels == ("H52A", "H52B")
    with pytest.raises(UserError, match="there is no H54; chain H has 52-53, 52A, 52B"):
        motif(path, "3/H52-54/3")


def test_a_gap_that_is_too_short_for_its_distance_grows_or_is_refused(helix):
    notes = []
    assert motif(helix, "5/A160-161/0-20/A180-181/5", notes.append).gaps[1] == (7, 20)
    assert notes and "at least 7 residues lie between, not 0" in notes[0]  # 19 residues of helix, 1.5 A each
    with pytest.raises(UserError, match="give the contig 7 residues or more between, it has at most 6"):
        motif(helix, "5/A160-161/0-6/A180-181/5")


@pytest.mark.parametrize("text", ["", "0", "75-50", "fifty", "50-75-80", "-5"])
def test_a_length_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="a number of residues is needed"):
        contigs.parse_length(text)


def test_lengths_beyond_contig_or_model_are_refused_or_said(helix):
    found, notes = motif(helix, "10-60/A163-181/10-60"), []
    for lengths, reason in (((20, 30), "contig makes chains of 39 to 139"), ((101, 120), "makes at most 100")):
        with pytest.raises(UserError, match=reason):
            choose_lengths(found, lengths, 100)
    assert choose_lengths(found, (90, 120), 100, notes.append) == (90, 100)
    assert notes == ["of 90 to 120 residues the model makes 90 to 100"]
    assert choose_lengths(found, (39, 50), 100, notes.append, shortest=45) == (45, 50)
    assert notes[1:] == ["of 39 to 50 residues the model makes 45 to 50"]
    with pytest.raises(UserError, match="the model makes at least 45"):
        choose_lengths(found, (39, 44), 100, shortest=45)


def test_every_choice_of_gaps_that_fits_is_as_likely():
    gaps, low, high = [(0, 3), (2, 4), (0, 2)], 5, 7
    fitting = [c for c in product(*(range(a, b + 1) for a, b in gaps)) if low <= sum(c) <= high]
    drawn = [draw_gaps(gaps, low, high, seed) for seed in range(3000)]
    counts = np.array([drawn.count(choice) for choice in fitting])
    assert counts.sum() == 3000
    expected = 3000 / len(fitting)
    degrees = len(fitting) - 1
    assert ((counts - expected) ** 2 / expected).sum() < degrees + 4 * np.sqrt(2 * degrees)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5), st.integers(0, 99))
def test_gaps_keep_to_their_bounds(pairs, seed):
    gaps = [(a, a + b) for a, b in pairs]
    low, high = sum(a for a, _ in gaps), sum(b for _, b in gaps)
    middle = (low + high) // 2
    chosen = draw_gaps(gaps, middle, high, seed)
    assert all(a <= value <= b for value, (a, b) in zip(chosen, gaps, strict=True))
    assert middle <= sum(chosen) <= high
    assert chosen == draw_gaps(gaps, middle, high, seed)


def test_a_header_is_read_by_its_columns(tmp_path):
    text = [
        "REMARK 999 NAME   1ABC",
        "REMARK 999 INPUT      8  15",
        "REMARK 999 INPUT  A10001003",
        "REMARK 999 INPUT      0   4",
        "REMARK 999 INPUT  b  -3   1",
        "REMARK 999 MINIMUM TOTAL LENGTH      20",
        "REMARK 999 MAXIMUM TOTAL LENGTH      40",
    ]
    path = made.save(tmp_path / "problem.pdb", text)
    assert header(path) == ("8-15/A1000-1003/0-4/b-3-1", "20-40")
    assert parse_contig(header(path)[0]).segments == (Segment("A", "1000", "1003"), Segment("b", "-3", "1"))
    assert header(made.save(tmp_path / "plain.pdb", made.lines(1))) is None


@pytest.mark.parametrize("first", ["REMARK 999", "REMARK 999" + " " * 70])
def test_the_remarks_999_of_the_pdb_itself_begin_with_an_empty_line_and_are_no_contig(tmp_path, first):
    text = [first, "REMARK 999 SEQUENCE", "REMARK 999 THE CONSTRUCT ENDS AT 60", *made.lines(1)]
    assert header(made.save(tmp_path / "entry.pdb", text)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (["REMARK 999 INPUT  A  xx  99"], "is broken"),
        (["REMARK 999 INPUT"], "is broken"),
        (["REMARK 999 INPUT  A  10  20 A", "REMARK 999 INPUT  A  30  40 B"], "motifs that move apart"),
    ],
)
def test_a_header_that_cannot_be_followed_is_refused(tmp_path, text, reason):
    with pytest.raises(UserError, match=reason):
        header(made.save(tmp_path / "bad.pdb", text))


@pytest.mark.skipif(not TARGETS.is_dir(), reason="the motif targets are not here")
def test_of_the_24_targets_20_fit_100_residues_and_the_others_are_refused():
    fitting, sizes = {}, {}
    for file in sorted(TARGETS.glob("*.pdb")):
        contig, length = header(file)
        chains = read_chains(file)
        found = find_motif(parse_contig(contig), chains, file.name)
        every = [f"{name}{label}" for name, chain in chains.items() for label in chain.labels]
        assert found.labels == tuple(every)  # the file holds its motif alone, in the header's order
        sizes[file.stem] = len(found.labels)
        if file.stem in TOO_LONG:
            with pytest.raises(UserError, match=r"length 1\d\d-1\d\d: the model makes at most 100 residues"):
                choose_lengths(found, contigs.parse_length(length), 100)
        else:
            fitting[file.stem] = choose_lengths(found, contigs.parse_length(length), 100)
    assert len(fitting) == 20
    assert (min(sizes.values()), max(sizes.values())) == (3, 59)
    assert fitting["1bcf"] == (96, 100)
    assert fitting["4zyp"] == (35, 50)  # the header says 30, its own parts make 35 at least
    assert fitting["5wn9"] == (40, 50)


@pytest.mark.skipif(not TARGETS.is_dir(), reason="the motif targets are not here")
def test_targets_with_another_order_and_other_chains():
    order = find_motif(parse_contig(header(TARGETS / "1qjg.pdb")[0]), read_chains(TARGETS / "1qjg.pdb"), "")
    assert order.labels == ("A38", "A14", "A99")
    assert order.residues == ("ASN", "TYR", "ASP")
    for name, labels in {"1ycr": ("B19", "B27"), "3ixt": ("P254", "P277")}.items():
        found = find_motif(parse_contig(header(TARGETS / f"{name}.pdb")[0]), read_chains(TARGETS / f"{name}.pdb"), "")
        assert (found.labels[0], found.labels[-1]) == labels
