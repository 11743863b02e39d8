"""How good are the generated emoji? The protocol of `inkwash evaluate emoji`.

Every picture, 64 x 64 or 256 x 256 on white, is seen at 128 x 128 through EfficientNet-Lite0 (metrics.py), which was
trained on photographs and never on anything here.

Pairs. A pair is a concept in a style; its name is the prompt. For each kind of pair (concepts of the training
split; concepts of the held-out split, in no style ever trained on; for the test split also held-out
combinations, a trained concept in a trained style that were never seen together) the same number of pairs is
drawn from every style, and each is generated once, with a seed of its own.

Recognition. A picture of style S is looked up among all real pictures of all concepts in all *other* styles;
it counts as top-k when its concept is among the k nearest (cosine to the concept's nearest picture). So a
real picture never meets itself, and real and generated pictures are measured under one rule. Beside the
generated pictures stand, for the same pairs,
- real: the true picture, the score of a perfect model;
- retrieval: the training picture of that style whose name is nearest to the prompt under the model's own
  text encoder, the score of a model that only looks up (for training concepts it is the true picture itself);
- mean prediction alone: what a model that has a mean predictor draws of it without any diffusion;
- chance: k / concepts in the gallery.
With each rate comes Wilson's 95 % interval, which treats pairs as independent; over all styles it is a little
too narrow, because a concept may be drawn in several.

In Chinese. The same pairs of training and of held-out concepts once more, asked for by their Chinese names; retrieval
then compares Chinese names.

Colours. "a blue cat": pairs of a training concept and a colour in which it was never seen (colours.held_out), in all
styles alike. The colour is obeyed when the main colour of the picture (colours.main_colour) is the one asked for.
Beside it stand the pictures drawn from the same names without the colour, which says how often it comes by chance,
and real pictures whose names hold a colour, which says how often the measure itself is right.

As people type. "a cup of cocoa": phrases for training and held-out concepts (phrases.py), each drawn beside the
concept's own name, in the same style. A phrase is recognised when one of the concepts that it may mean is
among the k nearest. Phrases of which every word stands in captions of the concept are told from those with a new one.
For the test split alone: nothing is chosen by them.

Distance. Frechet distance between the features of the generated and of the true pictures of the same pairs, in
all styles together and in each; beside it that of retrieval, of other training pictures in the same styles, and
of the same concepts in another style (in each style only: together they would be partly the true pictures).
Always with the same number of pictures, because the estimate depends on it: what other training pictures get is
what sampling alone costs.

Memory. Each generated picture's nearest training picture of any style, by cosine: its quantiles beside those
of real held-out pictures, and a sheet of 16 for the eye. Copies would show as a distribution to the right of
the real one.

What is chosen is chosen with split="validation"; split="test" is for the final table.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.codecs.pixels import on_white
from inkwash.errors import UserError, unknown
from inkwash.systems.pictures.captions import ENGLISH, paint
from inkwash.systems.pictures.colours import (
    COLOURS,
    WORD,
    held_out,
    main_colour,
    recolour,
    recolourable,
)
from inkwash.systems.pictures.emoji_data import Emoji
from inkwash.systems.pictures.metrics import concept_rank, features, frechet_distance, nearest
from inkwash.systems.pictures.phrases import Phrase, phrases
from inkwash.systems.pictures.recognition import (
    QUANTILES,
    SIZE,
    TOP,
    Encode,
    by_style,
    chance,
    in_another_style,
    labelled_grid,
    real_features,
    recognition,
    retrieve,
    sample_pairs,
    unit_names,
)
from inkwash.systems.report import Report, Row, row, wilson
from inkwash.weights.files import atomic

ANOTHER_STYLE = "same concepts, another style"
TYPED, TYPED_NAMES = "as people type", "the same by name"

Generate = Callable[[list[str], str, list[int]], np.ndarray]  # prompts, style, seeds -> (N, size, size, 3) uint8


def evaluate(
    generate: Generate,
    encode: Encode,
    data: Emoji,
    out: Path,
    split: str = "test",
    per_row: int = 300,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    mean: Generate | None = None,
) -> Report:
    """The report of the protocol above; the sheet of nearest training pictures is written to `out`/nearest.png.

    generate  (prompts, style, seeds) -> uint8 (N, size, size, 3) on white, of the size of `data`
    encode    the model's text encoder: texts -> {"pooled": (N, D), ...}, for the retrieval baseline
    data      all styles and all splits
    split     "validation" or "test"
    per_row   pairs of each kind, spread evenly over the styles (fewer where a style has fewer)
    seed      draws the pairs; picture i of the run has the seed `seed` + i
    progress  is told (pictures generated, in all)
    mean      as `generate`, without diffusion
    """
    kinds = {"training concepts": "train", "held-out concepts": split}
    if split == "test":
        kinds["held-out combinations"] = "combination"
    elif split != "validation":
        raise unknown("split", split, ["validation", "test"])
    rng = np.random.default_rng(seed)
    pairs = {kind: sample_pairs(data, data.split == name, per_row, rng) for kind, name in kinds.items()}
    prompts = {kind: data.name[chosen].tolist() for kind, chosen in pairs.items()}
    chinese = {f"{kind}, in Chinese": pairs[kind] for kind in ("training concepts", "held-out concepts")}
    coloured, colours = _colour_pairs(data, per_row, rng)
    typed_phrases = sorted(phrases(data), key=lambda phrase: str(data.style[phrase.row])) if split == "test" else []
    rows_typed = np.array([phrase.row for phrase in typed_phrases], int)
    typed = dict.fromkeys((TYPED, TYPED_NAMES), rows_typed) if typed_phrases else {}
    if empty := [kind for kind, chosen in pairs.items() if len(chosen) == 0]:
        raise UserError(f"the data have no {empty[0]} drawn in two or more styles: load all styles")
    train = np.flatnonzero(data.split == "train")

    started = time.process_time()
    requested = pairs | chinese | {"with a colour": coloured, "without": coloured} | typed
    prompts |= {kind: data.name_zh[chosen].tolist() for kind, chosen in chinese.items()}
    prompts["with a colour"] = [
        f"a {paint(str(data.name[i]), c, ENGLISH)}" for i, c in zip(coloured, colours, strict=True)
    ]
    prompts["without"] = [WORD.sub("", data.name[i]).strip() for i in coloured]
    if typed_phrases:
        prompts[TYPED] = [phrase.text for phrase in typed_phrases]
        prompts[TYPED_NAMES] = [str((data.name if p.text.isascii() else data.name_zh)[p.row]) for p in typed_phrases]
    pictures = _generate(
        generate, prompts, {kind: data.style[chosen] for kind, chosen in requested.items()}, seed, progress
    )
    generating, started = time.process_time() - started, time.process_time()

    white = on_white(data.pictures)
    checksum = hashlib.sha256(white.tobytes()).hexdigest()
    real = real_features(white, checksum, out / "cache")
    generated = {kind: features(pictures[kind], SIZE) for kind in [*pairs, *chinese, *typed]}
    mean_features = {}
    if mean is not None:
        styles = {kind: data.style[chosen] for kind, chosen in pairs.items()}
        mean_pictures = _generate(mean, {kind: prompts[kind] for kind in pairs}, styles, seed, None)
        mean_features = {kind: features(shown, SIZE) for kind, shown in mean_pictures.items()}
    names, names_zh = unit_names(encode, data.name), unit_names(encode, data.name_zh)

    rows: list[Row] = []
    for kind, chosen in pairs.items():
        sources = {"generated": generated[kind], "real": real[chosen]}
        if kind != "training concepts":
            sources["retrieval"] = real[retrieve(names, chosen, data)]
        if kind in mean_features:
            sources["mean prediction alone"] = mean_features[kind]
        for source, x in sources.items():
            rows += recognition(source, kind, x, chosen, real, data)
        rows += chance(kind, chosen, data)

        other_rows = np.setdiff1d(train, chosen)
        sources[ANOTHER_STYLE] = real[[rng.choice(np.flatnonzero(in_another_style(data, i))) for i in chosen]]
        sources["other training pictures"] = real[_match_styles(other_rows, data.style, data.style[chosen], rng)]
        for source, x in sources.items():
            if source != "real" and len(x) == len(chosen):  # there may be too few others
                rows += _distance(source, kind, x, real[chosen], data.style[chosen])

        for source in ("generated", "real"):
            if source == "generated" or kind != "training concepts":
                index, cosine = nearest(sources[source], real[train])
                same, n = int((data.concept[train[index]] == data.concept[chosen]).sum()), len(chosen)
                keys: dict[str, Any] = {"n": n, "source": source, "of": kind, "style": "all"}
                rows += [row(f"cosine, {name}", np.quantile(cosine, q), **keys) for name, q in QUANTILES.items()]
                rows.append(row("same concept", same / n, wilson(same, n), **keys))

    for kind, chosen in chinese.items():
        rows += recognition("generated", kind, generated[kind], chosen, real, data)
        if kind.startswith("held-out"):
            rows += recognition("retrieval", kind, real[retrieve(names_zh, chosen, data)], chosen, real, data)
        rows += chance(kind, chosen, data)

    if typed_phrases:
        texts = unit_names(encode, np.array(prompts[TYPED]))
        sources = {"generated": generated[TYPED], "generated from its name": generated[TYPED_NAMES]}
        sources["retrieval"] = real[retrieve(names, typed[TYPED], data, texts)]
        rows += _typed_rows(sources, typed_phrases, data, real)

    chosen, shown, x = (np.concatenate([d[kind] for kind in pairs]) for d in (pairs, pictures, generated))
    examples = np.sort(rng.choice(len(chosen), min(16, len(chosen)), replace=False))
    index, cosine = nearest(x[examples], real[train])
    labels = [
        f"{data.name[i]}, {data.style[i]} ({data.split[i]})\nnearest: {data.name[j]}, {data.style[j]}\n{c:.2f}"
        for i, j, c in zip(chosen[examples], train[index], cosine, strict=True)
    ]
    with atomic(out / "nearest.png") as file:
        labelled_grid(shown[examples], white[train[index]], labels).save(file)

    return Report(
        title=f"{per_row} pairs of each kind, drawn once, seen by EfficientNet-Lite0 (ImageNet) at {SIZE} pixels.",
        system="pictures",
        data={"split": split, "sha256": checksum, "pictures": len(data.style)},
        seeds=[seed],
        cpu_seconds={"to generate": generating, "to score": time.process_time() - started},
        rows=rows + _colour_rows(pictures, colours, data, white),
        figures={"nearest training pictures": "nearest.png"},
    )


def _typed_rows(sources: Mapping[str, np.ndarray], typed: list[Phrase], data: Emoji, real: np.ndarray) -> list[Row]:
    """How often one of the concepts that a phrase may mean is recognised, of all phrases and of their kinds."""
    held_out = np.isin(data.split[[phrase.row for phrase in typed]], ["test", "validation"])
    new, english = (np.array(values) for values in zip(*((p.new, p.text.isascii()) for p in typed), strict=True))
    kinds = {
        "phrases": new == new,
        "phrases of known words": ~new,
        "phrases with a new word": new & ~held_out,
        "phrases of held-out concepts": held_out,
        "phrases in Chinese": ~english,
    }
    rows = []
    for source, x in sources.items():
        rank = np.array([_typed_rank(x[i], phrase, data, real) for i, phrase in enumerate(typed)])
        for kind, mask in kinds.items():
            for k in TOP:
                hits, n = int((rank[mask] <= k).sum()), int(mask.sum())
                if n:
                    rows.append(row(f"top {k}", hits / n, wilson(hits, n), n, source=source, of=kind, style="all"))
    return rows


def _typed_rank(x: np.ndarray, phrase: Phrase, data: Emoji, real: np.ndarray) -> int:
    """The best rank of the concepts that a phrase may mean, among the pictures in other styles."""
    gallery = data.style != data.style[phrase.row]
    concepts = [concept for concept in phrase.concepts if concept in data.concept[gallery]]
    return int(
        concept_rank(np.stack([x] * len(concepts)), np.array(concepts), real[gallery], data.concept[gallery]).min()
    )


def _colour_pairs(data: Emoji, count: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Training pictures, from every style as many, and for each a colour in which its concept was never seen.

    White and grey are left out: on white neither can be told from what is behind or from a shadow.
    """
    rows, words = [], []
    for style in np.unique(data.style):
        count_of_style = 0
        for i in rng.permutation(np.flatnonzero((data.split == "train") & (data.style == style))):
            free = [c for c in COLOURS if c not in ("white", "grey") and held_out(str(data.concept[i]), c)]
            free = [c for c in free if recolour(data.pictures[i], c) is not None]
            if (
                count_of_style < round(count / len(np.unique(data.style)))
                and free
                and recolourable(data.group[i], data.name[i])
            ):
                rows.append(int(i))
                words.append(str(rng.choice(free)))
                count_of_style += 1
    return np.array(rows, int), words


def _colour_rows(pictures: Mapping[str, np.ndarray], colours: list[str], data: Emoji, white: np.ndarray) -> list[Row]:
    """How often the main colour is the one in the words: of generated pictures, by chance, and of real ones."""
    named = [
        (i, match[1])
        for i in range(len(data.name))
        if (match := WORD.search(data.name[i])) and recolourable(data.group[i], data.name[i])
        if data.name[i].count(" ") == 1 and match[1] != "white"
    ]
    hits = {
        "asked for": [main_colour(p) == c for p, c in zip(pictures["with a colour"], colours, strict=True)],
        "not asked for": [main_colour(p) == c for p, c in zip(pictures["without"], colours, strict=True)],
        "real, with a colour in the name": [main_colour(white[i]) == c for i, c in named],
    }
    groups = [(source, "all", hit) for source, hit in hits.items() if hit]
    for colour in sorted(set(colours)):
        of = [hit for hit, requested in zip(hits["asked for"], colours, strict=True) if requested == colour]
        groups.append(("asked for", colour, of))
    return [
        row("colour obeyed", sum(hit) / len(hit), wilson(sum(hit), len(hit)), len(hit), source=source, colour=colour)
        for source, colour, hit in groups
    ]


def _match_styles(rows: np.ndarray, styles: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many of the rows in each style as `wanted` has, or all where there are fewer."""
    chosen = []
    for style, n in zip(*np.unique(wanted, return_counts=True), strict=True):
        chosen.append(rng.permutation(rows[styles[rows] == style])[:n])
    return np.concatenate(chosen)


def _generate(
    generate: Generate,
    prompts: Mapping[str, list[str]],
    styles: Mapping[str, np.ndarray],
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, np.ndarray]:
    total = sum(map(len, prompts.values()))
    done, pictures = 0, {}
    for kind, texts in prompts.items():
        batches: list[np.ndarray] = []
        # Pairs lie style by style.
        for style in np.unique(styles[kind]):
            prompts_of_style = [text for text, style_of in zip(texts, styles[kind], strict=True) if style_of == style]
            for start in range(0, len(prompts_of_style), 32):
                batch = prompts_of_style[start : start + 32]
                batches.append(generate(batch, str(style), list(range(seed + done, seed + done + len(batch)))))
                done += len(batch)
                if progress:
                    progress(done, total)
        pictures[kind] = np.concatenate(batches) if batches else np.zeros((0, 8, 8, 3), np.uint8)
    return pictures


def _distance(source: str, kind: str, x: np.ndarray, true: np.ndarray, styles: np.ndarray) -> list[Row]:
    return [
        row(
            "Frechet distance", frechet_distance(x[of], true[of]), n=int(of.sum()),
            source=source, of=kind, style=style,
        )
        for style, of in by_style(styles)
        if of.sum() > 1 and not (style == "all" and source == ANOTHER_STYLE)
    ]  # fmt: skip
