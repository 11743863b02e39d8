"""How good are the generated icons? The protocol of `inkwash evaluate icons`.

Pairs. A pair is a name in a style; the name is the prompt. For each kind of pair the styles give one each by turns,
as far as they reach, and each is generated once, with a seed of its own: names of the training split; held-out names
(no style of them was ever trained on, nor a twin of theirs under another name); for the test split also names held
out in one style alone ("never seen in that style"), and beside them the same names in a style in which they were
trained on.

In Chinese. As many pairs of training and of held-out names that have a Chinese name, which is then the prompt.

With a picture. The pairs of held-out names, and those never seen in that style, once more, the same thing in another
style shown to the model as a picture to draw alike: with the name, and without any words. That picture lies in the
gallery too: being found says that it was followed, the style that it was not copied.

Recognition. A picture of style S is looked up among all real icons of all *other* styles, by the features of
EfficientNet-Lite0 (metrics.py) of the drawing at 128 x 128 beside its distance field; it counts as top k when its
name is among the k nearest. A real icon never meets its own style, so that no drawing is found by itself.
Which features was decided by how well they find the real icons of the validation split. Beside the generated stand
- real: the true icon, the score of a perfect model;
- retrieval: the training icon of that style whose name is nearest to the prompt under the model's own text encoder;
- mean prediction alone: what the words suggest without any diffusion;
- chance: k / names in the gallery.
With each rate comes Wilson's 95 % interval.

Style. A linear discriminant (Fisher 1936) of the joint histogram of a field's value and slope (widths of strokes,
share of ink, corners) says whose style a picture has; beside the generated ones stand the real ones of the same
pairs, since some sets draw nearly alike. It is fitted to training icons as they are and roughened, or it would take
an uneven line for another style.

Unevenness. The mean of | |gradient of the field| - 1 | within a pixel of the outline. A distance has slope 1, so this
is how far from crisp a drawing is; the true fields' own is that of corners and of averaging over a pixel.

Overlap. The median IoU of what is inside with the true icon of the same pair.

Memory. The cosine of each field, less its mean, to that of its nearest training icon of any style, beside that of
real held-out icons, and a sheet of 16 for the eye.

What is chosen is chosen with split="validation"; split="test" is for the final table.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.errors import UserError, unknown
from inkwash.systems.pictures.distance_fields import average, draw, limit
from inkwash.systems.pictures.icons_data import Icons
from inkwash.systems.pictures.metrics import features, nearest, unit
from inkwash.systems.pictures.recognition import (
    QUANTILES,
    SIZE,
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

TRAINED, HELD_OUT = "training names", "held-out names"
UNSEEN, SEEN = "never seen in that style", "the same, in a style where they were"
IN_CHINESE = ", in Chinese"
BATCH_SIZE = 32

# prompts, styles, seeds, fields of pictures to draw alike -> fields; fields are (N, side, side)
Generate = Callable[[list[str], list[str], list[int], np.ndarray | None], np.ndarray]


def evaluate(
    generate: Generate,
    encode: Encode,
    data: Icons,
    size: int,
    out: Path,
    split: str = "test",
    per_row: int = 300,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    mean: Generate | None = None,
) -> Report:
    """The report of the protocol above; the sheet of nearest training icons is written to `out`/nearest.png.

    generate  (prompts, styles, seeds, references or None) -> fields of `size` pixels
    encode    the model's text encoder: texts -> {"pooled": (N, D), ...}, for the retrieval baseline
    data      all styles and all splits
    per_row   pairs of each kind, or as many as there are
    seed      draws the pairs; picture i of the run has the seed `seed` + i
    mean      as `generate`, without diffusion
    """
    if split not in ("test", "validation"):
        raise unknown("split", split, ["validation", "test"])
    rng = np.random.default_rng(seed)
    fields = average(data.fields, data.fields.shape[-1] // size).clip(-limit(size), limit(size))
    pairs = pairs_of(data, split, per_row, rng)
    requests = requests_of(pairs, data, fields, rng)
    started = time.process_time()
    drawn = generate_all(generate, requests, data, seed, progress)
    generating, started = time.process_time() - started, time.process_time()

    checksum = hashlib.sha256(fields.tobytes()).hexdigest()
    white = draw(fields, SIZE)[..., :3]
    real = joined(real_features(white, checksum, out / "cache"), fields)
    names = unit_names(encode, data.name)
    trained = data.split == "train"
    style_of = style_classifier(fields[trained], data.style[trained], rng)
    rows: list[Row] = []
    for kind, (rows_of_kind, prompts, references) in requests.items():
        shown = {"generated": drawn[kind], "real": fields[rows_of_kind]}
        if references is None:
            if kind != TRAINED:  # whose nearest name is their own
                found = retrieve(names, rows_of_kind, data, unit_names(encode, np.array(prompts)))
                shown["retrieval"] = fields[found]
            if mean is not None:
                shown["mean prediction alone"] = generate_all(mean, {kind: requests[kind]}, data, seed)[kind]
        rows += chance(kind, rows_of_kind, data)
        for source, own in shown.items():
            x = joined(features(draw(own, SIZE)[..., :3], SIZE), own)
            rows += recognition(source, kind, x, rows_of_kind, real, data)
            rows += shape_rows(source, kind, own, fields[rows_of_kind], style_of(own), data.style[rows_of_kind])
            beside_training = source == "generated" or (source == "real" and not trained[rows_of_kind].any())
            if beside_training and references is None:
                rows += memory_rows(source, kind, own, fields[trained])
    sheet(pairs, drawn, fields, data, rng, out / "nearest.png")
    return Report(
        title=f"{per_row} pairs of each kind, drawn once, found again across sets.",
        system="pictures",
        data={"split": split, "sha256": checksum, "pictures": len(data.style)},
        seeds=[seed],
        cpu_seconds={"to generate": generating, "to score": time.process_time() - started},
        rows=rows,
        figures={"nearest training icons": "nearest.png"},
    )


def pairs_of(data: Icons, split: str, per_row: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The numbers of the true icons of each kind of pair."""
    trained, held_out = data.split == "train", data.split == split
    pairs = {TRAINED: sample_pairs(data, trained, per_row, rng), HELD_OUT: sample_pairs(data, held_out, per_row, rng)}
    if split == "test":
        pairs[UNSEEN] = sample_pairs(data, data.split == "combination", per_row, rng)
        pairs[SEEN] = np.sort(
            [rng.choice(np.flatnonzero(in_another_style(data, i) & trained)) for i in pairs[UNSEEN]]
        )
    if empty := [kind for kind, chosen in pairs.items() if len(chosen) == 0]:
        raise UserError(f"the data have no {empty[0]} drawn in two styles or more: load all styles")
    for kind, eligible in ((TRAINED, trained), (HELD_OUT, held_out)):
        chosen = sample_pairs(data, eligible & (data.name_zh != ""), per_row, rng)
        if len(chosen):
            pairs[kind + IN_CHINESE] = chosen
    return pairs


Requests = dict[str, tuple[np.ndarray, list[str], np.ndarray | None]]  # rows, prompts and references by kind


def requests_of(
    pairs: Mapping[str, np.ndarray], data: Icons, fields: np.ndarray, rng: np.random.Generator
) -> Requests:
    """What is drawn for each kind of pair, and once more alike another picture of it."""
    requests: Requests = {}
    for kind, chosen in pairs.items():
        prompts = data.name_zh if kind.endswith(IN_CHINESE) else data.name
        requests[kind] = chosen, prompts[chosen].tolist(), None
    for kind in (HELD_OUT, UNSEEN):
        if kind in pairs:
            chosen = pairs[kind]
            others = [rng.choice(np.flatnonzero(in_another_style(data, i))) for i in chosen]
            requests[f"{kind}, with a picture"] = chosen, data.name[chosen].tolist(), fields[others]
            requests[f"{kind}, with a picture, no words"] = chosen, [""] * len(chosen), fields[others]
    return requests


def generate_all(
    generate: Generate,
    requests: Requests,
    data: Icons,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    total, done, drawn = sum(len(chosen) for chosen, _, _ in requests.values()), 0, {}
    for kind, (chosen, prompts, references) in requests.items():
        batches = []
        for start in range(0, len(chosen), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            styles, seeds = data.style[chosen[part]].tolist(), [seed + done + i for i in range(len(chosen[part]))]
            batches.append(generate(prompts[part], styles, seeds, None if references is None else references[part]))
            done += len(styles)
            if progress:
                progress(done, total)
        drawn[kind] = np.concatenate(batches)
    return drawn


def joined(seen: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Features by which icons are compared: the encoder's, and the field less its mean, both of unit length."""
    return np.concatenate([unit(seen), unit(centred(fields))], axis=1)


def discriminant(x: np.ndarray, classes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fisher's linear discriminant: the class whose mean m_c is nearest in the metric of the covariance S within the
    classes, argmax_c m_c' S^-1 x - m_c' S^-1 m_c / 2; S has a hundredth of its mean variance on its diagonal."""
    names, index = np.unique(classes, return_inverse=True)
    means = np.stack([x[index == i].mean(0) for i in range(len(names))])
    within = np.cov((x - means[index]).T)
    within += 0.01 * np.trace(within) / len(within) * np.eye(len(within))
    weights = np.linalg.solve(within, means.T)
    bias = -0.5 * (means.T * weights).sum(0)
    return lambda y: np.asarray(names[(y @ weights + bias).argmax(1)])


def style_classifier(
    fields: np.ndarray, styles: np.ndarray, rng: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """Fields -> the style (N,) that each looks to have, by the histograms of these fields, even and uneven."""
    copies = [fields, *(roughened(fields, sd, rng) for sd in (0.05, 0.12))]
    classify = discriminant(np.concatenate([histogram(copy) for copy in copies]), np.tile(styles, len(copies)))
    return lambda others: classify(histogram(others))


def roughened(fields: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Fields with the noise of an uneven drawing, in pixels: white noise summed over 3 x 3 pixels, periodically."""
    noise = rng.normal(0, sd / 3, fields.shape)
    rough: np.ndarray = fields + sum(np.roll(noise, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    return rough


def slope(fields: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.hypot(*np.gradient(fields, axis=(1, 2)))
    return length


def histogram(fields: np.ndarray) -> np.ndarray:
    """Square roots (N, 72) of the joint histogram of each field's value and slope, whose distance is Hellinger's."""
    reach = limit(fields.shape[-1])
    bins = np.linspace(-reach, reach, 13), np.array([0, 0.25, 0.5, 0.75, 1, 1.25, np.inf])
    clipped = fields.clip(-reach, reach)
    pairs = zip(clipped, slope(clipped), strict=True)
    counts = [np.histogram2d(value.ravel(), steepness.ravel(), bins)[0].ravel() for value, steepness in pairs]
    roots: np.ndarray = np.sqrt(np.array(counts) / fields[0].size)
    return roots


def unevenness(fields: np.ndarray) -> np.ndarray:
    """The mean (N,) of | |gradient| - 1 | of fields (N, side, side) within a pixel of the outline."""
    near = abs(fields) < 1
    total: np.ndarray = (abs(slope(fields) - 1) * near).sum((1, 2)) / np.maximum(near.sum((1, 2)), 1)
    return total


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The IoU (N,) of what is inside two fields each, drawn at SIZE."""
    a, b = (draw(fields, SIZE)[..., 3] > 127 for fields in (one, other))
    shares: np.ndarray = (a & b).sum((1, 2)) / np.maximum((a | b).sum((1, 2)), 1)
    return shares


def shape_rows(
    source: str, kind: str, fields: np.ndarray, true: np.ndarray, found: np.ndarray, styles: np.ndarray
) -> list[Row]:
    """Style obeyed, unevenness and overlap, for all styles and for each."""
    rows, obeyed, uneven, shares = [], found == styles, unevenness(fields), overlap(fields, true)
    for style, of in by_style(styles):
        n, hits = int(of.sum()), int(obeyed[of].sum())
        keys: dict[str, Any] = {"source": source, "of": kind, "style": style}
        rows.append(row("style obeyed", hits / n, wilson(hits, n), n, **keys))
        rows.append(row("unevenness", uneven[of].mean(), n=n, **keys))
        if source != "real":
            rows.append(row("IoU, median", np.median(shares[of]), n=n, **keys))
    return rows


def memory_rows(source: str, kind: str, fields: np.ndarray, trained: np.ndarray) -> list[Row]:
    _, cosine = nearest(centred(fields), centred(trained))
    keys: dict[str, Any] = {"n": len(fields), "source": source, "of": kind, "style": "all"}
    return [row(f"cosine, {name}", np.quantile(cosine, q), **keys) for name, q in QUANTILES.items()]


def centred(fields: np.ndarray) -> np.ndarray:
    flat = fields.reshape(len(fields), -1)
    less_mean: np.ndarray = flat - flat.mean(1, keepdims=True) + 1e-9
    return less_mean


def sheet(
    pairs: Mapping[str, np.ndarray],
    drawn: Mapping[str, np.ndarray],
    fields: np.ndarray,
    data: Icons,
    rng: np.random.Generator,
    file: Path,
) -> None:
    """Generated icons beside their nearest training icons."""
    train = np.flatnonzero(data.split == "train")
    chosen, shown = (np.concatenate([of[kind] for kind in pairs]) for of in (pairs, drawn))
    examples = np.sort(rng.choice(len(chosen), min(16, len(chosen)), replace=False))
    index, cosine = nearest(centred(shown[examples]), centred(fields[train]))
    labels = [
        f"{data.name[i]}, {data.style[i]} ({data.split[i]})\nnearest: {data.name[j]}, {data.style[j]}\n{c:.2f}"
        for i, j, c in zip(chosen[examples], train[index], cosine, strict=True)
    ]
    generated, training = (draw(own, SIZE)[..., :3] for own in (shown[examples], fields[train[index]]))
    with atomic(file) as temporary:
        labelled_grid(generated, training, labels).save(temporary)
