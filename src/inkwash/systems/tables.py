"""Tables of text as people save them, CSV and TSV: read strictly, or refused in one line."""

from __future__ import annotations

import csv
import gzip
import re
import unicodedata
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Literal, NamedTuple

from inkwash.errors import UserError

SIGNS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
UNCLOSED = "look for a quotation mark that is not closed"
MAX_BYTES = 10**9  # unpacked: a small file may hold any number of zeros


def unpack(file: Path) -> bytes:
    """What a file holds, unpacked if it is gzipped. UserError for one that cannot be read."""
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as opened:
            raw: bytes = opened.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"{file}: more than {MAX_BYTES / 1e9:g} GB of text; send less")
    return raw


def read_utf8(file: Path) -> bytes:
    """What a text file holds, unpacked if it is gzipped, without a byte order mark. UserError for one that cannot be
    read, or is not UTF-8."""
    raw = unpack(file).removeprefix(BOM_UTF8)
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8 text") from None
    if b"\0" in raw:
        raise UserError(f"{file}: not UTF-8 at byte {raw.index(0)}; save it as UTF-8 text")
    return raw


def dialect(file: Path, raw: bytes) -> tuple[str, Literal[0, 3]]:
    """The sign between cells, and how cells are quoted, of csv's: a .tsv has tabs and quotes nothing, unless its
    first name is in quotes; any other table is as its heading shows (`separator`)."""
    heading = BytesIO(raw).readline().decode()
    if file.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t", csv.QUOTE_MINIMAL if re.match(r'"[^"\t]*"\s', heading) else csv.QUOTE_NONE
    return separator(heading), csv.QUOTE_MINIMAL


def separator(heading: str) -> str:
    """The sign between the names of columns: a tab, a semicolon or a vertical bar if there is one, else a comma."""
    unquoted = re.sub('"[^"]*"', "", heading)
    return next((sign for sign in "\t;|" if sign in unquoted), ",")


def skip_hint(text: str) -> tuple[str, str]:
    """A table's text and the sign between its cells: Excel's own first line, sep=;, says it and is left empty; else
    the first line that is not empty shows it."""
    hint = re.match(r'\s*"?sep=(.)"?[ \t]*\r?\n', text, re.I)
    if hint:
        return "\n" + text[hint.end() :], hint[1]
    return text, separator(next(filter(str.strip, StringIO(text, newline=None)), ""))


def read_rows(
    file: Path, raw: bytes, delimiter: str | None = None, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
) -> Iterator[list[str]]:
    """The names of the columns, then the cells of each row, without spaces around; empty rows and columns at the end
    that are empty are left out. `dialect` says what is between the cells if `delimiter` does not.

    Only the first column may lack a name: row numbers, as pandas writes them. Raises UserError for a row of more or
    fewer cells than there are names, a cell that may be several rows, and a quotation mark out of place.
    """
    if delimiter is None:
        delimiter, quoting = dialect(file, raw)
    lines = TextIOWrapper(BytesIO(raw), "utf-8", newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True)
    sign = SIGNS.get(delimiter, f"'{delimiter}'")
    names: list[str] = []
    width = 0
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            place = f"{file}, line {reader.line_num}"
            if not any(cells):
                continue
            swallowed = [cell for cell in cells if delimiter in cell and ("\n" in cell or "\r" in cell)]
            if swallowed:  # rows, by an open quotation
                raise UserError(f"{place}: a cell of several lines with a {sign}; {UNCLOSED}")
            if not names:
                width, names = len(cells), cells
                while not names[-1]:  # as spreadsheets write columns that were emptied
                    names = names[:-1]
                if "" in names[1:]:
                    raise UserError(f"{place}: column {names.index('', 1) + 1} has no name; give it one")
                if twice := [name for name in names if names.count(name) > 1]:
                    raise UserError(f"{place}: two columns are called '{twice[0]}'; leave one out")
            elif len(cells) != width:
                raise UserError(
                    f"{place}: more or fewer cells than the first line has ({len(cells)}, not {width}); put "
                    f"what has a {sign} in it in quotes, and nothing above the line of names"
                )
            elif any(cells[len(names) :]):
                raise UserError(f"{place}: column {len(names) + 1} has no name; give it one")
            yield cells[: len(names)]
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}; {UNCLOSED}") from None


class Text(NamedTuple):
    """What a file says, and in which encoding it was read."""

    text: str
    encoding: str


def read_text(file: Path) -> Text:
    """A text file in UTF-8, UTF-16, GB18030 (so GBK and GB2312, too) or Windows-1252 (so Latin-1, too), whichever it
    can be. UserError for one that cannot be read, or is none of them."""
    if not file.exists():
        raise UserError(f"{file}: no such file")
    read = decode(unpack(file))
    if read is None or any(unicodedata.category(sign) == "Cc" and not sign.isspace() for sign in set(read.text)):
        raise UserError(f"{file}: not a table of text in any encoding known here; save it as CSV, in UTF-8")
    return read


def decode(raw: bytes) -> Text | None:
    """By its byte order mark; without one by what decodes it. None for UTF-8 with a mistake, and for no text."""
    for mark, encoding in ((BOM_UTF8, "UTF-8"), (BOM_UTF16_LE, "UTF-16LE"), (BOM_UTF16_BE, "UTF-16BE")):
        if raw.startswith(mark):
            return attempt(raw.removeprefix(mark), encoding)
    if 0 in raw[:2]:  # a table begins with an option's name, in ASCII
        return attempt(raw, "UTF-16LE" if raw[0] else "UTF-16BE")
    if (read := attempt(raw, "UTF-8")) is not None:
        return read
    signs = [sign for sign in raw.decode(errors="replace") if not sign.isascii()]
    if 2 * signs.count("\ufffd") < len(signs):
        return None
    read = attempt(raw, "GB18030")
    return read if read is not None and is_chinese(read.text) else attempt(raw, "Windows-1252")


def attempt(raw: bytes, encoding: str) -> Text | None:
    try:
        return Text(raw.decode(encoding), encoding)
    except UnicodeDecodeError:
        return None


def is_chinese(text: str) -> bool:
    """Whether what GB18030 reads is meant so: the accents of Western words become signs alone between letters."""
    # 2024年1月 is Chinese all the same
    sign, alone = r"[^\0-\x7f]", r"(?<![^\0-\x7f])(?!(?<=\d)[年月日号时分秒])[^\0-\x7f](?![^\0-\x7f])"
    within_words = re.findall(rf"(?<=[A-Za-z0-9]){alone}|{alone}(?=[A-Za-z])", text)
    return 2 * len(within_words) <= len(re.findall(f"{sign}+", text))


def read_cells(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the last line and the cells of each row, without spaces around; a cell in quotes may have several
    lines. Empty rows are left out. UserError for a quotation mark out of place."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if any(cells := [cell.strip() for cell in row]):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}; {UNCLOSED}") from None
