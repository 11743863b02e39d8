"""The protocol of icons gives known answers for models whose worth is known."""

import numpy as np
import pytest

from inkwash.errors import UserError
from inkwash.systems.pictures import evaluate_icons as protocol
from inkwash.systems.pictures import recognition
from inkwash.systems.pictures.evaluate_icons import (
    HELD_OUT,
    SEEN,
    TRAINED,
    UNSEEN,
    discriminant,
    evaluate,
    roughened,
    style_classifier,
    unevenness,
)
from inkwash.systems.pictures.icons_data import Icons
from inkwash.systems.report import Report

NAMES, STYLES = 40, ("line", "pen", "solid")
SPLITS = ["train"] * 24 + ["validation"] * 6 + ["test"] * 10


def icons() -> Icons:
    """A name is a coarse random field; a style shifts it, as another weight does, and adds a little noise."""
    rng = np.random.default_rng(0)
    patterns = rng.choice([-1.5, 1.5], (NAMES, 8, 8)).repeat(4, 1).repeat(4, 2)
    rows = [(style, i) for style in STYLES for i in range(NAMES)]
    shift = {style: 0.6 * i for i, style in enumerate(STYLES)}
    fields = [patterns[i] - 0.6 + shift[style] + rng.normal(0, 0.05, (32, 32)) for style, i in rows]
    names = np.array([f"thing {i:x}" for _, i in rows])
    blank: list[list[str]] = [[] for _ in rows]
    return Icons(
        fields=np.stack(fields).clip(-2, 2).astype(np.float32),
        style=np.array([style for style, _ in rows]),
        icon=names,
        name=names,
        aliases=blank,
        tags=blank,
        name_zh=np.array([f"东西 {i:x}" if i % 2 else "" for _, i in rows]),
        tags_zh=blank,
        split=np.array(["combination" if s == "pen" and i < 6 else SPLITS[i] for s, i in rows]),
        licence=np.full(len(rows), "MIT"),
        author=np.full(len(rows), "nobody"),
    )


@pytest.fixture(autouse=True)
def pixels_for_features(monkeypatch):
    def features(pictures, size):
        return pictures[:, ::8, ::8, 0].reshape(len(pictures), -1).astype(np.float32) - 128

    for module in (protocol, recognition):
        monkeypatch.setattr(module, "features", features)


def encode(texts):
    """Nearby names have nearby states."""
    angle = np.array([int(text.split()[-1], 16) / NAMES for text in texts])
    return {"pooled": np.stack([np.cos(angle), np.sin(angle)], 1)}


def run(generate, folder, **options):
    report = evaluate(generate, encode, icons(), 32, folder, **{"per_row": 12, **options})
    assert Report.load(report.save(folder / "report.json")) == report
    return report


def value(report, metric, source, of, style="all"):
    keys = {"metric": metric, "source": source, "of": of, "style": style}
    (found,) = (row["value"] for row in report.rows if keys.items() <= row.items())
    return found


def field_of(data, prompt, style):
    (i,) = np.flatnonzero((data.style == style) & ((data.name == prompt) | (data.name_zh == prompt)))
    return data.fields[i]


def perfect(prompts, styles, seeds, references):
    data = icons()
    if references is None:
        return np.stack([field_of(data, prompt, style) for prompt, style in zip(prompts, styles, strict=True)])
    shown = [int(abs(data.fields - reference).mean((1, 2)).argmin()) for reference in references]
    return np.stack([field_of(data, data.name[i], style) for i, style in zip(shown, styles, strict=True)])


def test_a_perfect_model_scores_as_the_real_icons(tmp_path):
    report = run(perfect, tmp_path)
    for kind in (TRAINED, HELD_OUT, UNSEEN):
        memory = () if kind == TRAINED else ("cosine, median",)
        for metric in ("top 1", "top 10", "style obeyed", "unevenness", *memory):
            assert value(report, metric, "generated", kind) == pytest.approx(value(report, metric, "real", kind))
        assert value(report, "IoU, median", "generated", kind) == 1
        assert value(report, "top 1", "generated", kind) == 1
    for kind in (
        f"{TRAINED}, in Chinese",
        f"{HELD_OUT}, with a picture",
        f"{UNSEEN}, with a picture, no words",
        SEEN,
    ):
        assert value(report, "top 1", "generated", kind) == 1
    assert value(report, "top 1", "retrieval", HELD_OUT) < 0.5  # whose nearest name is another
    assert value(report, "IoU, median", "retrieval", HELD_OUT) < 0.9
    assert (tmp_path / "nearest.png").exists()


def test_a_model_that_looks_up_the_nearest_name_scores_as_retrieval(tmp_path):
    data = icons()
    names, trained = encode(data.name.tolist())["pooled"], data.split == "train"

    def lookup(prompts, styles, seeds, references):
        states = encode(["thing 0" if prompt == "" else prompt for prompt in prompts])["pooled"]
        near = states @ names.T
        return data.fields[
            [np.where(trained & (data.style == s), row, -1).argmax() for s, row in zip(styles, near, strict=True)]
        ]

    report = run(lookup, tmp_path)
    for kind in (HELD_OUT, UNSEEN, f"{HELD_OUT}, in Chinese"):
        for metric in ("top 1", "top 10", "style obeyed", "unevenness", "IoU, median"):
            assert value(report, metric, "generated", kind) == value(report, metric, "retrieval", kind)
    assert value(report, "cosine, 5 %", "generated", HELD_OUT) == pytest.approx(1)


def test_no_icon_is_found_by_its_own_style(tmp_path, monkeypatch):
    data = icons()
    rng = np.random.default_rng(1)
    data.fields[:] = rng.choice([-1.5, 1.5], (len(data.name), 8, 8)).repeat(4, 1).repeat(4, 2)  # no two alike
    monkeypatch.setitem(globals(), "icons", lambda: data)
    report = run(perfect, tmp_path)
    for source in ("real", "generated"):
        assert value(report, "top 1", source, TRAINED) < 0.5
    assert value(report, "IoU, median", "generated", TRAINED) == 1


def test_styles_with_many_make_up_for_those_with_few():
    data = icons()
    few = (data.style != "solid") | np.isin(data.name, data.name[:2])
    chosen = recognition.sample_pairs(data, few, 20, np.random.default_rng(0))
    assert len(set(chosen)) == 20 and few[chosen].all()
    assert np.unique(data.style[chosen], return_counts=True)[1].tolist() == [9, 9, 2]


def test_a_model_that_copies_the_picture_it_is_shown_does_not_obey_the_style(tmp_path):
    def copy(prompts, styles, seeds, references):
        return perfect(prompts, styles, seeds, None) if references is None else references

    report = run(copy, tmp_path)
    assert value(report, "style obeyed", "generated", TRAINED) > 0.9
    assert value(report, "style obeyed", "generated", f"{HELD_OUT}, with a picture") < 0.2


def test_a_model_that_ignores_the_words_is_at_chance(tmp_path):
    def constant(prompts, styles, seeds, references):
        return np.stack([np.random.default_rng(seed).normal(size=(32, 32)) for seed in seeds]).astype(np.float32)

    report = run(constant, tmp_path, mean=perfect)
    assert value(report, "top 1", "generated", TRAINED) < 0.3
    assert value(report, "top 1", "chance", TRAINED) == pytest.approx(1 / NAMES)
    assert value(report, "top 1", "mean prediction alone", TRAINED) == 1
    assert value(report, "cosine, largest", "generated", TRAINED) < 0.5


def test_choosing_never_reads_what_the_final_table_reports(tmp_path):
    data, asked_for = icons(), set()

    def note(prompts, styles, seeds, references):
        asked_for.update(zip(prompts, styles, strict=True))
        return perfect(prompts, styles, seeds, references)

    report = run(note, tmp_path, split="validation")
    held = {(n, s) for n, s, split in zip(data.name, data.style, data.split, strict=True) if split == "test"}
    held |= {(n, s) for n, s, split in zip(data.name, data.style, data.split, strict=True) if split == "combination"}
    assert not held & asked_for and UNSEEN not in {row["of"] for row in report.rows}


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="unknown split 'train'"):
        run(perfect, tmp_path, split="train")


def test_unevenness_is_none_of_a_distance_and_grows_with_wobble():
    y, x = np.mgrid[:32, :32] - 15.5
    disc = 10 - np.hypot(x, y)
    wobbly = disc + 0.5 * np.sin(2 * x) * np.sin(2 * y)
    assert unevenness(disc[None])[0] < 0.01 < 0.1 < unevenness(wobbly[None])[0]


def test_a_style_is_seen_in_an_uneven_drawing_too():
    y, x = np.mgrid[:32, :32] - 15.5
    rng = np.random.default_rng(0)
    styles = np.repeat(["thin", "bold", "filled"], 40)
    widths = {"thin": 1.0, "bold": 1.6, "filled": 50.0}

    def rings():
        away = [np.hypot(x - rng.normal(), y - rng.normal()) - rng.uniform(8, 12) for _ in styles]
        return np.stack([widths[style] - abs(ring + widths[style]) for style, ring in zip(styles, away, strict=True)])

    classify = style_classifier(rings(), styles, rng)
    for sd in (0.0, 0.05, 0.15):
        assert (classify(roughened(rings(), sd, rng)) == styles).mean() > 0.9
    assert unevenness(roughened(rings(), 0.15, rng)).mean() > unevenness(rings()).mean() + 0.02


def test_a_discriminant_finds_what_the_means_differ_in():
    rng = np.random.default_rng(0)
    stretched = rng.normal(size=(600, 4)) * [0.1, 10, 1, 1]
    classes = np.repeat(["a", "b", "c"], 200)
    x = stretched + np.outer([0.0] * 200 + [1.0] * 200 + [2.0] * 200, [1, 0, 0, 0])
    assert (discriminant(x[::2], classes[::2])(x[1::2]) == classes[1::2]).mean() > 0.98
