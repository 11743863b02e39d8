import io
import json
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from inkwash.errors import UserError
from inkwash.systems.pictures.distance_fields import limit
from inkwash.systems.pictures.tracing import level_for_weight, svg, trace

SIDES = st.sampled_from([32, 64])
ANGLES = st.floats(0, 2 * np.pi)
MIDDLES = st.floats(11, 13)


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """x, y of 4 x 4 places in each pixel, in units of 24 a side."""
    places = (np.arange(4 * side) + 0.5) * 6 / side
    return places[None, :], places[:, None]


def in_pixels(distance: np.ndarray) -> np.ndarray:
    """A field (side, side) from distances in units at the places of `grid`: their means over the pixels."""
    side = len(distance) // 4
    mean = distance.reshape(side, 4, side, 4).mean((1, 3)) * side / 24
    return mean.clip(-limit(side), limit(side)).astype(np.float32)


def disc(side: int, radius: float, x: float = 12, y: float = 12) -> np.ndarray:
    return radius - np.hypot(grid(side)[0] - x, grid(side)[1] - y)


def bar(side: int, ax: float, ay: float, bx: float, by: float, width: float) -> np.ndarray:
    """A stroke with round ends."""
    x, y = grid(side)
    along = (((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)).clip(0, 1)
    return width / 2 - np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))


def polygon(side: int, vertices: np.ndarray) -> np.ndarray:
    """A convex one, of vertices (N, 2) in the order that turns x to y."""
    x, y = grid(side)
    edges = [(*a, *b) for a, b in pairwise([*vertices, vertices[0]])]
    inside = np.all([(bx - ax) * (y - ay) > (by - ay) * (x - ax) for ax, ay, bx, by in edges], axis=0)
    return np.where(inside, 1, -1) * np.min([-bar(side, *edge, 0) for edge in edges], axis=0)


def flat(curve: list[np.ndarray]) -> np.ndarray:
    """Points of a curve (N, 2), by De Casteljau's construction."""
    points = []
    for segment in curve:
        for u in np.linspace(0, 1, 24, endpoint=False) if len(segment) == 4 else [0.0]:
            row = segment
            while len(row) > 1:
                row = row[:-1] + u * (row[1:] - row[:-1])
            points.append(row[0])
    return np.array(points)


def painted(curves: list[list[np.ndarray]], size: int = 480) -> np.ndarray:
    """The pixels (size, size) whose centres they enclose an odd number of times: from the left, edges are counted."""
    edges = np.zeros((size, size + 1), int)
    for curve in curves:
        points = flat(curve) * (size / 24) - 0.5
        for (ax, ay), (bx, by) in pairwise([*points, points[0]]):
            rows = np.arange(*np.ceil(sorted([ay, by])).clip(0, size).astype(int))
            if len(rows):
                np.add.at(
                    edges, (rows, np.ceil(ax + (rows - ay) / (by - ay) * (bx - ax)).clip(0, size).astype(int)), 1
                )
    return edges.cumsum(1)[:, :-1] % 2 == 1


def bicubic(field: np.ndarray, size: int = 480) -> np.ndarray:
    return np.asarray(Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC)) > 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def is_closed(curve: list[np.ndarray]) -> bool:
    return all((a[-1] == b[0]).all() for a, b in pairwise([*curve, curve[0]]))


@given(SIDES, st.floats(1, 9), MIDDLES, MIDDLES)
@settings(deadline=None, max_examples=20)
def test_a_disc_is_a_few_cubics_around_it(side, radius, x, y):
    (curve,) = trace(in_pixels(disc(side, radius, x, y)))
    assert is_closed(curve) and len(curve) <= 12
    assert np.abs(np.hypot(*(flat(curve) - [x, y]).T) - radius).max() < 0.08


@given(SIDES, st.integers(3, 6), ANGLES, MIDDLES, MIDDLES, st.floats(6, 9))
@settings(deadline=None, max_examples=40)
def test_a_polygon_has_its_corners(side, count, turn, x, y, radius):
    angles = turn + np.arange(count) * 2 * np.pi / count
    vertices = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
    (curve,) = trace(in_pixels(polygon(side, vertices)))
    assert is_closed(curve) and len(curve) <= 4 * count
    nearest = np.hypot(*(vertices[:, None] - [segment[0] for segment in curve]).T).min(0)
    assert nearest.max() < (0.3 if count == 3 else 0.12)  # a field of 32 pixels cuts off .4, or .2 and less


def test_a_square_is_four_short_commands():
    field = in_pixels(polygon(64, np.array([[5, 6], [19, 6], [19, 18], [5, 18]])))
    (path,) = re.findall(r' d="([^"]*)"', svg(trace(field)))
    assert re.fullmatch(r"M[\d.]+ [\d.]+([hv]-?[\d.]+){4}z", path)
    assert (
        np.abs([float(number) for number in re.findall(r"[hv]-?([\d.]+)", path)] - np.array([12, 14, 12, 14])).max()
        < 0.1
    )


@given(SIDES, st.floats(6, 9), st.floats(2, 4))
@settings(deadline=None, max_examples=10)
def test_a_ring_has_a_hole(side, outer, inner):
    curves = trace(in_pixels(np.minimum(disc(side, outer), -disc(side, inner))))
    assert len(curves) == 2
    inside = painted(curves)
    assert not inside[240, 240] and inside.mean() * 24**2 == pytest.approx(np.pi * (outer**2 - inner**2), rel=0.02)


@st.composite
def drawings(draw) -> np.ndarray:
    side = draw(SIDES)
    place, rng = st.floats(3, 21), np.random.default_rng(draw(st.integers(0, 2**32)))
    parts = [bar(side, *rng.uniform(3, 21, 4), 2) for _ in range(draw(st.integers(1, 4)))]
    parts += [disc(side, draw(st.floats(2, 6)), draw(place), draw(place)) for _ in range(draw(st.integers(0, 2)))]
    hole = disc(side, draw(st.floats(1.5, 3)), draw(place), draw(place))
    return in_pixels(np.minimum(np.max(parts, axis=0), -hole))


@given(drawings())
@settings(deadline=None, max_examples=12)
def test_curves_enclose_what_the_field_does(field):
    curves = trace(field)
    assert all(map(is_closed, curves))
    shape = bicubic(field)
    assert not shape.any() or iou(painted(curves), shape) > 0.955


@given(st.integers(0, 2**32), st.sampled_from([0.02, 0.1]))
@settings(deadline=None, max_examples=6)
def test_what_a_poor_network_draws_is_traced_too(seed, tolerance):
    noise = np.random.default_rng(seed).standard_normal((8, 8)).astype(np.float32)
    field = np.asarray(Image.fromarray(2 * noise).resize((32, 32), Image.Resampling.BICUBIC))
    field = (field + 0.05 * np.random.default_rng(seed).standard_normal(field.shape)).astype(np.float32)
    curves = trace(field, tolerance=tolerance)
    assert all(map(is_closed, curves)) and np.isfinite(np.concatenate([flat(curve) for curve in curves])).all()
    assert iou(painted(curves), bicubic(field)) > 0.9


def test_a_larger_tolerance_has_fewer_nodes():
    rng = np.random.default_rng()
    field = in_pixels(disc(32, 8)) + rng.normal(0, 0.08, (32, 32)).astype(np.float32)
    assert len(trace(field, tolerance=0.2)[0]) < len(trace(field, tolerance=0.02)[0])


def test_a_field_of_nothing_has_no_curves():
    assert trace(np.full((32, 32), -2, np.float32)) == []
    assert ElementTree.fromstring(svg([]))[0].get("d") == ""


@pytest.mark.parametrize("side", [32, 64])
def test_what_touches_the_border_ends_there(side):
    x, _ = grid(side)
    (curve,) = trace(in_pixels(np.broadcast_to(10 - x, (4 * side, 4 * side))))
    assert is_closed(curve) and [len(segment) for segment in curve] == [2] * 4
    assert sorted(map(tuple, np.round([segment[0] for segment in curve], 1))) == [(0, 0), (0, 24), (10, 0), (10, 24)]
    (whole,) = trace(np.full((side, side), 2, np.float32))
    assert iou(painted([whole]), np.ones((480, 480), bool)) > 0.99


@given(SIDES, ANGLES, st.floats(1.5, 4))
@settings(deadline=None, max_examples=30)
def test_a_level_is_another_weight(side, turn, weight):
    x, y = 12 + 7 * np.cos(turn), 12 + 7 * np.sin(turn)
    field = in_pixels(bar(side, x, y, 24 - x, 24 - y, 2))
    (curve,) = trace(field, level_for_weight(weight, 2, side))
    expected = 14 * weight + np.pi * weight**2 / 4
    assert painted([curve]).mean() * 24**2 == pytest.approx(expected, rel=0.06)


def test_what_level_a_weight_is():
    assert level_for_weight(2, 2, 32) == 0
    assert level_for_weight(3, 2, 48) == -1  # half a unit more on either side, of two pixels each
    for weight in (0.9, 4.1, float("nan")):
        with pytest.raises(UserError, match="1 to 4"):
            level_for_weight(weight, 2, 32)


# --- the text ---


def parsed(path: str) -> list[list[np.ndarray]]:
    """Path data of M, l, h, v, c and z, by its grammar."""
    curves, position = [], np.zeros(2)
    for letter, text in re.findall(r"([Mlhvcz])([^Mlhvcz]*)", path):
        values = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", text)]
        if letter == "M":
            position = np.array(values)
            curves.append([])
        elif letter != "z":
            values = {"h": [*values, 0], "v": [0, *values]}.get(letter, values)
            points = [position, *(position + np.reshape(values, (-1, 2)))]
            curves[-1].append(np.array(points))
            position = points[-1]
    return curves


@given(drawings())
@settings(deadline=None, max_examples=15)
def test_the_text_says_the_same_curves(field):
    curves = trace(field)
    root = ElementTree.fromstring(svg(curves))
    assert root.get("viewBox") == "0 0 24 24" and root[0].get("fill") == "currentColor"
    read = parsed(root[0].get("d"))
    assert len(read) == len(curves)
    for curve, other in zip(curves, read, strict=True):
        long = [segment for segment in curve if np.ptp(np.round(segment * 100), axis=0).any()]
        assert len(long) == len(other)
        assert all(np.abs(a - b).max() < 0.0051 for a, b in zip(long, other, strict=True))


@given(drawings())
@settings(deadline=None, max_examples=5)
def test_a_renderer_paints_it(field):
    """All but the pixels beside an edge: of a small or thin drawing these are many."""
    resvg_py = pytest.importorskip("resvg_py")
    curves = trace(field)
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg(curves), width=480, height=480))
    alpha = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA").getchannel("A"))
    own = painted(curves) if curves else np.zeros_like(alpha, bool)
    assert (alpha[minimum_filter(own, 3)] > 127).all() and (alpha[~maximum_filter(own, 3)] <= 127).all()


@given(st.dictionaries(st.text(), st.text()))
def test_a_recipe_is_read_back(values):
    recipe = {"prompt": "一把伞 </metadata><script>&amp;\"'", "seed": 7, "values": values}
    root = ElementTree.fromstring(svg([], recipe).encode())
    assert json.loads(root[0].text) == recipe and root[0].tag.endswith("metadata") and len(root) == 2
