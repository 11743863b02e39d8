"""Which residues of a file make the motif, in which order, and how many lie between: RFdiffusion's contigs.

"10-30/A163-181/10-30" is a chain of 10 to 30 new residues, residues 163 to 181 of chain A, and 10 to 30 new ones; all
ends are included. A chain whose name is no letters stands before a colon, 1:163-181, since 1163-181 would be new
residues. Genie2's files say the same in lines of REMARK 999, which `header` reads.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.errors import UserError
from inkwash.systems.protein.atoms import own_atoms
from inkwash.systems.protein.chains import CA_BREAK, Chain, bonded, listed

GAP = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
LABEL = r"-?\d{1,5}[A-Za-z]?"
SEGMENT = re.compile(rf"(?:([A-Za-z]+)|([^/:\s]*):)({LABEL})(?:-({LABEL}))?")
CHAIN = re.compile(r"[A-Za-z]+|.*:")  # at the start of a residue's name
LETTERS = string.ascii_letters  # of chains, and of insertion codes
CA_CA = 3.8  # angstrom between neighbours: a chain reaches no farther
FORM = "write it as 10-30/A163-181/10-30"


class Segment(NamedTuple):
    """Residues `first` to `last` of a chain, both included, by their labels in the file ("163", "52A")."""

    chain: str
    first: str
    last: str

    def __str__(self) -> str:
        return f"{name_of(self.chain, self.first)}-{self.last}"


def name_of(chain: str, label: str) -> str:
    """A residue's name: A163, or 1:163 where the chain's is no letters."""
    return f"{chain}{label}" if re.fullmatch("[A-Za-z]+", chain) else f"{chain}:{label}"


class Contig(NamedTuple):
    """S segments, and the least and the most new residues before, between and after them: S + 1 pairs."""

    segments: tuple[Segment, ...]
    gaps: tuple[tuple[int, int], ...]


class Motif(NamedTuple):
    """The residues of a motif, in the contig's order, where they are in the file.

    labels      "A163"
    residues    three letters
    coordinates (M, 3, 3) angstrom, N, CA, C; NaN where the file has none
    atoms       of each residue the atoms that it keeps in a scaffold, biotite AtomArrays
    sizes       of its segments
    gaps        as a contig's; narrower where the segments are too far apart
    """

    labels: tuple[str, ...]
    residues: tuple[str, ...]
    coordinates: np.ndarray
    atoms: tuple[Any, ...]
    sizes: tuple[int, ...]
    gaps: tuple[tuple[int, int], ...]

    def span(self) -> tuple[int, int]:
        """The fewest and the most residues of a whole chain."""
        low, high = (sum(gap[i] for gap in self.gaps) for i in (0, 1))
        return len(self.labels) + low, len(self.labels) + high

    def indices(self, gaps: Sequence[int]) -> np.ndarray:
        """(M,) where in the chain the motif's residues stand, from 0 on, with so many new ones in each gap."""
        starts = np.cumsum([gaps[0], *(size + gap for size, gap in zip(self.sizes, gaps[1:], strict=True))])
        return np.concatenate([start + np.arange(size) for start, size in zip(starts, self.sizes, strict=False)])

    def contig(self, gaps: Sequence[int]) -> str:
        """As text, with so many new residues in each gap."""
        starts = np.cumsum([0, *self.sizes])
        segments = [f"{self.labels[a]}-{CHAIN.sub('', self.labels[b - 1], count=1)}" for a, b in pairwise(starts)]
        parts = [str(gaps[0]), *(part for pair in zip(segments, map(str, gaps[1:]), strict=True) for part in pair)]
        return "/".join(part for part in parts if part != "0")


def parse_contig(text: str, note: Callable[[str], None] | None = None) -> Contig:
    """The contig of such a text, brackets or not. UserError for one that is none."""
    plain = text.strip().strip("[]'\"").strip()
    if re.search(r"\s", plain):
        raise UserError(
            f"contig {text!r}: a space, or a chain break (/0 ), in it; scaffolds are of one chain: {FORM}"
        )
    segments, gaps = list[Segment](), [(0, 0)]
    for part in plain.split("/"):
        if gap := GAP.fullmatch(part):
            low, high = int(gap[1]), int(gap[2] or gap[1])
            if low > high:
                raise UserError(f"contig {text!r}: {part} runs backwards; write {high}-{low}")
            gaps[-1] = gaps[-1][0] + low, gaps[-1][1] + high
        elif segment := SEGMENT.fullmatch(part):
            letters, other, first, last = segment.groups()
            if last is None and note:
                note(f"contig: {part} is read as {part}-{first}, the form that RFdiffusion needs")
            segments.append(Segment(letters or other, first.upper(), (last or first).upper()))
            gaps.append((0, 0))
        else:
            raise UserError(
                f"contig {text!r}: {part!r} is neither a number of residues nor a part of a chain; {FORM}"
            )
    if not segments:
        raise UserError(
            f"contig {text!r}: no residues of a motif in it; {FORM}, those of a chain 1 as 1:163-181, or use `sample`"
        )
    return Contig(tuple(segments), tuple(gaps))


def header(path: Path) -> tuple[str, str] | None:
    """The contig and the lengths that Genie2's lines of REMARK 999 give, as texts; None without such lines.

    Their columns, from 1 on: 19 the chain, empty for new residues; 20-23 and 24-27 first and last, or least and most;
    29 the group of segments that keep their relative place. UserError for several groups.
    """
    parts, ends, groups = list[str](), {"MINIMUM": "", "MAXIMUM": ""}, set[str]()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if words[:2] != ["REMARK", "999"] or len(words) < 3:  # the PDB's own remarks begin with an empty line
            continue
        try:
            if words[2] == "INPUT":
                chain, first, last = line[18:19].strip(), int(line[19:23]), int(line[23:27])
                parts.append(f"{name_of(chain, str(first)) if chain else first}-{last}")
                groups |= {line[28:29].strip()} if chain else set()
            elif words[2:5] in (["MINIMUM", "TOTAL", "LENGTH"], ["MAXIMUM", "TOTAL", "LENGTH"]):
                ends[words[2]] = str(int(words[5]))
        except (ValueError, IndexError):
            raise UserError(f"{path}: the line {line.strip()!r} is broken; give a contig") from None
    if not parts:
        return None
    if len(groups) > 1:
        raise UserError(f"{path}: its header has motifs that move apart; only one can be built into a chain")
    return "/".join(parts), "-".join(filter(None, ends.values()))


def parse_length(text: str) -> tuple[int, int]:
    """(50, 75) of "50-75", (64, 64) of "64". UserError for what is neither."""
    found = GAP.fullmatch(text.strip())
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < low <= high:
        raise UserError(f"length {text!r}: a number of residues is needed, or the fewest and the most: 50-75")
    return low, high


def find_motif(
    contig: Contig, chains: dict[str, Chain], source: str, note: Callable[[str], None] | None = None
) -> Motif:
    """The motif of a contig in the chains of a file, `source` by name.

    UserError for chains and residues that are not there, saying which are; for one that is named twice; for a segment
    that is broken; and for segments that no chain of the length between can join.
    """
    pieces = [_residues(segment, chains, source, note) for segment in contig.segments]
    labels = [name_of(chain.name, chain.labels[i]) for chain, rows in pieces for i in rows]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UserError(f"contig: {listed(twice)} would be there twice; let segments not overlap")
    coordinates = np.concatenate([chain.coordinates[rows] for chain, rows in pieces])
    gaps = _joined(contig, pieces, source, note)
    residues = tuple(chain.residues[i] for chain, rows in pieces for i in rows)
    atoms = tuple(own_atoms(chain, i) for chain, rows in pieces for i in rows)
    return Motif(tuple(labels), residues, coordinates, atoms, tuple(len(rows) for _, rows in pieces), gaps)


def _residues(segment: Segment, chains: dict[str, Chain], source: str, note: Any) -> tuple[Chain, list[int]]:
    """The chain of a segment, and where in it the residues are."""
    of = f"{source}: {segment} of the contig"
    if segment.chain not in chains:
        there = "; ".join(f"{called(name)} has {spans(chain)}" for name, chain in chains.items())
        raise UserError(f"{of} is not there: {there}")
    chain, ends = chains[segment.chain], (segment.first, segment.last)
    where = {label: i for i, label in enumerate(chain.labels)}
    for end in ends:
        if end not in where:
            raise UserError(f"{of}: there is no {name_of(chain.name, end)}; {called(chain.name)} has {spans(chain)}")
    first, last = map(_number, ends)
    if first > last:
        raise UserError(f"{of} runs backwards; write {segment._replace(first=segment.last, last=segment.first)}")
    rows = list(range(where[segment.first], where[segment.last] + 1))
    numbers = [_number(chain.labels[i]) for i in rows]
    if not rows or numbers != sorted(numbers):
        raise UserError(f"{of} is no run of residues in the file: {called(chain.name)} has {spans(chain)}")
    sound = bonded(chain)
    for i, j in pairwise(rows):
        if not sound[i]:
            a, b = chain.labels[i], chain.labels[j]
            left = max(_number(b) - _number(a) - 1, 0)
            what = f"{name_of(chain.name, a)} and {name_of(chain.name, b)} are not bound to each other"
            what += f" ({left} missing between)" if left else ""
            write = f"{segment._replace(last=a)}/{max(left, 1)}/{segment._replace(first=b)}"
            raise UserError(f"{of}: {what}; let new ones be made there, {write}")
    skipped = sorted(set(range(first, last + 1)) - set(numbers))
    if skipped and note:
        names = listed([name_of(chain.name, str(n)) for n in skipped])
        note(f"{source}: the numbers {names} are skipped in a whole chain")
    return chain, rows


def _joined(contig: Contig, pieces: Sequence[Any], source: str, note: Any) -> tuple[tuple[int, int], ...]:
    """The gaps, each wide enough for the distance of the segments that it lies between."""
    gaps = list(contig.gaps)
    for i, ((a, before), (b, after)) in enumerate(pairwise(pieces), 1):
        apart = float(np.linalg.norm(a.coordinates[before[-1], 1] - b.coordinates[after[0], 1]))
        needed, (low, high) = max(math.ceil((apart - (CA_BREAK - CA_CA)) / CA_CA) - 1, 0), gaps[i]
        ends = name_of(a.name, a.labels[before[-1]]), name_of(b.name, b.labels[after[0]])
        where = f"from {ends[0]} to {ends[1]} are {apart:.1f} A"
        if needed > high:
            raise UserError(
                f"{source}: {where}; give the contig {needed} residues or more between, it has at most {high}"
            )
        if needed > low:
            gaps[i] = needed, high
            if note:
                note(f"{source}: {where}; at least {needed} residues lie between, not {low}")
    return tuple(gaps)


def choose_lengths(
    motif: Motif, lengths: tuple[int, int] | None, longest: int, note: Any = None, shortest: int = 1
) -> tuple[int, int]:
    """The fewest and the most residues of a chain: those of the contig, of `lengths` and of the model, which makes
    `shortest` to `longest`. UserError where none is all."""
    low, high = motif.span()
    made = f"{low} residues" if low == high else f"{low} to {high} residues"
    if low > longest:
        raise UserError(f"the contig makes chains of {made}; the model makes at most {longest}")
    if lengths is not None:
        wanted = f"{lengths[0]}-{lengths[1]}"
        if lengths[0] > longest:
            raise UserError(f"length {wanted}: the model makes at most {longest} residues")
        if lengths[0] > high or lengths[1] < low:
            raise UserError(f"length {wanted}: the contig makes chains of {made}")
        low, high = max(low, lengths[0]), min(high, lengths[1])
    if high < shortest:
        raise UserError(f"the contig makes chains of {low} to {high} residues; the model makes at least {shortest}")
    if (high > longest or low < shortest) and note:
        note(f"of {low} to {high} residues the model makes {max(low, shortest)} to {min(high, longest)}")
    return max(low, shortest), min(high, longest)


def draw_gaps(gaps: Sequence[tuple[int, int]], low: int, high: int, seed: int) -> tuple[int, ...]:
    """How many new residues each gap has: uniform over all choices whose sum lies from `low` to `high`, by the seed.

    UserError where there is none.
    """
    from inkwash.diffusion import Noise

    ways = [[1 if low <= total <= high else 0 for total in range(high + 1)]]  # of the gaps behind, for a sum so far
    for least, most in reversed(gaps):
        ways.append([sum(ways[-1][total + least : total + most + 1]) for total in range(high + 1)])
    ways.reverse()
    if not ways[0][0]:
        raise UserError(f"no choice of gaps makes {low} to {high} new residues")
    noise, total, chosen = Noise((seed,), (), "gaps"), 0, list[int]()
    for (least, most), after in zip(gaps, ways[1:], strict=True):
        counts = np.array(after[total + least : total + most + 1], float)
        u = float(noise.uniform()[0]) * counts.sum()
        chosen.append(least + min(int((np.cumsum(counts) <= u).sum()), int(np.flatnonzero(counts)[-1])))
        total += chosen[-1]
    return tuple(chosen)


def _number(label: str) -> int:
    return int(label.rstrip(LETTERS))


def called(chain: str) -> str:
    """ "chain A"; of a name that is no letters also how a contig has it."""
    return f"chain {chain or '(without a name)'}" + ("" if chain.isalpha() else f" (in contigs {chain}:)")


def spans(chain: Chain) -> str:
    """ "160-169, 171-200": the residues that a chain has."""
    numbers = dict.fromkeys(map(_number, chain.labels))
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    coded = [label for label in chain.labels if not label[-1].isdigit()]
    return listed([f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs] + coded, 12)
