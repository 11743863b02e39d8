"""Colour words: other colours for a picture and its caption."""

import hashlib
import re
from typing import NamedTuple

import numpy as np


class Colour(NamedTuple):
    """A colour word in Chinese, and its place in OKLCH: lightness, chroma, hue in degrees (no hue: a grey)."""

    chinese: str
    lightness: float
    chroma: float
    hue: float | None


COLOURS = {
    "red": Colour("红色", 0.58, 0.21, 26),
    "orange": Colour("橙色", 0.73, 0.17, 58),
    "yellow": Colour("黄色", 0.86, 0.17, 92),
    "green": Colour("绿色", 0.62, 0.17, 143),
    "blue": Colour("蓝色", 0.56, 0.17, 254),
    "purple": Colour("紫色", 0.52, 0.19, 302),
    "pink": Colour("粉色", 0.78, 0.14, 355),
    "brown": Colour("棕色", 0.45, 0.08, 50),
    "black": Colour("黑色", 0.27, 0.0, None),
    "white": Colour("白色", 0.96, 0.0, None),
    "grey": Colour("灰色", 0.65, 0.0, None),
}
# OKLab (Björn Ottosson, 2020, https://bottosson.github.io/posts/oklab/)
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)
FROM_LAB, FROM_LMS = np.linalg.inv(TO_LAB), np.linalg.inv(TO_LMS)
LINEAR = np.arange(256) / 255
LINEAR = np.where(LINEAR <= 0.04045, LINEAR / 12.92, ((LINEAR + 0.055) / 1.055) ** 2.4).astype(np.float32)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB uint8 (..., 3) -> OKLab float32 (..., 3)."""
    lab: np.ndarray = np.cbrt(LINEAR[rgb] @ TO_LMS.T) @ TO_LAB.T
    return lab


def srgb(lab: np.ndarray) -> np.ndarray:
    """OKLab (..., 3) -> sRGB uint8 (..., 3), clipped."""
    linear: np.ndarray = np.clip((lab @ FROM_LAB.T) ** 3 @ FROM_LMS.T, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * coded).astype(np.uint8)


def dominant_hue(chroma: np.ndarray, hue: np.ndarray, solid: np.ndarray) -> tuple[float, float]:
    """The hue (degrees) around which most of the coloured subject lies, and the share of the subject within 40."""
    coloured = solid & (chroma > 0.05)
    counts = np.bincount((hue[coloured] // 10).astype(int) % 36, minlength=36)
    smoothed = np.sum([np.roll(counts, k) for k in range(-3, 4)], axis=0)
    peak = 10 * int(smoothed.argmax()) + 5.0
    near = coloured & (hue_distance(hue, peak) < 40)
    if not near.any():
        return peak, 0.0
    mean_direction = np.exp(1j * np.deg2rad(hue[near])).mean()
    return float(np.rad2deg(np.angle(mean_direction)) % 360), float(near.sum() / solid.sum())


def hue_distance(hue: np.ndarray, other: float) -> np.ndarray:
    """Degrees between hues, 0 to 180."""
    return np.abs((hue - other + 180) % 360 - 180)


def recolour(picture: np.ndarray, colour: str) -> np.ndarray | None:
    """The subject's main colour turned into another; outlines, highlights and parts of other hues stay.

    picture: uint8 (H, W, 4), straight alpha. Hue, chroma and lightness move together from the median of the main
    colour to the colour asked for. None where no hue covers a third of the subject, or where it is that one already.
    """
    solid = picture[..., 3] > 127
    if not solid.any():
        return None
    lab = oklab(picture[..., :3])
    lightness, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    hue = np.rad2deg(np.arctan2(lab[..., 2], lab[..., 1])) % 360
    peak, share = dominant_hue(chroma, hue, solid)
    if share < 0.33:
        return None
    near = solid & (chroma > 0.05) & (hue_distance(hue, peak) < 40)
    median_lightness, median_chroma = float(np.median(lightness[near])), float(np.median(chroma[near]))
    target_colour = COLOURS[colour]
    if (
        target_colour.hue is not None
        and hue_distance(np.array(peak), target_colour.hue) < 25
        and abs(median_lightness - target_colour.lightness) < 0.15
    ):
        return None
    weight = np.clip((chroma - 0.02) / 0.04, 0, 1) * np.clip((65 - hue_distance(hue, peak)) / 20, 0, 1)
    new_hue = np.deg2rad((target_colour.hue or 0) + 0.6 * ((hue - peak + 180) % 360 - 180))
    new_chroma = chroma * target_colour.chroma / median_chroma
    # keep the order of light and dark: below the median towards black, above it towards white
    new_lightness = np.where(
        lightness < median_lightness,
        lightness * target_colour.lightness / median_lightness,
        1 - (1 - lightness) * (1 - target_colour.lightness) / max(1 - median_lightness, 1e-3),
    )
    target = np.stack([new_lightness, new_chroma * np.cos(new_hue), new_chroma * np.sin(new_hue)], axis=-1)
    mixed = lab + weight[..., None] * (target - lab)
    return np.concatenate([srgb(mixed), picture[..., 3:]], axis=-1)


def held_out(concept: str, colour: str) -> bool:
    """Whether this colour of this concept is kept for the test: one in five, decided by SHA-256."""
    return hashlib.sha256(f"{concept} {colour}".encode()).digest()[0] < 51


PEOPLE = ("people-body", "smileys-emotion")


def recolourable(group: str, name: str) -> bool:
    """Whether another colour makes sense: people keep theirs, hearts do not."""
    return group not in PEOPLE or "heart" in name


WORD = re.compile(rf"\b({'|'.join(COLOURS)})\b")
WORD_ZH = re.compile("^[红橙黄绿蓝紫粉棕黑白灰](色的?|(?=[心圆方书苹]))")


# hues (degrees) below which a chromatic pixel has each name, beginning at 5
HUES = [(37, "red"), (77, "orange"), (115, "yellow"), (188, "green"), (282, "blue"), (330, "purple"), (366, "pink")]


def main_colour(picture: np.ndarray) -> str:
    """The colour word for most of the subject of a picture, uint8 (H, W, 3) on white; "white" where there is none.

    A pixel belongs to the subject if it is not white. Without chroma it is black, grey or white; else its hue names
    it, but dull dark red, orange and yellow are brown, and light red and purple pink. Outlines and shadows have no
    say: black and grey count only where they are more than half of the subject.
    """
    lab = oklab(picture)
    lightness, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    hue = (np.rad2deg(np.arctan2(lab[..., 2], lab[..., 1])) - 5) % 360 + 5
    words = np.select([hue < bound for bound, _ in HUES], [word for _, word in HUES], "pink")
    words[((hue < 115) | (hue >= 360)) & (lightness < 0.63) & (chroma < 0.13)] = "brown"
    words[((hue >= 318) | (hue < 25)) & (lightness > 0.7)] = "pink"
    words[chroma < 0.045] = "grey"
    words[(chroma < 0.05) & (lightness < 0.45)] = "black"
    subject = words[(lightness < 0.97) | (chroma > 0.02)]
    if not len(subject):
        return "white"
    names, counts = np.unique(subject, return_counts=True)
    shares = {str(name): count / len(subject) for name, count in zip(names, counts, strict=True)}
    chromatic = {name: share for name, share in shares.items() if name not in ("black", "grey")}
    greys = {name: share for name, share in shares.items() if share > 0.5}
    return max(greys or chromatic or shares, key=(greys or chromatic or shares).__getitem__)
