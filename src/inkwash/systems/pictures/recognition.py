"""How generated pictures are recognised: what the protocols of emoji and of icons have in common."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inkwash.systems.pictures.metrics import concept_rank, features, unit
from inkwash.systems.report import Row, row, wilson
from inkwash.weights.files import atomic

SIZE = 128  # at which the encoder sees
TOP = (1, 10)
QUANTILES = {"5 %": 0.05, "median": 0.5, "95 %": 0.95, "largest": 1.0}  # of the cosine to the nearest

Encode = Callable[[list[str]], Mapping[str, np.ndarray]]


class Labelled(Protocol):
    """Pictures with what they show, of the data set of emoji or of icons; all (N,) of str."""

    @property
    def style(self) -> np.ndarray: ...
    @property
    def name(self) -> np.ndarray: ...
    @property
    def split(self) -> np.ndarray: ...
    @property
    def concept(self) -> np.ndarray: ...


def retrieve(names: np.ndarray, chosen: np.ndarray, data: Labelled, texts: np.ndarray | None = None) -> np.ndarray:
    """For each chosen picture the training picture of its style whose name is nearest to its own, or to the text."""
    texts = names[chosen] if texts is None else texts
    train = np.flatnonzero(data.split == "train")
    same_style = data.style[chosen][:, None] == data.style[train]
    found: np.ndarray = train[np.where(same_style, texts @ names[train].T, -np.inf).argmax(1)]
    return found


def in_another_style(data: Labelled, i: int) -> np.ndarray:
    """Which pictures (N,) show the concept of picture i in another style."""
    mask: np.ndarray = (data.concept == data.concept[i]) & (data.style != data.style[i])
    return mask


def sample_pairs(data: Labelled, eligible: np.ndarray, per_row: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `per_row` of the eligible pairs (N,) whose concept another style has too: from all styles by turns,
    so that those with many make up for those with few."""
    pools = []
    for style in np.unique(data.style):
        candidates = np.flatnonzero(eligible & (data.style == style)).tolist()
        pools.append(rng.permutation([i for i in candidates if in_another_style(data, i).any()]).astype(int))
    turn = np.concatenate([np.arange(len(pool)) for pool in pools])
    chosen: np.ndarray = np.concatenate(pools)[np.sort(np.argsort(turn, kind="stable")[:per_row])]
    return chosen


def real_features(white: np.ndarray, checksum: str, cache: Path) -> np.ndarray:
    path = cache / f"efficientnet-lite0-{SIZE}-{checksum[:16]}.npz"
    if not path.exists():
        with atomic(path) as file:
            np.savez(file, features=features(white, SIZE))
    with np.load(path) as stored:
        cached: np.ndarray = stored["features"]
    return cached


def unit_names(encode: Encode, names: np.ndarray) -> np.ndarray:
    """Pooled text states (N, D) of unit length."""
    texts, index = np.unique(names, return_inverse=True)
    states = [encode(texts[i : i + 64].tolist())["pooled"] for i in range(0, len(texts), 64)]
    pooled: np.ndarray = unit(np.concatenate(states))[index]
    return pooled


def recognition(
    source: str, kind: str, x: np.ndarray, chosen: np.ndarray, real: np.ndarray, data: Labelled
) -> list[Row]:
    """Rows for all styles and for each, of the pictures with features x that stand for the pairs."""
    styles, rank = data.style[chosen], np.empty(len(chosen), int)
    for style in np.unique(styles):
        gallery = data.style != style
        rank[styles == style] = concept_rank(
            x[styles == style], data.concept[chosen[styles == style]], real[gallery], data.concept[gallery]
        )
    rows = []
    for style, mask in by_style(styles):
        for k in TOP:
            hits, n = int((rank[mask] <= k).sum()), int(mask.sum())
            rows.append(row(f"top {k}", hits / n, wilson(hits, n), n, source=source, of=kind, style=style))
    return rows


def chance(kind: str, chosen: np.ndarray, data: Labelled) -> list[Row]:
    """What guessing would reach: k / concepts in the gallery."""
    styles = data.style[chosen]
    concepts = {style: len(np.unique(data.concept[data.style != style])) for style in np.unique(styles)}
    share = np.array([1 / concepts[style] for style in styles])
    return [
        row(f"top {k}", k * share[of].mean(), n=int(of.sum()), source="chance", of=kind, style=style)
        for style, of in by_style(styles)
        for k in TOP
    ]


def by_style(styles: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Which pictures (N,) are of any style, and of each."""
    return [("all", styles == styles), *((style, styles == style) for style in np.unique(styles).tolist())]


def labelled_grid(generated: np.ndarray, training: np.ndarray, labels: list[str]) -> Image.Image:
    """Pairs of pictures, generated | nearest training, each with its label below, two pairs a line."""
    side, text, width = 128, 52, 320
    grid = Image.new("RGB", (2 * width, -(-len(labels) // 2) * (side + text)), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(12)
    for i, (*both, label) in enumerate(zip(generated, training, labels, strict=True)):
        left, top = (i % 2) * width + 8, i // 2 * (side + text)
        for j, picture in enumerate(both):
            image = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
            grid.paste(image, (left + j * (side + 8), top))
        draw.multiline_text((left, top + side + 2), label, fill="black", font=font, spacing=1)
    return grid
