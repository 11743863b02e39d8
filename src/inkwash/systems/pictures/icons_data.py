"""The icons: drawings of one colour as signed distance fields, with their words, from permissively licensed packages.

`build` fetches pinned npm packages, takes the pictures of each style as distance fields of 64 pixels, joins them with
names, aliases and tags (English and Chinese) and writes one Parquet file per style. `load` reads them.

Policy
- A *style* is a set of icons in one of its variants: "ph-fill" is Phosphor, filled.
- Left out are what has a second tone or colours (opacity, or paint that is neither the text's colour, black nor
  white), what the sets themselves hide, brands (`icon_names.is_brand`), and glyphs: letters, numbers, arrows,
  alignment, borders (`icon_names.is_glyph`); and sets that `icon_sets` names.
- Held out of training, as "validation" and "test", are names with words that are held out
  (`icon_names.splitter`), and the emoji of Fluent as `emoji_data` splits them. It never changes with the sets chosen.
- Of the pairs of style and name in training some are held out as "combination": of a name in three styles or more
  about 8 %, so that it is still drawn in at least two others.
- "near" are pictures that would be in training, but show what is held out: an emoji in training whose name holds
  a held-out concept ("tropical fish"), or a twin, whose field of 32 pixels, less its mean, has a cosine above TWIN
  with that of a picture held out (of the same style, for combinations). They are neither trained on nor tested with.
- All of it is decided by SHA-256 of words, styles and names, but for twins: those depend on the sets that are there.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inkwash.errors import UserError, unknown
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures.distance_fields import SIZE, SUPERSAMPLING, decode, encode, ink
from inkwash.systems.pictures.emoji_data import MIT, Concept, chance, render, svg
from inkwash.systems.pictures.icon_names import (
    NUMBERED,
    Lexicon,
    Words,
    clean_tags,
    forms,
    held_out_concepts,
    is_brand,
    is_glyph,
    phrase,
    read_lexicon,
    splitter,
    synonyms,
    words,
)
from inkwash.systems.pictures.icon_sets import DEFAULT, EMOJI, SET_OF, SETS, WORDS, Set
from inkwash.systems.pictures.packages import (
    Progress,
    describe_style,
    fetch,
    is_finished,
    read_json,
    read_manifest,
    require,
)
from inkwash.weights.files import atomic, check_ours, save_json

FOLDER = Path("data/icons")  # where `inkwash data icons` puts it
FORMAT = 1  # of the files below; another number makes `build` start afresh
TWIN = 0.95
COMBINATIONS = 0.08


class Drawing(NamedTuple):
    """A picture before it is rendered."""

    icon: str  # "ph:bell-slash-fill"
    svg: str
    words: Words
    author: str
    split: str = ""  # where it has been decided elsewhere


@dataclass(frozen=True)
class Icons:
    """The icons of the styles asked for, row by row."""

    fields: np.ndarray  # (N, size, size) float32: distances from the outline in pixels of that size, inside positive
    style: np.ndarray  # (N,) of str, like all below unless it says otherwise
    icon: np.ndarray
    name: np.ndarray
    aliases: list[list[str]]
    tags: list[list[str]]
    name_zh: np.ndarray
    tags_zh: list[list[str]]
    split: np.ndarray  # "train", "validation", "test", "combination" or "near"
    licence: np.ndarray
    author: np.ndarray

    @cached_property
    def concept(self) -> np.ndarray:
        """What a picture shows, by which it is found again in another style: its name."""
        names: np.ndarray = np.char.lower(self.name)
        return names


# --- drawings ---


def variant(icon: str, one: Set) -> tuple[str, str | None]:
    """The name of an icon without its suffix, and that suffix; None for what is left out."""
    for suffix in sorted([*one.suffixes, *one.out], key=len, reverse=True):
        if icon.endswith(suffix):
            return icon.removesuffix(suffix), None if suffix in one.out else suffix
    return icon, None


def is_one_colour(body: str) -> bool:
    """Whether an SVG is painted in the text's colour, black and white alone, without a paler tone.

    What a mask is made of is not seen, nor is what is all but transparent (.01, as IconPark has it).
    """
    seen = re.sub(r"<(mask|clipPath|defs)\b.*?</\1>", "", body, flags=re.DOTALL)
    paint = r'(fill|stroke)="(?!none"|currentColor"|black"|white"|#000"|#fff")'
    return not re.search(rf'{paint}|opacity="(?!1"|0"|\.01")', seen)


def drawings(name: str, tarball: Path, lexicon: Lexicon) -> Iterator[tuple[str, Drawing]]:
    """(style, drawing) of what the policy keeps of a set."""
    (data,) = read_json(tarball, "icons.json")
    data = {"width": 16, "height": 16, **data}  # Iconify's size where a set says none
    one, park = SETS[name], name.startswith("icon-park")
    aliases = defaultdict(list)
    for alias, facts in data.get("aliases", {}).items():
        if [*facts] == ["parent"]:  # else it is mirrored or turned
            aliases[facts["parent"]].append(variant(alias, one)[0])
    for icon, facts in data["icons"].items():
        base, suffix = variant(icon, one)
        said = words(NUMBERED.sub("", base) if park else base)
        if suffix is None or facts.get("hidden") or is_glyph(said) or is_brand(said, lexicon.brands):
            continue
        if is_one_colour(facts["body"]):
            credit = one.package.credit
            author = f"{lexicon.authors[base]}; {credit}" if park and base in lexicon.authors else credit
            yield (
                name + suffix,
                Drawing(f"{name}:{icon}", svg(data, icon, 0), look_up(said, aliases[icon], lexicon), author),
            )


def look_up(said: list[str], aliases: list[str], lexicon: Lexicon) -> Words:
    """The words for what an icon of this name shows."""
    name = phrase(said)
    others = [*synonyms(name), *aliases, *lexicon.aliases.get(name, [])]
    others = clean_tags(name, others, lexicon.brands)
    tags = [tag for tag in clean_tags(name, lexicon.tags.get(name, []), lexicon.brands) if tag not in others]
    name_zh, tags_zh = lexicon.chinese.get(name, ("", []))
    return Words(name, others, tags, name_zh, [tag for tag in dict.fromkeys(tags_zh) if tag != name_zh])


def emoji(tarball: Path, concepts: Mapping[str, Concept]) -> Iterator[tuple[str, Drawing]]:
    """The same of the emoji, which are named and split as `emoji_data` does."""
    held = held_out_concepts(concepts.values())
    for key, text in emoji_data.icons(EMOJI, tarball, dict(concepts)).items():
        concept = concepts[key]
        if is_one_colour(text) and not is_glyph(words(concept.name)):
            place = emoji_data.split(concept.family)
            if place == "train" and any(forms(concept.name) >= other for other in held):
                place = "near"
            own = Words(concept.name, [], concept.tags, concept.name_zh, concept.tags_zh)
            yield EMOJI, Drawing(f"{EMOJI}:{key}", text, own, SETS[EMOJI].package.credit, place)


def field(text: str) -> bytes | None:
    """The distance field of an SVG; None for one that shows nothing."""
    coverage = ink(render(text, SIZE * SUPERSAMPLING))
    return encode(coverage) if (coverage >= 0.5).any() else None


# --- splits ---


def is_combination(style: str, name: str, present: Sequence[str]) -> bool:
    """Whether a name is held out in a style, that in training it is drawn in.

    present: the styles of DEFAULT that draw it, of which two at least are trained on.
    """
    remaining = len(present)
    for other in present:
        held = remaining > 2 and chance(f"combination {other} {name}") < COMBINATIONS
        if other == style:
            return held
        remaining -= held
    return remaining >= 2 and chance(f"combination {style} {name}") < COMBINATIONS


def placed(art: Mapping[str, list[Drawing]], concepts: Mapping[str, Concept]) -> dict[str, list[Drawing]]:
    """The drawings with their split, but for twins; those in training without the words of what is held out."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for style in DEFAULT:
        for name in dict.fromkeys(drawing.words.name.lower() for drawing in art[style]):
            by_name[name].append(style)
    place = splitter([name for name, styles in by_name.items() if styles != [EMOJI]], [*concepts.values()])
    held_zh = {one.name_zh for one in concepts.values() if emoji_data.split(one.family) != "train"}
    held_zh |= {one.words.name_zh for style in DEFAULT for one in art[style] if place(one.words.name) != "train"}

    def with_split(style: str, one: Drawing) -> Drawing:
        where, name = one.split or place(one.words.name), one.words.name.lower()
        if where != "train":
            return one._replace(split=where)
        own = one.words._replace(
            aliases=[alias for alias in one.words.aliases if place(alias) == "train"],
            tags=[tag for tag in one.words.tags if place(tag) == "train"],
            tags_zh=[tag for tag in one.words.tags_zh if tag not in held_zh],
        )
        held = is_combination(style, name, by_name.get(name, []))
        return one._replace(words=own, split="combination" if held else "train")

    return {style: [with_split(style, one) for one in of_style] for style, of_style in art.items()}


def twins(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Which rows (N,) bool are in training and show what another does that is held out; see "near" above."""
    pictures = decode([row["field"] for row in rows], 32).reshape(len(rows), -1)
    pictures -= pictures.mean(1, keepdims=True)
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    split, style = (np.array([row[column] for row in rows]) for column in ("split", "style"))
    train = np.flatnonzero(split == "train")
    trained, near = pictures[train], np.zeros(len(rows), bool)
    held = np.flatnonzero(np.isin(split, ["validation", "test", "combination"]))
    for some in np.array_split(held, len(held) // 256 + 1):
        counts = (split[some] != "combination") | (style[train][:, None] == style[some])
        near[train] |= ((trained @ pictures[some].T > TWIN) & counts).any(1)
    return near


# --- files ---


def build(
    out: Path,
    sets: Sequence[str] = (),
    cache: Path | None = None,
    progress: Progress | None = None,
    processes: int = 1,
) -> Path:
    """Write STYLE.parquet for each style of `sets` (or DEFAULT), manifest.json and NOTICE.md into `out`; return it.

    Columns: style, icon, name, aliases, tags, name_zh, tags_zh, licence, author, source, split, field (int8, 64 x
    64: 127 are 6 pixels inside). The tarballs lie in `cache` (default: OUT/cache). What is there stays, but that its
    twins are marked anew when sets are added. Raises UserError for an unknown set, when npm or a package of the
    `data` extra is missing, or a tarball is not the pinned one.
    """
    for module in ("pyarrow", "resvg_py"):
        require(module, "icons")
    for name in sets:
        if name not in SETS:
            raise unknown("set", name, SETS)
    out.mkdir(parents=True, exist_ok=True)
    check_ours(out / "NOTICE.md", TITLE)
    if not (out / "NOTICE.md").exists():  # else the manifest beside it is ours, even a broken one
        check_ours(out / "manifest.json", '"pins"')
    cache = cache or out / "cache"
    manifest = read_manifest(out, new_manifest())
    wanted = {style for style, name in SET_OF.items() if name in sets} if sets else {*DEFAULT}
    styles = [style for style in SET_OF if style in wanted or style in manifest["styles"]]
    with atomic(out / "NOTICE.md") as file:
        file.write_text(notice(dict.fromkeys(SET_OF[style] for style in styles)), encoding="utf-8")
    missing = [style for style in styles if not is_finished(out, manifest, style)]
    if not missing:
        return out

    concepts = emoji_data.concepts(fetch(emoji_data.WORDS, cache), fetch(emoji_data.KEYWORDS, cache))
    lexicon = read_lexicon({name: fetch(package, cache) for name, package in WORDS.items()}, concepts)
    art: dict[str, list[Drawing]] = defaultdict(list)
    for name in {SET_OF[style]: None for style in (*DEFAULT, *missing)}:
        tarball = fetch(SETS[name].package, cache)
        found = emoji(tarball, concepts) if name == EMOJI else drawings(name, tarball, lexicon)
        for style, drawing in found:
            art[style].append(drawing)
    art = placed(art, concepts)

    rows = {style: read_rows(out / f"{style}.parquet") for style in styles if style not in missing}
    rows |= rendered({style: art.get(style, []) for style in missing}, progress, processes)
    every = [row for style in styles for row in rows[style]]
    changed = {*missing}
    for row in (every[i] for i in np.flatnonzero(twins(every))):
        row["split"] = "near"
        changed.add(row["style"])
    for style in styles:
        if style not in changed:
            continue
        package = SETS[SET_OF[style]].package
        write_parquet(out / f"{style}.parquet", rows[style])
        manifest["styles"][style] = describe_style(out, style, package, rows[style])
        save_json(out / "manifest.json", manifest)
    return out


def rendered(
    art: Mapping[str, list[Drawing]], progress: Progress | None, processes: int
) -> dict[str, list[dict[str, Any]]]:
    """{style: rows} of the drawings that show something."""
    every = [(style, drawing) for style, of_style in art.items() for drawing in of_style]
    texts = [drawing.svg for _, drawing in every]
    rows: dict[str, list[dict[str, Any]]] = {style: [] for style in art}
    with ProcessPoolExecutor(processes, get_context("spawn")) if processes > 1 else nullcontext() as pool:
        fields = pool.map(field, texts, chunksize=16) if pool else map(field, texts)
        for done, ((style, drawing), of_one) in enumerate(zip(every, fields, strict=True), 1):
            if progress:
                progress(done, len(every), style)
            if of_one is None:
                continue
            package = SETS[SET_OF[style]].package
            rows[style].append(
                {
                    "style": style,
                    "icon": drawing.icon,
                    **drawing.words._asdict(),
                    "licence": package.licence,
                    "author": drawing.author,
                    "source": str(package),
                    "split": drawing.split,
                    "field": of_one,
                }
            )
    return rows


def load(folder: Path, styles: Sequence[str] | None = None, size: int = SIZE) -> Icons:
    """The fields (size 64 or 32) and words of `styles` (default: all that are there) from a folder made by `build`.

    At 64 they are cut off at 6 pixels, at 32 at 2. Raises UserError for an unknown style, a size that is neither,
    or a file that is not there.
    """
    require("pyarrow", "icons")
    from pyarrow import concat_tables, parquet

    if folder.is_file():
        raise UserError(f"{folder}: a file; give the folder of icons that `inkwash data icons` made")
    if size not in (64, 32):
        raise UserError(f"icons of size {size} cannot be had: choose 64 or 32")
    parts = []
    words = ["style", "icon", "name", "aliases", "tags", "name_zh", "tags_zh", "split", "licence", "author"]
    for style in styles or [*read_manifest(folder, new_manifest())["styles"]] or DEFAULT:
        if style not in SET_OF:
            raise unknown("style", style, SET_OF)
        path = folder / f"{style}.parquet"
        if not path.exists():
            choice = "" if style in DEFAULT else f" --sets {SET_OF[style]}"
            raise UserError(f"there is no {path}: make it with `inkwash data icons{choice} --out {folder}`")
        parts.append(parquet.read_table(path, columns=[*words, "field"]))
    table = concat_tables(parts)
    columns: dict[str, Any] = {word: table[word].to_pylist() for word in words}
    for word in words:
        if word not in ("aliases", "tags", "tags_zh"):
            columns[word] = np.array(columns[word])
    return Icons(decode(table["field"].to_pylist(), size), **columns)


def new_manifest() -> dict[str, Any]:
    words = [emoji_data.WORDS, emoji_data.KEYWORDS, *WORDS.values()]
    pins = hashlib.sha256(f"{FORMAT} {WORDS} {SETS} {emoji_data.WORDS} {emoji_data.KEYWORDS}".encode()).hexdigest()
    return {"pins": pins, "words": {str(package): package.sha256 for package in words}, "styles": {}}


def read_rows(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return list(parquet.read_table(path).to_pylist())


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    fields = dict.fromkeys(["style", "icon", "name"], text) | dict.fromkeys(["aliases", "tags"], texts)
    fields |= {"name_zh": text, "tags_zh": texts}
    fields |= dict.fromkeys(["licence", "author", "source", "split"], text) | {"field": pyarrow.binary()}
    with atomic(path) as temporary:
        table = pyarrow.Table.from_pylist(rows, pyarrow.schema(list(fields.items())))
        parquet.write_table(table, temporary, compression="zstd")


ISC = """\
Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby
granted, provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN
AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
PERFORMANCE OF THIS SOFTWARE."""
TITLE = "# Icons: credits and licences"


def notice(sets: Iterable[str]) -> str:
    """Who made the pictures and words, and under which licences: to be kept with the files."""
    packages = {name: SETS[name].package for name in sets} | {f"words: {name}": one for name, one in WORDS.items()}
    packages |= {"words: emojibase": emoji_data.WORDS, "words: emojilib": emoji_data.KEYWORDS}
    lines = [
        TITLE,
        "",
        "The pictures are signed distance fields (64 pixels) of a part of these works; they are otherwise unchanged.",
        "The names, aliases and tags are those of the sets and of the lines of words.",
        "",
        "| set | work | licence | package |",
        "|---|---|---|---|",
        *(f"| {name} | {package.credit} | {package.licence} | {package} |" for name, package in packages.items()),
        "",
        "Apache-2.0: Apache License, Version 2.0, https://www.apache.org/licenses/LICENSE-2.0. CC-BY-4.0 and",
        "CC-BY-3.0: Creative Commons Attribution, https://creativecommons.org/licenses/by/4.0/ and /3.0/. CC0-1.0:",
        "Creative Commons Zero, https://creativecommons.org/publicdomain/zero/1.0/. MIT, of these works:",
        "",
        MIT,
        "",
        "ISC, of these works:",
        "",
        ISC,
    ]
    return "\n".join(lines) + "\n"
