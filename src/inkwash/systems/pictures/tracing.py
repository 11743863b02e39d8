"""SVG of signed distance fields: outlines as straight lines and few cubic Bezier curves.

The outline of a field is found between its pixels (bicubic, then marching squares). It is cut at corners, which are
set where the tangents of their two sides meet, and where it runs straight; each piece between is fitted with as few
cubics as stay within a tolerance (P. Schneider, "An Algorithm for Automatically Fitting Digitized Curves", Graphics
Gems, 1990). Lengths are in units of the view box, 24 a side, as sets of icons have it.
"""

import json
import re
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from contourpy import contour_generator
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from inkwash.errors import UserError

SIDE = 24  # units of the view box
UPSAMPLING = 4  # points of the grid to a pixel of the field, a side
PER_PIXEL = 4  # points of an outline to a pixel of the field
TOLERANCE = 0.02  # units that a curve may stray from the outline
STRAIGHT = 0.5  # of it, that a line may: a bend taken for a line is seen sooner; but
RIPPLE = 0.03  # pixels of the field in any case, since bicubic lines are no straighter
SHORTEST = 2  # units of a line that is looked for before curves are fitted
CORNER = np.radians(20)  # what an outline turns by at a corner, at least
SHARPNESS = 0.53  # part of what it turns by within 1.75 pixels that chords of 1.25 do: .64 at corners, .36 on arcs
SPECK = 0.1  # square units: outlines of less are dirt

Curve = list[np.ndarray]  # closed: lines (2, 2) and cubics (4, 2) of x, y, each from where the last one ends


class Run(NamedTuple):
    """A part of an outline that is straight, and the line nearest to it."""

    start: int
    stop: int
    centre: np.ndarray
    direction: np.ndarray  # a unit vector

    def nearest(self, point: np.ndarray) -> np.ndarray:
        foot: np.ndarray = self.centre + (point - self.centre) @ self.direction * self.direction
        return foot


def trace(field: np.ndarray, level: float = 0.0, tolerance: float = TOLERANCE) -> list[Curve]:
    """The outlines of what lies above a level of a field (side, side), as closed curves; holes are curves too.

    level: pixels of the field (see `level_for_weight`). A field that is nowhere above it has no curves. The tolerance
    is in units; .1 takes some of the wobble out of a field that a network drew.
    """
    pixel = SIDE / field.shape[0]
    outlines = [points * pixel for points in isolines(field, level)]
    return [fit_outline(points, pixel, tolerance) for points in outlines if area(points) > SPECK]


def level_for_weight(weight: float, own: float, side: int) -> float:
    """The level, in pixels of a field of that side, at which strokes of weight `own` have another weight, in units.

    (own - weight) / 2 of a unit on either side of a stroke: levels below 0 widen. From half the own weight to 2 units
    more, strokes come out within 3 % on average (measured on strokes of 2). Thinner ones break up, and farther out a
    field of 32 pixels, cut off at 2, says nothing: UserError.
    """
    if not own / 2 <= weight <= own + 2:
        raise UserError(
            f"weight = {weight:g}: strokes of {own:g} can be {own / 2:g} to {own + 2:g}: choose one of these"
        )
    return (own - weight) / 2 * side / SIDE


def isolines(field: np.ndarray, level: float) -> list[np.ndarray]:
    """Closed polygons (N, 2) of x, y in pixels from the upper left corner of a field, evenly spaced.

    The first point does not come again at the end.
    """
    side = field.shape[0] * UPSAMPLING
    fine = np.asarray(Image.fromarray(np.float32(field - level)).resize((side, side), Image.Resampling.BICUBIC))
    fine = np.pad(fine, 1, mode="edge")
    for border in (fine[0], fine[-1], fine[:, 0], fine[:, -1]):
        border[:] = -np.abs(border)  # what touches the border ends at it
    return [resample((line - 0.5) / UPSAMPLING) for line in map(np.asarray, contour_generator(z=fine).lines(0.0))]


def resample(line: np.ndarray) -> np.ndarray:
    """Points (N, 2) evenly along a closed line whose last point is its first."""
    along = np.append(0, np.hypot(*np.diff(line, axis=0).T).cumsum())
    at = np.linspace(0, along[-1], max(round(along[-1] * PER_PIXEL), 8), endpoint=False)
    return np.stack([np.interp(at, along, axis) for axis in line.T], axis=1)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product: np.ndarray = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return product


def area(points: np.ndarray) -> float:
    """Of a closed polygon (N, 2)."""
    return abs(float(cross(points, np.roll(points, -1, axis=0)).sum())) / 2


def unit(vector: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vector / max(np.hypot(*vector), 1e-9)
    return scaled


# --- corners and straight runs ---


def turning(points: np.ndarray, reach: int) -> np.ndarray:
    """The angle (N,) between the chords of a closed polygon from the point `reach` before each and to that after."""
    before, after = points - np.roll(points, reach, axis=0), np.roll(points, -reach, axis=0) - points
    angle: np.ndarray = np.arctan2(cross(before, after), (before * after).sum(1))
    return angle


def corners(points: np.ndarray) -> list[int]:
    """Where a closed outline turns sharply: by CORNER at least, and most of it within a pixel of the field."""
    if len(points) < 4 * PER_PIXEL:
        return []
    angle, bend = np.abs(turning(points, 5)), np.abs(turning(points, 2)) / 2
    highest = np.max([np.roll(angle, shift) for shift in range(-4, 5)], axis=0)
    total = np.sum([np.roll(bend, shift) for shift in range(-7, 8)], axis=0)
    return np.flatnonzero((angle >= CORNER) & (angle == highest) & (angle >= SHARPNESS * total)).tolist()


def line_through(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre and direction of the line nearest to points (N, 2); along an axis where it all but is."""
    centre, chord = points.mean(0), points[-1] - points[0]
    direction = np.linalg.svd(points - centre, full_matrices=False)[2][0]
    if direction @ chord < 0:
        direction = -direction
    return centre, np.round(direction) if np.abs(direction).min() * np.hypot(*chord) < 0.02 else direction


def straight_runs(points: np.ndarray, length: int, tolerance: float) -> list[Run]:
    """Where at least about `length` of the points (N, 2) lie within the tolerance of a line."""
    if len(points) < length:
        return []
    windows = sliding_window_view(points, length, axis=0).swapaxes(1, 2)
    chords = windows[:, -1] - windows[:, 0]
    deviation = np.abs(cross(windows - windows[:, :1], chords[:, None])).max(1)
    straight = deviation <= tolerance * np.hypot(*chords.T)
    edges = np.flatnonzero(np.diff(straight.astype(int), prepend=0, append=0)).tolist()
    runs: list[Run] = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        start = max(start, runs[-1].stop) if runs else start
        stop += length - 1
        if stop - start < length / 2:
            continue
        centre, direction = line_through(points[start:stop])
        apart = np.abs(cross(points[start:stop] - centre, direction))
        on = np.flatnonzero(apart <= tolerance / 2)  # where it ends, it has already begun to bend
        if apart.max() <= 1.5 * tolerance and on[-1] - on[0] >= length / 2:
            runs.append(Run(start + int(on[0]), start + int(on[-1]) + 1, centre, direction))
    return runs


# --- outlines ---


def fit_outline(points: np.ndarray, pixel: float, tolerance: float) -> Curve:
    """A closed outline (N, 2) as lines and cubics; pixel: one of the field, in units."""
    length, straight = round(SHORTEST / pixel * PER_PIXEL), max(STRAIGHT * tolerance, RIPPLE * pixel)
    cuts = corners(points)
    while cuts:
        pieces = [between(points, start, stop) for start, stop in pairwise([*cuts, cuts[0] + len(points)])]
        runs = [to_corners(piece, straight_runs(piece, length, straight), 4 * straight) for piece in pieces]
        ends = [end_lines(piece, own) for piece, own in zip(pieces, runs, strict=True)]
        vertices = [meeting(ends[i - 1][1], ends[i][0], points[cut], pixel) for i, cut in enumerate(cuts)]
        found = [vertex for vertex in vertices if vertex is not None]
        if len(found) == len(cuts):
            parts = zip(pieces, runs, found, np.roll(found, -1, axis=0), strict=True)
            return [segment for part in parts for segment in fit_piece(*part, straight, tolerance)]
        cuts = [cut for cut, vertex in zip(cuts, vertices, strict=True) if vertex is not None]
    return fit_smooth(points, length, straight, tolerance)


def between(points: np.ndarray, start: int, stop: int) -> np.ndarray:
    """What lies between two corners of a closed outline, without what the field has rounded."""
    rounded = min(PER_PIXEL, (stop - start) // 4)
    return points.take(range(start + rounded, stop - rounded + 1), axis=0, mode="wrap")


def to_corners(piece: np.ndarray, runs: list[Run], tolerance: float) -> list[Run]:
    """The runs of a piece, the outer ones taken to its ends over what is bent there, a pixel and a half at most."""
    if runs:
        apart = np.abs(cross(piece - runs[0].centre, runs[0].direction))[: runs[0].start]
        if len(apart) <= 1.5 * PER_PIXEL and (apart <= tolerance).all():
            runs[0] = runs[0]._replace(start=0)
        apart = np.abs(cross(piece - runs[-1].centre, runs[-1].direction))[runs[-1].stop :]
        if len(apart) <= 1.5 * PER_PIXEL and (apart <= tolerance).all():
            runs[-1] = runs[-1]._replace(stop=len(piece))
    return runs


def end_lines(piece: np.ndarray, runs: list[Run]) -> tuple[Run, Run]:
    """The lines on which a piece begins and ends: tangents, where it is not straight."""
    few = min(len(piece), PER_PIXEL + 2)
    first = runs[0] if runs and runs[0].start == 0 else Run(0, few, *line_through(piece[:few]))
    last = runs[-1] if runs and runs[-1].stop == len(piece) else Run(0, few, *line_through(piece[-few:]))
    return first, last


def meeting(before: Run, after: Run, near: np.ndarray, pixel: float) -> np.ndarray | None:
    """The corner where two lines cross; None where it is farther from the outline than fields cut corners off.

    Of a corner of the angle 2 h that is about 0.3 / tan(h) pixels.
    """
    sine, cosine = float(cross(before.direction, after.direction)), float(before.direction @ after.direction)
    if abs(sine) < 0.05:
        return None
    vertex: np.ndarray = (
        before.centre + cross(after.centre - before.centre, after.direction) / sine * before.direction
    )
    limit = min(0.15 + 0.45 * np.tan(abs(np.arctan2(sine, cosine)) / 2), 1.2)  # needles are no corners
    return vertex if np.hypot(*(vertex - near)) <= limit * pixel else None


def fit_piece(
    piece: np.ndarray,
    runs: list[Run],
    start: np.ndarray,
    end: np.ndarray,
    straight: float,
    tolerance: float,
    end_tangent: np.ndarray | None = None,
) -> Curve:
    """Lines along the runs of a piece (N, 2) of an outline, and cubics between, from `start` to `end`."""
    chord = end - start
    if np.abs(cross(piece - start, chord)).max() < 2 * straight * np.hypot(*chord):
        return [np.stack([start, end])]
    curve: Curve = []
    position, tangent, done = start, None, 0
    for run in runs:
        if curve or run.start > 0:
            onto = run.nearest(piece[run.start])
            curve += fit(np.stack([position, *piece[done + 1 : run.start], onto]), tangent, run.direction, tolerance)
            position = onto
        if run.stop == len(piece):
            return [*curve, np.stack([position, end])]
        off = run.nearest(piece[run.stop - 1])
        curve.append(np.stack([position, off]))
        position, tangent, done = off, run.direction, run.stop - 1
    return curve + fit(np.stack([position, *piece[done + 1 :], end]), tangent, end_tangent, tolerance)


def fit_smooth(points: np.ndarray, length: int, straight: float, tolerance: float) -> Curve:
    """A closed outline (N, 2) without corners: from where it first is straight, or cut where it is outermost."""
    points = np.roll(points, -int(np.abs(turning(points, PER_PIXEL)).argmax()), axis=0)
    runs = straight_runs(points, length, straight)
    if runs:
        first = runs[0].start
        start = runs[0].nearest(points[first])
        runs = [run._replace(start=run.start - first, stop=run.stop - first) for run in runs]
        return fit_piece(np.roll(points, -first, axis=0), runs, start, start, straight, tolerance, runs[0].direction)
    cuts = sorted({int(i) for axis in points.T for i in (axis.argmin(), axis.argmax())})
    tangents = np.roll(points, -2, axis=0) - np.roll(points, 2, axis=0)
    curve: Curve = []
    for here, there in pairwise([*cuts, cuts[0] + len(points)]):
        piece = points.take(range(here, there + 1), axis=0, mode="wrap")
        curve += fit(piece, unit(tangents[here]), unit(tangents[there % len(points)]), tolerance)
    return curve


# --- Schneider's fit ---


def fit(points: np.ndarray, start: np.ndarray | None, end: np.ndarray | None, tolerance: float) -> Curve:
    """Cubics along points (N, 2), from the first to the last; start, end: directions of travel there, if given."""
    if len(points) < 3:
        return [points]
    few = min(len(points) - 1, PER_PIXEL)
    start = unit(points[few] - points[0]) if start is None else start
    end = unit(points[-1] - points[-1 - few]) if end is None else end
    along = np.append(0, np.hypot(*np.diff(points, axis=0).T).cumsum())
    u = along / along[-1]
    for attempt in range(5):
        cubic = least_squares(points, u, start, end, along[-1])
        error = np.hypot(*(bernstein(u) @ cubic - points).T)
        worst = int(error[1:-1].argmax()) + 1
        if error[worst] <= tolerance:
            return [cubic]
        if attempt and error[worst] > 4 * tolerance:
            break
        u = reparametrize(points, u, cubic)
    reach = min(PER_PIXEL, worst, len(points) - 1 - worst)
    middle = unit(points[worst + reach] - points[worst - reach])
    return fit(points[: worst + 1], start, middle, tolerance) + fit(points[worst:], middle, end, tolerance)


def bernstein(u: np.ndarray) -> np.ndarray:
    """The cubic Bernstein polynomials (N, 4) of parameters (N,)."""
    v = 1 - u
    return np.stack([v**3, 3 * u * v**2, 3 * u**2 * v, u**3], axis=1)


def least_squares(points: np.ndarray, u: np.ndarray, start: np.ndarray, end: np.ndarray, length: float) -> np.ndarray:
    """The cubic (4, 2) nearest to points (N, 2) at parameters (N,), its ends and its directions there given.

    Its control points are P0, P0 + a start, P3 - b end, P3; (a, b) minimize the sum of squared distances. Where they
    are not between 0 and the length of the points, it would turn back, and they are a third of the chord instead.
    """
    weights, first, last = bernstein(u), points[0], points[-1]
    residual = points - weights @ np.stack([first, first, last, last])
    columns = np.stack([np.outer(weights[:, 1], start).ravel(), np.outer(weights[:, 2], -end).ravel()], axis=1)
    a, b = np.linalg.lstsq(columns, residual.ravel(), rcond=None)[0]
    chord = np.hypot(*(last - first))
    if min(a, b) < 0.01 * chord or max(a, b) > length:
        a = b = chord / 3
    return np.stack([first, first + a * start, last - b * end, last])


def reparametrize(points: np.ndarray, u: np.ndarray, cubic: np.ndarray) -> np.ndarray:
    """A step of Newton's for each parameter (N,), toward where the cubic is nearest to its point."""
    first = 3 * np.diff(cubic, axis=0)
    second = 2 * np.diff(first, axis=0)
    v = 1 - u
    offset = bernstein(u) @ cubic - points
    slope = np.stack([v**2, 2 * u * v, u**2], axis=1) @ first
    bend = np.stack([v, u], axis=1) @ second
    curvature = (slope**2 + offset * bend).sum(1)
    step = np.divide((offset * slope).sum(1), curvature, out=np.zeros_like(u), where=curvature > 1e-9)
    return np.maximum.accumulate((u - step).clip(0, 1))


# --- SVG ---


def svg(curves: list[Curve], recipe: dict[str, Any] | None = None, fill: str = "currentColor") -> str:
    """One path in a colour, the text's around it if left out, on nothing; the recipe as JSON in the metadata."""
    metadata = f"<metadata>{escape(json.dumps(recipe), quote=False)}</metadata>" if recipe is not None else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}">'
        f'{metadata}<path fill="{fill}" fill-rule="evenodd" d="{"".join(map(subpath, curves))}"/></svg>'
    )


def subpath(curve: Curve) -> str:
    """A curve as path data, in hundredths of a unit; relative, so that the numbers are short."""
    position = np.round(curve[0][0] * 100).astype(int)
    text = "M" + numbers(position)
    for segment in curve:
        points = np.round(segment[1:] * 100).astype(int)
        (x, y), *_ = offsets = points - position
        position = points[-1]
        if len(offsets) == 3:
            text += "c" + numbers(offsets)
        elif x and y:
            text += "l" + numbers(offsets)
        elif x or y:
            text += f"h{number(x)}" if x else f"v{number(y)}"
    return text + "z"


def numbers(hundredths: np.ndarray) -> str:
    """What SVG needs between numbers, and no more: -.5 and .25 are -.5.25."""
    text = ""
    for one in map(number, hundredths.ravel()):
        apart = not text or one[0] == "-" or (one[0] == "." and "." in text.split(" ")[-1].split("-")[-1])
        text += one if apart else " " + one
    return text


def number(hundredths: int) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{hundredths / 100:g}")
