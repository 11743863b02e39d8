"""Files of crystals, as the field writes them: CIF, POSCAR, extxyz, JSON of pymatgen, tables with a column `cif`."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from inkwash.errors import UserError
from inkwash.systems.crystals import cif, poscar
from inkwash.systems.crystals.cif import in_a_line
from inkwash.systems.crystals.columns import NAMES, numbers, scalars, texts_of_numbers
from inkwash.systems.crystals.data import Crystal, from_atoms, from_structure
from inkwash.systems.tables import MAX_BYTES, read_cells, read_text, skip_hint
from inkwash.weights.files import files_below

ATOMS = re.compile(r"_atom_site[._]", re.I)  # of a block of a CIF
COMMA = re.compile(r"""(?:^|\s)("[^"]*"|[^\s"=]+)=("?)([+-]?\d*,\d+(?:[eE][+-]?\d+)?|\d+,)\2(?=\s|$)""")  # gap=1,5
KINDS = "CIF, POSCAR, extxyz, a table (CSV) with a column cif, or JSON of pymatgen"


class Found(NamedTuple):
    """A crystal on its way: where it stands, and what reads it, which raises UserError and returns what should be
    said of it beside, or ""."""

    source: str
    read: Callable[[], tuple[Crystal, str]]


def read(path: Path) -> Iterator[Found]:
    """The crystals of a file, of all files of a folder and those below, or of a zip of such a folder. What a folder
    holds beside crystals is passed over; a file that is none is refused.

    UserError for what is none, or is not there; what cannot be read within a folder is found, and refused when read.
    """
    if path.is_dir():
        files = [file for file in files_below(path) if reader(file)]
        if not files:
            raise UserError(f"{path}: no file of crystals in it; {KINDS} are read")
        for file in files:
            yield from guarded(file)
    elif path.suffix.lower() == ".zip" and path.is_file():
        with TemporaryDirectory() as folder:
            unpack(path, Path(folder))
            for found in read(Path(folder)):
                yield found._replace(source=found.source.replace(folder, str(path), 1))
    else:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if (parse := reader(path)) is None:
            raise UserError(f"{path}: no file of crystals by its name; {KINDS} are read")
        yield from parse(path)


def read_crystals(path: Path, note: Callable[[str], object] | None = None) -> list[Crystal]:
    """The crystals of a file or a folder of files; see `read`.

    A crystal that cannot be used, one of several, is left out, and `note` told so in one line; without `note`, and
    where none is left, it is a UserError.
    """
    kept: list[Crystal] = []
    refused, remarks = dict[str, list[str]](), dict[str, list[str]]()
    for found in read(Path(path)):
        try:
            crystal, remark = found.read()
            kept.append(crystal)
        except UserError as error:
            refused.setdefault(str(error), []).append(found.source)
        else:
            if remark:
                remarks.setdefault(remark, []).append(found.source)
    if refused and (note is None or not kept):
        reason, sources = next(iter(refused.items()))
        others = sum(map(len, refused.values())) - 1
        raise UserError(f"{sources[0]}: {reason}" + f" (and {others} more that cannot be used)" * bool(others))
    if not kept:
        raise UserError(f"{path}: no crystals in it")
    if note is not None:
        for reason, sources in refused.items():
            note(f"left out: {listed(sources)}: {reason}")
        for remark, sources in remarks.items():
            note(f"{listed(sources)}: {remark}")
        if twice := repeated(kept):
            note(f"{twice} of {len(kept)} crystals stand there a second time, atom for atom")
    return kept


def listed(sources: Sequence[str]) -> str:
    """The first three of them, and how many more there are."""
    return ", ".join(sources[:3]) + f" and {len(sources) - 3} more" * (len(sources) > 3)


def repeated(crystals: Sequence[Crystal]) -> int:
    """How many are the same as one before, number for number."""
    contents = {
        (c.lattice.round(6).tobytes(), c.coordinates.round(6).tobytes(), c.numbers.tobytes()) for c in crystals
    }
    return len(crystals) - len(contents)


def silent(read: Callable[..., Crystal], *arguments: Any, remark: str = "") -> Callable[[], tuple[Crystal, str]]:
    """A reader that has no more to say than is known before."""
    return lambda: (read(*arguments), remark)


def guarded(file: Path) -> Iterator[Found]:
    """The crystals of one file of several: where it cannot be read at all, that is said when it is read."""
    parse = reader(file)
    assert parse is not None
    try:
        yield from parse(file)
    except UserError as error:
        text = str(error).removeprefix(str(file)).lstrip(":, ")

        def fail() -> tuple[Crystal, str]:
            raise UserError(text)

        yield Found(str(file), fail)


def reader(file: Path) -> Callable[[Path], Iterator[Found]] | None:
    """What reads a file of this name; None for one that is no file of crystals."""
    name = file.name.lower().removesuffix(".gz")
    if name.startswith("."):  # as systems lay beside the files of a person
        return None
    if re.match(r"(poscar|contcar)([._-]|$)", name):
        return read_poscar
    readers = {
        ".cif": read_cif, ".mcif": read_cif, ".vasp": read_poscar, ".poscar": read_poscar, ".xyz": read_extxyz,
        ".extxyz": read_extxyz, ".json": read_json, ".csv": read_table, ".tsv": read_table,
    }  # fmt: skip
    return readers.get(Path(name).suffix)


def unpack(path: Path, folder: Path) -> None:
    """A zip's files into a folder; what would lie outside it lies inside."""
    try:
        with ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise UserError(f"{path}: more than {MAX_BYTES / 1e9:g} GB unpacked; send less")
            archive.extractall(folder)
    except (BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def read_cif(file: Path) -> Iterator[Found]:
    """A crystal for each block with atoms."""
    blocks = [(name, block) for name, block in cif.blocks(read_text(file).text) if ATOMS.search(block)]
    if not blocks:
        raise UserError(f"{file}: no atoms in it; a CIF has a block 'data_' with _atom_site_fract_x")
    for name, block in blocks:
        source, label = (f"{file}, data_{name}", name) if blocks[1:] else (str(file), stem(file))
        yield Found(source, partial(cif.crystal_of, block, {}, label))


def read_poscar(file: Path) -> Iterator[Found]:
    """POSCAR and CONTCAR. UserError where no elements are named, as VASP 4 left them to another file."""
    lines = read_text(file).text.splitlines()
    yield Found(str(file), silent(poscar.crystal_of, lines, stem(file)))


def read_extxyz(file: Path) -> Iterator[Found]:
    """A crystal for each frame; numbers beside Lattice= and an energy are properties."""
    from ase.io import read as read_ase

    text = read_text(file).text
    try:
        frames: Any = read_ase(io.StringIO(text), index=":", format="extxyz")
    except Exception as error:
        raise UserError(f"{file}: no extxyz ({in_a_line(error)})") from None
    comments = frame_comments(text.splitlines())
    for i, (atoms, comment) in enumerate(zip(frames, comments, strict=False), 1):
        source = f"{file}, frame {i}" if frames[1:] else str(file)
        name = str(next((atoms.info[key] for key in NAMES[:3] if key in atoms.info), numbered(file, i, len(frames))))
        known = atoms.info | (atoms.calc.results if atoms.calc is not None else {})
        yield Found(source, partial(crystal_of_frame, atoms, scalars(known), name, texts_of_numbers(known), comment))


def frame_comments(lines: Sequence[str]) -> Iterator[str]:
    """The second line of each frame of an extxyz, after the number of its atoms."""
    at = 0
    while at + 1 < len(lines) and lines[at].strip().isdigit():
        yield lines[at + 1]
        at += 2 + int(lines[at])


def crystal_of_frame(
    atoms: Any, properties: dict[str, float], name: str, remark: str, comment: str
) -> tuple[Crystal, str]:
    """UserError for a number with a comma, of which ASE makes two, or drops it."""
    if (found := COMMA.search(comment)) is not None:
        raise UserError(f"{found[1].strip(chr(34))} = {found[3]}: no plain number; write 1.5, several as [1, 5]")
    return from_atoms(atoms, properties, name), remark


def read_json(file: Path) -> Iterator[Found]:
    """Structures as pymatgen writes them: one, a list or a dictionary of them, and what holds one under "structure",
    as entries and documents of databases do, whose list may lie under "data"; numbers beside it are properties."""
    try:
        content = json.loads(read_text(file).text)
    except ValueError as error:
        raise UserError(f"{file}: no JSON ({error})") from None
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        content = content["data"]
    if isinstance(content, dict) and not is_structure(content) and "structure" not in content:
        items = list(content.items())
    else:
        listed = content if isinstance(content, list) else [content]
        items = [(numbered(file, i, len(listed)), each) for i, each in enumerate(listed, 1)]
    for name, item in items:
        holder = item if isinstance(item, dict) else {}
        structure = holder if is_structure(holder) else holder.get("structure")
        if not isinstance(structure, dict) or not is_structure(structure):
            raise UserError(f"{file}: '{name}' is no structure of pymatgen, nor has it one under 'structure'")
        known = scalars(holder.get("data")) | scalars(holder.get("properties")) | scalars(holder)
        known = known if holder is not structure else scalars(holder.get("properties"))
        beside = [holder] * (holder is not structure) + [holder.get("data"), holder.get("properties")]
        remark = "; ".join(filter(None, map(texts_of_numbers, beside)))
        label = next((str(holder[key]) for key in (*NAMES[:3], "entry_id") if holder.get(key)), name)
        yield Found(f"{file}, {name}", silent(crystal_of_json, structure, known, label, remark=remark))


def is_structure(item: dict[str, Any]) -> bool:
    return "lattice" in item and "sites" in item


def crystal_of_json(facts: dict[str, Any], properties: dict[str, float], name: str) -> Crystal:
    """By its lattice and sites alone: what else a file says of classes to be loaded is not followed."""
    from pymatgen.core.structure import Structure

    try:
        sites = [{"species": site["species"], "abc": site["abc"]} for site in facts["sites"]]
        structure = Structure.from_dict({"lattice": {"matrix": facts["lattice"]["matrix"]}, "sites": sites})
        periodic = tuple(map(bool, facts["lattice"].get("pbc", (True,))))
    except Exception as error:
        raise UserError(f"no structure of pymatgen ({in_a_line(error)})") from None
    if not all(periodic):
        raise UserError(f"periodic in {sum(periodic)} of three directions: no crystal")
    return from_structure(structure, properties, name)


def read_table(file: Path) -> Iterator[Found]:
    """The rows of a table with a column `cif`. Columns of numbers are properties; empty cells are gaps."""
    text, delimiter = skip_hint(read_text(file).text)
    rows = list(read_cells(file, text, delimiter))
    names = rows[0][1] if rows else []
    if "cif" not in names:
        raise UserError(f"{file}: no column 'cif'; its columns are {', '.join(filter(None, names)) or 'none'}")
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise UserError(f"{file}: two columns are called '{twice[0]}'; leave one out")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise UserError(f"{file}, line {line}: {len(row)} cells, not {len(names)} as the first line has")
    label = next((name for name in NAMES if name in names), "")
    columns = {
        name: values
        for i, name in enumerate(names)
        if name and name not in (*NAMES, "cif")
        if (values := numbers(f"{file}, column {name}", [row[i] for _, row in rows[1:]], delimiter))
    }
    if delimiter != ",":
        cells_of = {name: [row[names.index(name)] for _, row in rows[1:]] for name in columns}
        signs = {sign: name for name, cells in cells_of.items() for sign in ",." if sign in "".join(cells)}
        if len(signs) > 1:  # 1.234 beside 1,5 may be a thousand and more
            raise UserError(f"{file}: commas ({signs[',']}) and points ({signs['.']}) in numbers: write all as 1.5")
    for i, (line, row) in enumerate(rows[1:]):
        known = {name: value for name, values in columns.items() if (value := values[i]) is not None}
        cells = dict(zip(names, row, strict=True))
        yield Found(f"{file}, line {line}", partial(cif.crystal_of, cells["cif"], known, cells.get(label, "")))


def stem(file: Path) -> str:
    """A file's name without endings; for POSCAR and CONTCAR, of which each folder has one, the folder's."""
    name = re.sub(r"(\.\w+)?(\.gz)?$", "", file.name, flags=re.I)
    return file.resolve().parent.name if name.lower() in ("poscar", "contcar") else name


def numbered(file: Path, i: int, count: int) -> str:
    return f"{stem(file)}-{i}" if count > 1 else stem(file)
