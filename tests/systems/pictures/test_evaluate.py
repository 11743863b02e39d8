"""The protocol gives known answers for models whose worth is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.errors import UserError
from inkwash.systems.pictures import colours, recognition
from inkwash.systems.pictures import evaluate as protocol
from inkwash.systems.pictures.emoji_data import Emoji
from inkwash.systems.pictures.evaluate import evaluate
from inkwash.systems.report import Report

CONCEPTS, STYLES = 40, ("ink", "oil", "wash")
SPLITS = ["train"] * 24 + ["validation"] * 6 + ["test"] * 10


def emoji(red=False):
    """A concept is a coarse random pattern, in red alone if wanted; a style is a little noise upon it."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 216, (CONCEPTS, 8, 8, 4)).repeat(8, 1).repeat(8, 2)
    if red:
        patterns[..., 0], patterns[..., 1:3] = 160 + patterns[..., 0] // 4, 40
    patterns[..., 3] = 255
    pictures, style, concept, split = [], [], [], []
    for s in STYLES:
        for c in range(CONCEPTS):
            noise = rng.integers(-30, 31, (8, 8, 4)).repeat(8, 0).repeat(8, 1)
            pictures.append((patterns[c] + noise * [1, 1, 1, 0]).astype(np.uint8))
            style.append(s)
            concept.append(f"{c:x}")
            split.append("combination" if s == "ink" and c < 6 else SPLITS[c])
    n = len(style)
    style, concept, split = map(np.array, (style, concept, split))
    name, name_zh = (np.array([f"{word} {c}" for c in concept]) for word in ("thing", "东西"))
    none, tags = np.full(n, ""), [[]] * n
    return Emoji(np.stack(pictures), style, concept, name, tags, none, split, none, name_zh, tags, tags)


@pytest.fixture(autouse=True)
def pixels_for_features(monkeypatch):
    def features(pictures, size):
        return pictures[:, ::8, ::8].reshape(len(pictures), -1).astype(np.float32) - 128

    for module in (protocol, recognition):
        monkeypatch.setattr(module, "features", features)


def encode(texts):
    """Nearby concepts have nearby names."""
    angle = torch.tensor([int(text.split()[-1], 16) / CONCEPTS for text in texts])
    return {"pooled": torch.stack([angle.cos(), angle.sin()], 1)}


def run(generate, tmp_path, red=False, **options):
    report = evaluate(generate, encode, emoji(red), tmp_path, **options)
    assert Report.load(report.save(tmp_path / "report.json")) == report
    return report


def row(report, metric, source, of, style="all"):
    wanted = {"metric": metric, "source": source, "of": of, "style": style}
    (found,) = (row for row in report.rows if wanted.items() <= row.items())
    return found


def value(*which):
    return row(*which)["value"]


def perfect(prompts, style, seeds):
    data = emoji()
    index = [np.flatnonzero((data.concept == p.split()[-1]) & (data.style == style))[0] for p in prompts]
    return data.pictures[index, ..., :3]


def test_a_perfect_model_scores_as_the_real_pictures(tmp_path):
    report = run(perfect, tmp_path, per_row=15)
    for kind in ("training concepts", "held-out concepts"):
        assert value(report, "top 1", "generated", f"{kind}, in Chinese") == 1
    assert value(report, "top 1", "retrieval", "held-out concepts, in Chinese") == 0
    for kind in ("training concepts", "held-out concepts", "held-out combinations"):
        for style in ("all", "ink"):
            generated, real = (row(report, "top 10", source, kind, style) for source in ("generated", "real"))
            assert generated == real | {"source": "generated"}
        assert value(report, "top 1", "real", kind) == 1
    # The lookup cannot know a held-out concept, and a neighbour in name is none in looks.
    assert value(report, "top 1", "retrieval", "held-out concepts") == 0
    styles = {r["style"] for r in report.rows if r.get("of") == "held-out combinations" and r["source"] != "real"}
    assert styles == {"all", "ink"}
    kind = "held-out concepts"
    assert value(report, "Frechet distance", "generated", kind) == pytest.approx(0, abs=1e-3)
    another, other = (
        value(report, "Frechet distance", source, kind, "ink")
        for source in ("same concepts, another style", "other training pictures")
    )
    assert 0 < another < other
    assert value(report, "cosine, 5 %", "generated", "training concepts") == pytest.approx(1)
    assert value(report, "same concept", "generated", "training concepts") == 1
    for name in ("5 %", "median", "95 %", "largest"):
        assert value(report, f"cosine, {name}", "generated", kind) == value(report, f"cosine, {name}", "real", kind)
    (figure,) = report.figures.values()
    with Image.open(tmp_path / figure) as sheet:
        assert sheet.size == (640, 8 * 180)
    assert "| generated | held-out concepts | all | 15 | 1.00 [0.80, 1.00] |" in report.markdown()
    assert "FID" not in report.markdown()


def test_phrases_are_recognised_as_what_they_may_mean(tmp_path, monkeypatch):
    """Words of the concept's own are understood here, "gizmo" never; what may mean two things may be either."""
    phrases = "my thing 3=thing 3; gizmo 4=thing 4; thing 5=thing 6/thing 5; thing 24=thing 24; 东西 7=thing 7"
    monkeypatch.setattr("inkwash.systems.pictures.phrases.PHRASES", phrases)

    def obedient(prompts, style, seeds):
        return perfect(["thing 0" if "gizmo" in prompt else prompt for prompt in prompts], style, seeds)

    report = run(obedient, tmp_path, per_row=15)
    kinds = {
        "phrases": (4, 5), "phrases of known words": (3, 3), "phrases with a new word": (0, 1),
        "phrases of held-out concepts": (1, 1), "phrases in Chinese": (1, 1),
    }  # fmt: skip
    for kind, (hits, n) in kinds.items():
        found = row(report, "top 1", "generated", kind)
        assert (found["value"], found["n"]) == (hits / n, n)
        assert value(report, "top 1", "generated from its name", kind) == 1
    assert value(report, "top 1", "retrieval", "phrases") < 1
    chosen = run(obedient, tmp_path, per_row=15, split="validation")
    assert not any(str(row.get("of")).startswith("phrases") for row in chosen.rows)


def test_a_mean_is_measured_beside_the_pictures(tmp_path):
    """A model that draws one grey for everything, and whose mean predictor is perfect."""

    def grey(prompts, style, seeds):
        return np.full((len(seeds), 64, 64, 3), 90, np.uint8)

    report = run(grey, tmp_path, per_row=15, mean=perfect)
    for kind in ("training concepts", "held-out concepts", "held-out combinations"):
        assert value(report, "top 1", "mean prediction alone", kind) == value(report, "top 1", "real", kind) == 1
        assert value(report, "top 1", "generated", kind) < 0.2
    distance = value(report, "Frechet distance", "mean prediction alone", "held-out concepts")
    assert distance == pytest.approx(0, abs=1e-3)


def test_a_model_that_ignores_the_prompt_is_at_chance(tmp_path):
    def noise(prompts, style, seeds):
        return np.stack([np.random.default_rng(s).integers(0, 256, (64, 64, 3), np.uint8) for s in seeds])

    report = run(noise, tmp_path, per_row=1000)
    found = row(report, "top 10", "generated", "training concepts")
    assert found["n"] == 24 * 3 - 6
    assert value(report, "top 1", "chance", "training concepts") == pytest.approx(1 / CONCEPTS)
    assert value(report, "top 10", "chance", "training concepts") == pytest.approx(10 / CONCEPTS)
    assert found["low"] < 10 / CONCEPTS < found["high"]


def test_choosing_never_reads_what_the_final_table_reports(tmp_path):
    requested, seeds_seen = [], []

    def generate(prompts, style, seeds):
        requested.extend((prompt.split()[-1], style) for prompt in prompts)
        seeds_seen.extend(seeds)
        return perfect(prompts, style, seeds)

    report = run(generate, tmp_path, split="validation", per_row=12, seed=5)
    data = emoji()
    split = dict(zip(zip(data.concept, data.style, strict=True), data.split, strict=True))
    assert {split[pair] for pair in requested} == {"train", "validation"}
    kinds = {"training concepts", "held-out concepts"}
    assert {r["of"] for r in report.rows if "of" in r} == kinds | {f"{kind}, in Chinese" for kind in kinds}
    assert seeds_seen == list(range(5, 5 + len(seeds_seen))) and len(seeds_seen) >= 48
    with pytest.raises(UserError, match="unknown split 'tset': did you mean test"):
        run(generate, tmp_path, split="tset")


def test_recognition_needs_several_styles(tmp_path):
    data = emoji()
    one = Emoji(**{field: values[:CONCEPTS] for field, values in vars(data).items()})  # the first style
    with pytest.raises(UserError, match="no training concepts drawn in two or more styles"):
        evaluate(perfect, encode, one, tmp_path)


def test_features_of_real_pictures_are_kept(tmp_path, monkeypatch):
    first = run(perfect, tmp_path, per_row=6)
    seeds_seen, whole = [], protocol.features
    for module in (protocol, recognition):
        monkeypatch.setattr(module, "features", lambda p, size: seeds_seen.append(len(p)) or whole(p, size))
    again = run(perfect, tmp_path, per_row=6)
    assert again.rows == first.rows
    assert max(seeds_seen) == 6


def test_a_colour_is_obeyed_by_the_picture_that_has_it(tmp_path):
    """Red things, asked for in colours they were never seen in: one model paints them so, one leaves them red."""

    def paint(prompts, style, seeds):
        data, generated = emoji(red=True), []
        for prompt in prompts:
            picture = data.pictures[(data.concept == prompt.split()[-1]) & (data.style == style)][0]
            word = colours.WORD.search(prompt)
            generated.append((picture if word is None else colours.recolour(picture, word[1]))[..., :3])
        return np.stack(generated)

    def plain(prompts, style, seeds):
        return paint([colours.WORD.sub("", prompt) for prompt in prompts], style, seeds)

    for generate, low, high in ((paint, 0.9, 1), (plain, 0, 0)):
        report = run(generate, tmp_path, red=True, per_row=60)
        found = {(r["source"], r["colour"]): r for r in report.rows if r["metric"] == "colour obeyed"}
        requested, by_chance = found.pop(("asked for", "all")), found.pop(("not asked for", "all"))
        assert (
            requested["n"] == by_chance["n"] >= 40 and low <= requested["value"] <= high and by_chance["value"] == 0
        )
        assert sum(r["n"] for (source, _), r in found.items() if source == "asked for") == requested["n"]
