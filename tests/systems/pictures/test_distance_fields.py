import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from inkwash.errors import UserError
from inkwash.systems.pictures.distance_fields import (
    LIMIT,
    REACH,
    SIZE,
    SUPERSAMPLING,
    average,
    coverage,
    decode,
    encode,
    from_picture,
    ink,
    open_svg,
    signed_distance,
)

SIDE = SIZE * SUPERSAMPLING


def disc(radius: float, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A disc in the middle, and the true distance of each pixel from its outline, in pixels of 64 a side."""
    x = (np.arange(side) + 0.5) * SIZE / side - SIZE / 2
    distance = radius - np.hypot(x[:, None], x)
    return (distance > 0).astype(float), distance


def test_a_field_is_the_distance_from_the_outline_and_positive_inside():
    coverage, _ = disc(20)
    _, true = disc(20, SIZE)
    field = decode([encode(coverage)], SIZE)[0]
    assert field.dtype == np.float32 and field[32, 32] > 0 > field[0, 0]
    near = np.abs(true) < LIMIT - 1
    assert np.abs(field - true)[near].max() < 0.1  # an eighth of a pixel is one of the drawing
    assert field.max() == LIMIT and field.min() == -LIMIT


@pytest.mark.parametrize("size", [64, 32])
def test_the_outline_stands_where_it_was_drawn(size):
    """Level 0 of the field, made large again, covers what was drawn: half a pixel more would be 5 % here."""
    coverage, _ = disc(10)
    field = Image.fromarray(decode([encode(coverage)], size)[0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    large, shape = np.asarray(field) > 0, coverage > 0
    assert (large & shape).sum() / (large | shape).sum() > 0.99


def test_a_smaller_field_is_what_it_would_be_without_the_limit():
    """Its pixels are twice as wide, and the limit of 6 px is never met within 2 px of that size."""
    picture = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(picture).polygon([(40, 60), (480, 200), (90, 400)], fill=255)
    coverage = np.asarray(picture) / 255
    whole = average(signed_distance(coverage >= 0.5), 2 * SUPERSAMPLING)
    small = decode([encode(coverage)], 32)[0]
    assert np.abs(small - whole.clip(-2, 2)).max() < LIMIT / 127 / 2  # a step of the stored bytes, half as large
    assert small.max() == 2 and small.min() == -2


def test_white_is_paper():
    picture = Image.new("RGBA", (8, 8))
    picture.paste((0, 0, 0, 255), (0, 0, 8, 4))
    picture.paste((255, 255, 255, 255), (0, 0, 4, 8))
    file = io.BytesIO()
    picture.save(file, "png")
    expected = np.zeros((8, 8))
    expected[:4, 4:] = 1
    assert (ink(file.getvalue()) == expected).all()


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 200), st.floats(-2, 2))
@settings(deadline=None, max_examples=25)
def test_distances_are_exact(seed, height, width, threshold):
    """As SciPy's, up to what is far away."""
    edt = pytest.importorskip("scipy.ndimage").distance_transform_edt
    noise = np.random.default_rng(seed).standard_normal((1 + height // 9, 1 + width // 9)).astype(np.float32)
    inside = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)) > threshold
    if inside.any() and not inside.all():
        expected = np.where(inside, edt(inside) - 0.5, 0.5 - edt(~inside)).clip(0.5 - REACH, REACH - 0.5)
        assert (signed_distance(inside) == expected).all()


def test_nothing_and_all_are_as_far_as_is_measured():
    assert (signed_distance(np.zeros((4, 4), bool)) == 0.5 - REACH).all()
    assert (signed_distance(np.ones((4, 4), bool)) == REACH - 0.5).all()


# --- pictures ---


def heart(mode: str, paper: tuple[int, ...], paint: tuple[int, ...], size: tuple[int, int] = (96, 96)) -> Image.Image:
    picture = Image.new(mode, size, paper)
    draw = ImageDraw.Draw(picture)
    draw.polygon([(20, 40), (76, 40), (48, 80)], fill=paint)
    draw.ellipse((20, 20, 50, 50), fill=paint)
    draw.ellipse((46, 20, 76, 50), fill=paint)
    return picture


HEART = heart("L", (255,), (0,))


@pytest.mark.parametrize(
    "picture",
    [
        heart("RGB", (0, 0, 0), (255, 255, 255)),  # light on dark
        heart("RGB", (30, 20, 60), (250, 220, 90)),
        heart("RGB", (255, 255, 255), (250, 220, 90)),  # pale on white
        heart("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),  # white on nothing
        heart("RGBA", (255, 255, 255, 0), (0, 0, 0, 255)),
        heart("RGBA", (255, 255, 255, 0), (240, 60, 60, 255)),
        HEART.convert("P"),
        HEART.convert("1"),
    ],
)
def test_the_same_drawing_in_any_colours(picture):
    assert (from_picture(picture) == from_picture(HEART)).all()
    assert from_picture(picture).dtype == np.float32


def test_white_on_black_on_nothing_is_a_hole():
    picture = heart("RGBA", (0, 0, 0, 0), (0, 0, 0, 255))
    ImageDraw.Draw(picture).rectangle((40, 36, 56, 52), fill=(255, 255, 255, 255))
    field = from_picture(picture, 32)
    assert field[14, 15] < 0 < field[10, 10]


@pytest.mark.parametrize("size", [32, 64])
def test_a_square_picture_is_as_its_drawing_was_encoded(size):
    shape = disc(20)[0]
    picture = Image.fromarray((255 * (1 - shape)).astype(np.uint8))
    error = np.abs(from_picture(picture, size) - decode([encode(shape)], size)[0].clip(-size / 16, size / 16))
    assert error.max() < 0.15


@pytest.mark.parametrize("size", [(300, 96), (96, 500)])
def test_any_other_picture_is_brought_to_the_middle(size):
    """Its longer side is 20 of 24 units."""
    inside = from_picture(heart("RGB", (255, 255, 255), (0, 0, 0), size), 64) > 0
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(64 * 20 / 24, abs=1.5)
    assert rows[0] + rows[-1] == pytest.approx(63, abs=1.5) and columns[0] + columns[-1] == pytest.approx(63, abs=1.5)


@pytest.mark.parametrize("picture", [Image.new("RGB", (50, 50), "white"), Image.new("RGBA", (40, 60))])
def test_a_picture_of_nothing_is_refused(picture):
    with pytest.raises(UserError, match="the picture shows nothing"):
        from_picture(picture)


def test_an_svg_is_a_picture_too(tmp_path, monkeypatch):
    pytest.importorskip("resvg_py")
    path = tmp_path / "disc.svg"
    start = '<svg xmlns="http://www.w3.org/2000/svg"'
    path.write_text(f'{start} viewBox="0 0 24 24"><circle cx="12" cy="12" r="7.5" fill="currentColor"/></svg>')
    error = np.abs(from_picture(open_svg(path), 64) - decode([encode(disc(20)[0])], 64)[0].clip(-4, 4))
    assert error.max() < 0.15
    path.write_text(f'{start} viewBox="0 0 10 20"><path d="M0 0h10v20H0z"/></svg>')
    assert open_svg(path, 100).size == (50, 100)
    for text in ("no svg", f'{start}><image href="/secret.png"/></svg>'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"disc\.svg"):
            open_svg(path)
    monkeypatch.setattr("inkwash.extras.find_spec", lambda name: None)
    with pytest.raises(UserError, match="resvg_py: pip install"):
        open_svg(path)


@given(st.sampled_from([32, 64]), st.floats(4, 9), st.integers(16, 300), st.floats(-1, 1))
@settings(deadline=None, max_examples=20)
def test_coverage_paints_a_disc_of_any_size(side, radius, size, level):
    """In the middle, with its area, and soft only at the outline; a level of the field makes it smaller."""
    centres = (np.arange(side) + 0.5) * 24 / side - 12
    field = (
        ((radius - np.hypot(centres[:, None], centres)) * side / 24).clip(-side / 16, side / 16).astype(np.float32)
    )
    painted = coverage(field, size, level)
    assert painted.min() >= 0 and painted.max() <= 1
    expected = radius - level * 24 / side
    assert painted.mean() * 24**2 == pytest.approx(np.pi * expected**2, rel=0.03)
    np.testing.assert_allclose(painted, painted[::-1, ::-1], atol=1e-3)
    x = (np.arange(size) + 0.5) * 24 / size - 12
    away = np.abs(np.hypot(x[:, None], x) - expected) > 1 + 24 / size
    assert np.isin(painted[away].round(3), (0, 1)).all()
