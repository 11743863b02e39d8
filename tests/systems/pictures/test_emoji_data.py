import hashlib
import io
import json
import os
import tarfile
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkwash.errors import UserError
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures.emoji_data import (
    Concept,
    Package,
    build,
    chance,
    family,
    load,
    render,
    shrink,
    split,
    splits,
    svg,
)

pytest.importorskip("pyarrow")
pytest.importorskip("resvg_py")

RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)
GROUPS = {
    "groups": {"1": "people-body", "2": "component", "3": "animals-nature", "9": "flags"},
    "subgroups": {"23": "person", "32": "skin-tone", "34": "animal-mammal", "97": "flag", "98": "country-flag"},
}
ENGLISH = [
    {"hexcode": "1F98A", "label": "fox", "tags": ["face"], "group": 3, "subgroup": 34},
    {"hexcode": "1F441-FE0F", "label": "eye", "group": 1, "subgroup": 23},
    {"hexcode": "1F468", "label": "man", "group": 1, "subgroup": 23, "skins": [{"hexcode": "1F468-1F3FB"}]},
    {"hexcode": "1F3FB", "label": "light skin tone", "group": 2, "subgroup": 32},
    {"hexcode": "1F1E6", "label": "regional indicator A"},
    {"hexcode": "1F1E9-1F1EA", "label": "flag: Germany", "group": 9, "subgroup": 98},
    {"hexcode": "1F3F4-200D-2620-FE0F", "label": "pirate flag", "group": 9, "subgroup": 97},
]
CHINESE = [{"hexcode": "1F98A", "label": "狐狸", "tags": ["脸"]}]


def rectangle(colour: str, width: int = 10, height: int = 10) -> dict[str, str]:
    return {"body": f'<rect width="{width}" height="{height}" fill="{colour}"/>'}


NOTO_ICONS = {name: rectangle("red") for name in ("fox", "eye", "man", "man-light", "germany", "pirate")}
NOTO_CHARACTERS = {
    "1f98a": "vulpes",  # an alias
    "1f441": "eye",  # emojibase writes 1F441-FE0F
    "1f468": "man",
    "1f468-1f3fb": "man-light",
    "1f3fb": "fox",
    "1f1e6": "fox",
    "1f1e9-1f1ea": "germany",
    "1f3f4-200d-2620-fe0f": "pirate",
}
# joined by name; the eye is there, but shows nothing
BLOB_ICONS = {"fox-face": rectangle("blue"), "pirate-flag": rectangle("blue"), "eye": {"body": "<g/>"}}


def pack(folder: Path, name: str, licence: str, files: dict[str, object]) -> Package:
    package = Package(f"@test/{name}", "1.0.0", "", licence, f"the makers of {name}")
    with tarfile.open(folder / package.tarball, "w:gz") as archive:
        for path, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return package._replace(sha256=hashlib.sha256((folder / package.tarball).read_bytes()).hexdigest())


def webp(colour: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (256, 256), colour).save(file, "webp", lossless=True)
    return file.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Six small packages in a folder, in place of the real ones."""
    folder = tmp_path / "npm"
    folder.mkdir()
    words = {"en/data.json": ENGLISH, "zh/data.json": CHINESE, "meta/groups.json": GROUPS}
    size = {"width": 10, "height": 10}
    noto = {"icons": NOTO_ICONS, "aliases": {"vulpes": {"parent": "fox"}}, **size}
    styles = {
        "noto": ("Apache-2.0", {"icons.json": noto, "chars.json": NOTO_CHARACTERS}),
        "blob": ("CC-BY-4.0", {"icons.json": {"icons": BLOB_ICONS, **size}, "chars.json": {}}),
        "3d": ("MIT", {f"assets/{name}.webp": webp(RED) for name in ("1f98a", "1f441-fe0f", "1f468-1f3fb")}),
    }
    monkeypatch.setattr(emoji_data, "WORDS", pack(folder, "words", "MIT", words))
    keywords = {"dist/emoji-en-US.json": {"🦊": ["Fox", "face", "red_fox"], "👁️": ["look"]}}
    monkeypatch.setattr(emoji_data, "KEYWORDS", pack(folder, "keywords", "MIT", keywords))
    noun = "{} 05 n {:02x} {} {:03d} {}| gloss"
    fox, animal = ("00000002", 2, "fox 0 Vulpes_vulpes 0"), ("00000001", 1, "animal 0")
    kit, person = ("00000003", 1, "red_cub 0"), "00000009 18 n 01 beauty 0 000 | a person"
    lines = [noun.format(*animal, 0, ""), noun.format(*fox, 1, "@ 00000001 n 0000 "), person]
    lines += [noun.format(*kit, 1, "@ 00000002 n 0000 ")]
    index = ["fox n 1 1 @ 2 1 00000009 00000002", "animal n 1 0 1 0 00000001", "cub n 1 0 1 0 00000003"]
    wordnet = {"dict/data.noun": lines, "dict/index.noun": index, "dict/index.adj": ["red a 1 0 1 0 00000001"]}
    wordnet = {name: "\n".join(["  1 licence", *text]).encode() for name, text in wordnet.items()}
    monkeypatch.setattr(emoji_data, "KINDS", pack(folder, "kinds", "WordNet", wordnet))
    packed = {style: pack(folder, style, licence, files) for style, (licence, files) in styles.items()}
    monkeypatch.setattr(emoji_data, "STYLES", packed)
    return folder


def test_pictures_join_their_words_and_the_policy_holds(cache, tmp_path):
    build(tmp_path / "out", cache)
    emoji = load(tmp_path / "out")
    assert sorted(zip(emoji.style.tolist(), emoji.concept.tolist(), strict=True)) == [
        ("3d", "1f441"),
        ("3d", "1f98a"),  # not the man: this set has only one with a skin tone
        ("blob", "1f3f4-200d-2620"),  # not the eye, which is blank
        ("blob", "1f98a"),  # by its formal name, FOX FACE
        ("noto", "1f3f4-200d-2620"),  # a flag, but of no country
        ("noto", "1f441"),
        ("noto", "1f468"),
        ("noto", "1f98a"),  # through an alias; no country, skin tone, regional letter
    ]
    fox = emoji.concept == "1f98a"
    assert set(emoji.name[fox]) == {"fox"} and set(emoji.name_zh[fox]) == {"狐狸"}
    assert set(emoji.group[fox]) == {"animals-nature"}
    row = int(np.flatnonzero(fox & (emoji.style == "blob"))[0])
    assert (emoji.tags[row], emoji.tags_zh[row], emoji.licence[row]) == (["face", "red fox"], ["脸"], "CC-BY-4.0")
    assert emoji.kinds[row] == ["red cub"]  # its species has a capital, and its other sense cannot be seen
    assert emoji.name_zh[emoji.concept == "1f441"].tolist() == ["", ""]
    assert (emoji.pictures[row, 32, 32] == BLUE).all()


def test_a_name_of_the_sets_own_counts_alone(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(emoji_data.NAMES, "blob", "fox=; pirate flag=fox-face")
    build(tmp_path / "out", cache)
    assert load(tmp_path / "out", ["blob"]).name.tolist() == ["pirate flag"]


def test_both_sizes_of_the_styles_asked_for(cache, tmp_path):
    build(tmp_path / "out", cache)
    large = load(tmp_path / "out", ["3d", "noto"], size=256)
    assert list(dict.fromkeys(large.style.tolist())) == ["3d", "noto"]
    assert (large.pictures == RED).all() and large.pictures.shape[1:] == (256, 256, 4)
    # blob draws to the edge of its view box: 1/30 of the side is added all around, two pixels of 64
    alpha = load(tmp_path / "out", ["blob"]).pictures[0, :, :, 3]
    assert (alpha[2:62, 2:62] == 255).all() and alpha.sum() == 60 * 60 * 255


def test_the_files_tell_where_they_come_from(cache, tmp_path):
    out = build(tmp_path / "out", cache)
    manifest = json.loads((out / "manifest.json").read_text())
    for style, package in emoji_data.STYLES.items():
        record = manifest["styles"][style]
        assert record["sha256"] == hashlib.sha256((out / record["file"]).read_bytes()).hexdigest()
        assert record["source"] == str(package) and record["licence"] == package.licence
        assert sum(record["splits"].values()) == record["pictures"] == len(load(out, [style]).pictures)
        assert package.credit in (out / "NOTICE.md").read_text()


def test_a_finished_file_is_kept_and_a_broken_one_made_anew(cache, tmp_path):
    out = build(tmp_path / "out", cache)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*.parquet")}
    rows = [column.tolist() for column in astuple(load(out)) if isinstance(column, np.ndarray)]

    (out / "blob.parquet").write_bytes(before["blob.parquet"][0][:100])
    progress = []
    build(out, cache, lambda done, total, style: progress.append((done, total)))
    assert progress[-1][0] <= progress[-1][1]
    for name, (data, changed) in before.items():
        assert (out / name).read_bytes() == data
        assert ((out / name).stat().st_mtime_ns == changed) == (name != "blob.parquet")

    progress.clear()
    build(out, cache, lambda *state: progress.append(state))
    assert not progress  # nothing left to do

    (out / "manifest.json").write_text("{")
    build(out, cache, lambda *state: progress.append(state))
    assert progress
    assert rows == [column.tolist() for column in astuple(load(out)) if isinstance(column, np.ndarray)]
    names = ["3d.parquet", "NOTICE.md", "blob.parquet", "manifest.json", "noto.parquet"]
    assert sorted(path.name for path in out.iterdir()) == names  # and nothing half-written


def test_other_pins_make_everything_anew(cache, tmp_path, monkeypatch):
    out = build(tmp_path / "out", cache)
    changed = (out / "noto.parquet").stat().st_mtime_ns
    monkeypatch.setattr(emoji_data, "FORMAT", emoji_data.FORMAT + 1)
    build(out, cache)
    assert (out / "noto.parquet").stat().st_mtime_ns != changed


def test_a_tarball_that_is_not_the_pinned_one_is_refused(cache, tmp_path):
    path = cache / emoji_data.STYLES["blob"].tarball
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"test-blob-1\.0\.0\.tgz is not the pinned @test/blob@1\.0\.0 .*delete it"):
        build(tmp_path / "out", cache)


def test_npm_fetches_what_is_not_in_the_cache(cache, tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(UserError, match="npm, which is not installed: install"):
        build(tmp_path / "out", tmp_path / "empty")

    npm = programs / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error no such package' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(UserError, match=r"could not fetch @test/words@1\.0\.0 \(npm error no such package\)"):
        build(tmp_path / "out", tmp_path / "empty")

    npm.write_text(f'#!/bin/sh\nPATH={os.defpath}\nfor folder; do :; done\ncp {cache}/*.tgz "$folder"\n')
    build(tmp_path / "out")  # without a cache: into OUT/cache
    assert len(load(tmp_path / "out").pictures) == 8
    assert sorted(os.listdir(tmp_path / "out" / "cache")) == sorted(os.listdir(cache))


def test_mistakes_are_told(cache, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"noto\.parquet: make it with `inkwash data emoji"):
        load(tmp_path / "nothing")
    (tmp_path / "ok.csv").touch()
    with pytest.raises(UserError, match=r"ok\.csv: a file; give the folder of emoji"):
        load(tmp_path / "ok.csv")
    with pytest.raises(UserError, match="unknown style 'blobs': did you mean blob"):
        load(tmp_path, ["blobs"])
    with pytest.raises(UserError, match=r"size 32 .* choose 64 or 256"):
        load(tmp_path, size=32)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'inkwash\[data\]'"):
        build(tmp_path / "out", cache)


@pytest.mark.parametrize(
    ("same", "other"),
    [
        # man, woman, person running; running to the right
        (["1f3c3", "1f3c3-200d-2642", "1f3c3-200d-2640", "1f3c3-200d-2640-200d-27a1"], "1f6b6"),
        (["1f9d1-200d-1f373", "1f468-200d-1f373", "1f469-200d-1f373"], "1f9d1-200d-1f680"),  # cook; astronaut
        (["1f9d1", "1f468", "1f469"], "1f9d2"),  # person, man, woman; child
        (["1fac5", "1f934", "1f478"], "1f451"),  # person with crown, prince, princess; crown
        (["1f550", "1f55b", "1f567"], "23f0"),  # clock faces; alarm clock
        (["1f311", "1f315", "1f31a"], "1f31e"),  # moons; sun with face
        (["27a1"], "2640"),  # right arrow; female sign: nothing is left of either without its only codepoint
    ],
)
def test_near_copies_are_one_family(same, other):
    families = {family(key, "a label", "a subgroup") for key in same}
    assert len(families) == 1
    assert family(other, "a label", "a subgroup") not in families


def test_an_animal_and_its_face_are_one_family():
    assert family("1f431", "cat face", "animal-mammal") == family("1f408", "cat", "animal-mammal")
    assert family("1f431", "cat face", "animal-mammal") != family("1f436", "dog face", "animal-mammal")


def many() -> tuple[dict[str, Concept], dict[str, list[str]]]:
    """6,000 concepts in 3,000 families; a third is in all four styles, a third in three, a third in two."""
    concepts_by_key = {f"{i:x}": Concept(str(i), [], "", "", [], f"family {i % 3000}") for i in range(6000)}
    styles = ("noto", "twemoji", "3d", "flat")
    return concepts_by_key, {
        s: [key for i, key in enumerate(concepts_by_key) if n < 2 + i % 3] for n, s in enumerate(styles)
    }


def test_no_family_is_in_two_splits_and_none_held_out_is_trained_on():
    concepts_by_key, present = many()
    split_of = splits(concepts_by_key, present)
    assert set(split_of) == {(style, key) for style, keys in present.items() for key in keys}
    of_family: dict[str, set[str]] = {}
    for (_, key), name in split_of.items():
        of_family.setdefault(concepts_by_key[key].family, set()).add("train" if name == "combination" else name)
    assert all(len(places) == 1 for places in of_family.values())


def test_the_parts_have_their_sizes():
    concepts_by_key, present = many()
    places = list(splits(concepts_by_key, present).values())
    share = {name: places.count(name) / len(places) for name in set(places)}
    # 3,000 families: one standard deviation is 0.5 % of train, 0.3 % of validation, 0.5 % of test
    assert share["train"] + share["combination"] == pytest.approx(0.90, abs=0.02)
    assert share["validation"] == pytest.approx(0.03, abs=0.012)
    assert share["test"] == pytest.approx(0.07, abs=0.02)
    assert share["combination"] == pytest.approx(0.04 * 0.9 * 7 / 9, abs=0.01)  # those in two styles cannot be


def test_a_combination_is_trained_on_in_two_other_styles():
    concepts_by_key, present = many()
    split_of = splits(concepts_by_key, present)
    held = {key for (_, key), name in split_of.items() if name == "combination"}
    assert len(held) > 100
    assert all(sum(split_of.get((style, key)) == "train" for style in present) >= 2 for key in held)


def test_the_split_depends_on_nothing_but_the_concept():
    concepts_by_key, present = many()
    split_of = splits(concepts_by_key, present)
    backwards = {style: list(reversed(keys)) for style, keys in present.items()}
    assert splits(dict(reversed(concepts_by_key.items())), backwards) == split_of
    fewer = {style: [key for key in keys if int(key, 16) % 7 == 0] for style, keys in present.items()}
    assert all(split_of[pair] == name for pair, name in splits(concepts_by_key, fewer).items())


def test_the_split_never_moves():
    """Were one of these to change, a model trained before would have seen what is held out now."""
    places = {name: split(name) for name in ("fox", "cat", "leopard", "zebra", "1f355", "1f680", "clock faces")}
    assert places == {
        "fox": "train",  # by choice: it is in the examples
        "cat": "train",
        "leopard": "validation",
        "zebra": "test",
        "1f355": "train",
        "1f680": "train",
        "clock faces": "train",
    }
    assert chance("combination noto 1f98a") == pytest.approx(0.5845016812, abs=1e-9)


@pytest.mark.parametrize("hidden", [(0, 0, 0, 0), (255, 255, 255, 0)])
def test_shrinking_leaves_no_fringe(hidden):
    picture = Image.new("RGBA", (256, 256), hidden)
    ImageDraw.Draw(picture).ellipse((40, 40, 215, 215), fill=RED)
    small = np.asarray(shrink(picture, 64))
    edge = (small[..., 3] > 0) & (small[..., 3] < 255)
    assert edge.sum() > 100
    assert (small[small[..., 3] > 0][:, :3] == (255, 0, 0)).all()
    # channel by channel, as if alpha were one more colour, the edge would take the hidden colour on
    bands = [band.resize((64, 64), Image.Resampling.LANCZOS) for band in picture.split()]
    assert (np.asarray(Image.merge("RGBA", bands))[edge][:, :3] != (255, 0, 0)).any()


def test_an_icon_that_is_not_square_is_centred():
    data = {"icons": {"tall": rectangle("blue", 10, 20) | {"height": 20}}, "width": 10, "height": 10}
    picture = np.asarray(Image.open(io.BytesIO(render(svg(data, "tall", 0), 64))))
    assert (picture[:, 16:48] == BLUE).all()
    assert not picture[:, :16].any() and not picture[:, 48:].any()


def test_a_mirrored_alias_is_mirrored():
    data = {
        "icons": {"left": {"body": '<path d="M0 0H5V10H0z" fill="red"/>'}},
        "aliases": {"right": {"parent": "left", "hFlip": True}},
        "width": 10,
        "height": 10,
    }
    left, right = (np.asarray(Image.open(io.BytesIO(render(svg(data, n, 0), 64)))) for n in ("left", "right"))
    assert (left[:, :32] == RED).all() and not left[:, 32:].any()
    assert (right == left[:, ::-1]).all()


@pytest.mark.parametrize("name", ["NOTICE.md", "manifest.json"])
def test_a_file_of_something_else_is_not_replaced(cache, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="not inkwash's"):
        emoji_data.build(tmp_path, cache)
    assert (tmp_path / name).read_text() == "mine"
