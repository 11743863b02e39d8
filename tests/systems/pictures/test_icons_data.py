import hashlib
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from inkwash.cli import main
from inkwash.errors import UserError
from inkwash.systems.pictures import emoji_data, icons_data
from inkwash.systems.pictures.icon_names import forms, held_out_concepts, words
from inkwash.systems.pictures.icon_sets import DEFAULT, SET_OF, SETS, Set
from inkwash.systems.pictures.icons_data import build, is_combination, is_one_colour, load, twins, variant
from tests.systems.pictures.test_emoji_data import pack

pytest.importorskip("pyarrow")
pytest.importorskip("resvg_py")

GROUPS = {
    "groups": {"3": "animals-nature", "5": "travel-places"},
    "subgroups": {"34": "animal-mammal", "50": "sky"},
}
ENGLISH = [
    {"hexcode": "1F98A", "label": "fox", "tags": ["sneaky"], "group": 3, "subgroup": 34},
    {"hexcode": "1F993", "label": "zebra", "tags": ["stripes"], "group": 3, "subgroup": 34},  # held out: test
    {"hexcode": "1F355", "label": "zebra pizza", "tags": [], "group": 5, "subgroup": 50},
]
CHINESE = [{"hexcode": "1F98A", "label": "狐狸", "tags": []}, {"hexcode": "1F993", "label": "斑马", "tags": []}]


def square(x: int, side: int = 4, paint: str = "currentColor") -> dict[str, str]:
    return {"body": f'<path fill="{paint}" d="M{x} {x}h{side}v{side}h-{side}z"/>'}


ICONS = {
    "tabler": {
        "bell": square(1),
        "bell-filled": square(1, 6),
        "bell-2-off": square(2),
        "fox": square(3),
        "zebra-plus": square(4),
        "brand-nexo": square(0),
        "letter-a": square(0),
        "old": {**square(0), "hidden": True},
        "nothing": {"body": "<g/>"},
    },
    "lucide": {
        "bell": square(1, 5),
        "ladder": square(4),  # drawn as tabler draws the zebra
        "user-add": square(5, 3),
        "fox": square(3, 3),
        "nexo": square(0),
    },
    "ph": {
        "bell": square(1, 3),
        "bell-fill": square(1, 7),
        "bell-duotone": square(1),
        "pale": {"body": '<path opacity=".2" d="M0 0h9v9z"/>'},
        "red": square(2, 3, "red"),
    },
    "icon-park-outline": {"bell-one": square(1, 4), "kite": square(1, 7)},
    "carbon": {"bell": square(0, 3), "striped": square(4), "ibm-cloud": square(0)},
}
EMOJI = {"fox": square(0), "zebra": square(2, 8), "zebra-pizza": square(0, 9)}
CHARACTERS = {"1f98a": "fox", "1f993": "zebra", "1f355": "zebra-pizza"}
PHOSPHOR = """const n = [
  {
    name: "bell",
    pascal_name: "Bell",
    tags: ["*new*", "alarm", "zebra call"],
  }];"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Small packages in a folder, in place of the real ones: carbon is not of the default selection."""
    folder = tmp_path / "npm"
    folder.mkdir()
    size = {"width": 10, "height": 10}
    data = {name: {"icons": icons, **size} for name, icons in ICONS.items()}
    data["lucide"]["aliases"] = {"ringer": {"parent": "bell"}, "llеb": {"parent": "bell", "hFlip": True}}
    files = {name: {"icons.json": content} for name, content in data.items()}
    files[icons_data.EMOJI] = {"icons.json": {"icons": EMOJI, **size}, "chars.json": CHARACTERS}
    sets = {
        name: SETS[name]._replace(package=pack(folder, name, SETS[name].package.licence, content))
        for name, content in files.items()
    }
    park = {"name": "bell-one", "title": "铃铛1", "tag": ["铃", "斑马"], "category": "Base", "author": "马玉欣"}
    kite = {"name": "kite", "title": "风筝", "tag": [], "category": "Base", "author": ""}
    tabler = {
        "bell": {"category": "System", "tags": ["alarm", "sound", "off", 3]},
        "brand-nexo": {"category": "Brand", "tags": []},
    }
    lexicon = {
        "lucide": {"tags.json": {"bell": ["reminder"]}},
        "tabler": {"icons.json": tabler},
        "ph": {"dist/index.mjs": PHOSPHOR.encode()},
        "mdi": {"meta.json": [{"name": "bell", "aliases": ["chime", "nexo-bell"], "tags": ["Notification"]}]},
        "icon-park": {"icons.json": [park, kite]},
    }
    emojibase = {"en/data.json": ENGLISH, "zh/data.json": CHINESE, "meta/groups.json": GROUPS}
    monkeypatch.setattr(emoji_data, "WORDS", pack(folder, "words", "MIT", emojibase))
    monkeypatch.setattr(emoji_data, "KEYWORDS", pack(folder, "keywords", "MIT", {"dist/emoji-en-US.json": {}}))
    packed = {name: pack(folder, f"words-{name}", "MIT", content) for name, content in lexicon.items()}
    monkeypatch.setattr(icons_data, "WORDS", packed)
    monkeypatch.setattr(icons_data, "SETS", sets)
    styles = {style: name for style, name in SET_OF.items() if name in sets}
    monkeypatch.setattr(icons_data, "SET_OF", styles)
    monkeypatch.setattr(icons_data, "DEFAULT", tuple(style for style in DEFAULT if style in styles))
    monkeypatch.setattr(icons_data, "COMBINATIONS", 0)
    return folder


def row(icons: icons_data.Icons, icon: str) -> dict[str, object]:
    (place,) = np.flatnonzero(icons.icon == icon)
    return {of.name: getattr(icons, of.name)[place] for of in fields(icons)}


def test_the_default_selection_is_kept_by_the_policy(cache, tmp_path):
    icons = load(build(tmp_path / "out", cache=cache))
    assert sorted(icons.icon) == [
        "fluent-emoji-high-contrast:1f355",
        "fluent-emoji-high-contrast:1f98a",
        "fluent-emoji-high-contrast:1f993",
        "icon-park-outline:bell-one",
        "icon-park-outline:kite",
        "lucide:bell",
        "lucide:fox",
        "lucide:ladder",
        "lucide:user-add",  # no brand
        "ph:bell",
        "ph:bell-fill",  # no duotone, no paler tone, no colour
        "tabler:bell",
        "tabler:bell-2-off",
        "tabler:bell-filled",
        "tabler:fox",
        "tabler:zebra-plus",  # no brand, letter, hidden, empty
    ]
    assert {style: sum(icons.style == style) for style in ("tabler", "tabler-filled", "ph", "ph-fill")} == {
        "tabler": 4,
        "tabler-filled": 1,
        "ph": 1,
        "ph-fill": 1,
    }


def test_pictures_have_their_words(cache, tmp_path):
    icons = load(build(tmp_path / "out", cache=cache))
    bell = row(icons, "lucide:bell")
    assert bell["name"] == "bell" and bell["aliases"] == ["ringer", "chime"]  # no mirrored picture's, no brand
    assert bell["tags"] == ["reminder", "alarm", "sound"]  # of all sets; not "off", nor what is held out
    assert (bell["name_zh"], bell["tags_zh"]) == ("铃铛", ["铃"])  # nor in Chinese
    assert row(icons, "tabler:bell-2-off")["name"] == "bell crossed out"
    user = row(icons, "lucide:user-add")
    assert user["name"] == "user plus" and user["aliases"] == ["person plus", "account plus"]
    assert row(icons, "tabler:fox")["name_zh"] == "狐狸"
    assert row(icons, "fluent-emoji-high-contrast:1f98a")["tags"] == ["sneaky"]


def test_pictures_have_their_licence_and_author(cache, tmp_path):
    out = build(tmp_path / "out", cache=cache)
    icons = load(out)
    assert row(icons, "lucide:bell")["licence"] == SETS["lucide"].package.licence
    assert row(icons, "icon-park-outline:bell-one")["author"] == "马玉欣; the makers of icon-park-outline"
    assert row(icons, "icon-park-outline:kite")["author"] == "the makers of icon-park-outline"
    manifest, notice = json.loads((out / "manifest.json").read_text()), (out / "NOTICE.md").read_text()
    for style, facts in manifest["styles"].items():
        assert facts["sha256"] == hashlib.sha256((out / facts["file"]).read_bytes()).hexdigest()
        assert sum(facts["splits"].values()) == facts["pictures"] == len(load(out, [style]).name)
    for package in [*(one.package for one in icons_data.SETS.values()), *icons_data.WORDS.values()]:
        assert (f"| {package.credit} | {package.licence} |" in notice) == ("carbon" not in package.name)


def test_what_the_emoji_hold_out_is_held_out(cache, tmp_path):
    icons = load(build(tmp_path / "out", cache=cache))
    split = dict(zip(icons.icon, icons.split, strict=True))
    assert split["fluent-emoji-high-contrast:1f993"] == split["tabler:zebra-plus"] == "test"
    assert split["fluent-emoji-high-contrast:1f98a"] == split["tabler:fox"] == "train"
    assert split["fluent-emoji-high-contrast:1f355"] == "near"  # an emoji in training, but it holds a zebra
    assert split["lucide:ladder"] == "near"  # a twin of the zebra
    assert [name for name, held in training_names(icons) if held] == []


def training_names(icons: icons_data.Icons) -> list[tuple[str, bool]]:
    """Names that are trained on, and whether they hold a concept that the emoji split holds out."""
    held = held_out_concepts([icons_concept(entry) for entry in ENGLISH])
    trained = dict.fromkeys(icons.name[np.isin(icons.split, ["train", "combination"])])
    return [(name, any(concept <= forms(name) for concept in held)) for name in trained]


def icons_concept(entry: dict[str, object]) -> emoji_data.Concept:
    label = str(entry["label"])
    family = emoji_data.family(str(entry["hexcode"]).lower(), label, "animal" if entry["group"] == 3 else "")
    return emoji_data.Concept(label, [], "animals-nature", "", [], family)


def test_sets_are_added_and_their_twins_are_marked(cache, tmp_path):
    out = build(tmp_path / "out", cache=cache)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    progress = []
    build(out, ["carbon"], cache, lambda *state: progress.append(state))
    assert progress == [(1, 2, "carbon"), (2, 2, "carbon")]
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet") if path.name in before} == before
    icons = load(out)
    assert row(icons, "carbon:striped")["split"] == "near" and row(icons, "carbon:bell")["split"] == "train"
    assert "carbon:ibm-cloud" not in icons.icon
    alone = build(tmp_path / "alone", ["carbon"], cache)
    assert [*load(alone).icon] == ["carbon:bell", "carbon:striped"]
    assert [*load(alone).split] == ["train", "train"]  # no zebra is there


def test_a_twin_that_comes_later_leaves_training(cache, tmp_path, monkeypatch):
    """The zebra of tabler comes after the picture that looks like it."""
    out = build(tmp_path / "out", ["carbon"], cache)
    assert row(load(out), "carbon:striped")["split"] == "train"
    build(out, ["tabler"], cache)
    assert row(load(out), "carbon:striped")["split"] == "near"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["styles"]["carbon"]["splits"] == {"train": 1, "near": 1}
    progress = []
    build(out, ["tabler"], cache, lambda *state: progress.append(state))
    assert not progress  # nothing left to do


def test_a_broken_file_is_made_anew(cache, tmp_path):
    out = build(tmp_path / "out", cache=cache)
    whole = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    (out / "tabler.parquet").write_bytes(whole["tabler.parquet"][:100])
    build(out, cache=cache)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == whole


def test_a_set_that_says_no_size_is_16_a_side(cache):
    package = pack(cache, "unsized", "MIT", {"icons.json": {"icons": {"bell": square(0, 8)}}})
    lexicon = icons_data.Lexicon({}, {}, {}, frozenset(), {})
    ((style, drawing),) = icons_data.drawings("lucide", cache / package.tarball, lexicon)
    assert style == "lucide" and 'viewBox="0 0 16 16"' in drawing.svg


def test_both_sizes(cache, tmp_path):
    out = build(tmp_path / "out", cache=cache)
    large, small = row(load(out), "tabler:bell")["fields"], row(load(out, size=32), "tabler:bell")["fields"]
    assert large.shape == (64, 64) and small.shape == (32, 32) and large.max() == 6 and small.max() == 2
    x = (np.arange(64) + 0.5) / 6.4  # from 1 to 5 of 10
    inside = (x > 1) & (x < 5)
    assert ((large[20] > 0) == inside).all() and ((large[:, 20] > 0) == inside).all()


def test_mistakes_are_told(cache, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="unknown set 'carbn': did you mean carbon"):
        build(tmp_path / "out", ["carbn"], cache)
    with pytest.raises(UserError, match=r"carbon\.parquet: make it with `inkwash data icons --sets carbon --out"):
        load(tmp_path / "nothing", ["carbon"])
    with pytest.raises(UserError, match=r"tabler\.parquet: make it with `inkwash data icons --out"):
        load(tmp_path / "nothing")
    (tmp_path / "ok.csv").touch()
    with pytest.raises(UserError, match=r"ok\.csv: a file; give the folder of icons"):
        load(tmp_path / "ok.csv")
    with pytest.raises(UserError, match="unknown style 'tablr': did you mean tabler"):
        load(tmp_path, ["tablr"])
    with pytest.raises(UserError, match=r"size 48 .* choose 64 or 32"):
        load(tmp_path, size=48)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "NOTICE.md").write_text("mine")
    with pytest.raises(UserError, match="not inkwash's"):
        build(tmp_path / "mine", cache=cache)
    monkeypatch.setitem(__import__("sys").modules, "resvg_py", None)
    with pytest.raises(UserError, match=r"the icons data need resvg_py: pip install 'inkwash\[data\]'"):
        build(tmp_path / "out", cache=cache)
    assert main(["data", "icons", "--sets", "carbn", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_makes_what_was_asked_for(cache, tmp_path, monkeypatch, capsys):
    """In as many processes as there are."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    out = tmp_path / "out"
    assert main(["data", "icons", "--sets", "tabler, carbon", "--out", str(out), "--cache", str(cache)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in ("tabler            4 pictures  MIT", "carbon            2 pictures  Apache-2.0"):
        assert line in lines
    alone = build(tmp_path / "alone", ["tabler", "carbon"], cache)
    assert (load(out).fields == load(alone).fields).all()


def test_a_style_is_a_set_and_a_suffix():
    one = Set(SETS["ph"].package, ("", "-fill", "-bold"), ("-duotone",))
    assert variant("bell-fill", one) == ("bell", "-fill") and variant("bell", one) == ("bell", "")
    assert variant("bell-duotone", one) == ("bell", None)
    assert variant("bell", one._replace(suffixes=("-fill",))) == ("bell", None)
    assert variant("bell-outline-sharp", SETS["material-symbols"]) == ("bell", "-outline-sharp")


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ('<path fill="currentColor"/>', True),
        ('<path fill="none" stroke="currentColor"/><path fill="#fff"/>', True),
        ('<mask id="a"><path fill="#555" opacity=".3"/></mask><path fill="currentColor" mask="url(#a)"/>', True),
        ('<path fill="#fff" fill-opacity=".01"/><path fill="currentColor"/>', True),
        ('<path fill="currentColor"/><path fill="currentColor" opacity=".2"/>', False),
        ('<path fill="#c4c4c4"/>', False),
        ('<path fill="url(#gradient)"/>', False),
        ('<path stroke="red"/>', False),
    ],
)
def test_colours_and_second_tones_are_left_out(body, kept):
    assert is_one_colour(body) == kept


def test_a_combination_is_trained_on_in_two_other_styles():
    """And does not depend on which other sets are there."""
    names = [f"name {i}" for i in range(3000)]
    held = {(style, name) for name in names for style in DEFAULT[:4] if is_combination(style, name, DEFAULT[:4])}
    assert len(held) / len(names) / 4 == pytest.approx(icons_data.COMBINATIONS, abs=0.02)
    assert all(sum((style, name) in held for style in DEFAULT[:4]) <= 2 for name in names)
    assert not any(is_combination(style, name, DEFAULT[:2]) for name in names for style in DEFAULT[:2])
    others = [name for name in names if is_combination("carbon", name, DEFAULT[:4])]
    assert len(others) / len(names) == pytest.approx(icons_data.COMBINATIONS, abs=0.02)
    assert not any(is_combination("carbon", name, DEFAULT[:1]) for name in names)


def test_only_what_is_in_training_is_near(tmp_path):
    def one(split: str, style: str, seed: int) -> dict[str, object]:
        field = np.random.default_rng(seed).integers(-100, 100, (8, 8)).repeat(8, 0).repeat(8, 1)
        return {"field": field.astype(np.int8).tobytes(), "split": split, "style": style}

    rows = [one("test", "a", 1), one("train", "b", 1), one("train", "b", 2), one("validation", "b", 1)]
    rows += [one("combination", "a", 3), one("train", "a", 3), one("train", "b", 3), one("combination", "a", 1)]
    assert twins(rows).tolist() == [False, True, False, False, False, True, False, False]


def test_each_set_says_its_licence_and_none_is_share_alike():
    assert {"ri", "openmoji", "solar", "mdi", "duo-icons", "fluent-color"}.isdisjoint(SETS)
    allowed = {"MIT", "ISC AND MIT", "Apache-2.0", "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0"}
    assert {one.package.licence for one in SETS.values()} == allowed
    assert {*DEFAULT} <= {*SET_OF} and all(words(one.package.credit) for one in SETS.values())
    by_attribution = {SET_OF[style] for style in DEFAULT if SETS[SET_OF[style]].package.licence.startswith("CC")}
    assert by_attribution == set()


def test_credits_stand_in_the_notice_of_the_project():
    notice = (Path(__file__).parents[3] / "NOTICE").read_text(encoding="utf-8")
    for package in [*(one.package for one in SETS.values()), *icons_data.WORDS.values()]:
        assert f"{package.name} {package.version}" in " ".join(notice.split()), package
