"""Cells as numbers: what is written in any country's way is read as the same number, or not at all."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.series.cells import SENTINELS, decimal_sign, find_sentinels, parse_number, to_numbers
from inkwash.systems.series.data import remove_sentinels

STYLES = {  # the signs between thousands, and before decimals
    "English": (",", "."),
    "German": (".", ","),
    "French": ("\u202f", ","),
    "Swiss": ("\u2019", "."),
    "plain": ("", "."),
    "plain, comma": ("", ","),
}


def in_style(cents, style):
    thousands, decimal = STYLES[style]
    return f"{cents / 100:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1), st.sampled_from(list(STYLES)))
def test_what_is_written_is_read(cents, style):
    column = pd.Series([in_style(each, style) for each in cents], name="a", dtype=object)
    decimal = decimal_sign([column], ";", None, "t")
    assert decimal == STYLES[style][1]
    assert to_numbers(column, decimal, "t").values.tolist() == [each / 100 for each in cents]


@given(st.text("0123456789.,' -+()%€E", max_size=12))
def test_a_cell_is_read_in_one_way_or_named(text):
    """With a sign given, what is read is what Python reads once the signs between thousands are gone."""
    number = parse_number(text)
    for decimal, other in (".,", ",."):
        if number is not None and (value := number.value(decimal)) is not None:
            plain = text.strip(" €%()+-").replace(other, "").replace("'", "").replace(" ", "").replace(decimal, ".")
            assert abs(value) == float(plain.strip("€%+-"))


@pytest.mark.parametrize(
    "cell",
    ["1,2,3", "1.2.3", "12,34.5", "1 23", "01.02.2024", "1'23", "0.123.456", "--1", "-(1)", "(1", "1)", "€1€", "1e"],
)
def test_what_is_no_number(cell):
    assert parse_number(cell) is None


def test_a_sign_that_was_said_is_held_to():
    column = pd.Series(["1.234", "5"], name="a")
    assert to_numbers(column, ",", "t").values.tolist() == [1234, 5]
    assert to_numbers(column, ".", "t").values.tolist() == [1.234, 5]
    with pytest.raises(UserError, match="may be a thousandfold"):
        decimal_sign([column], ";", None, "t")
    assert decimal_sign([column, pd.Series(["0.5"])], ";", None, "t") == "."


@given(
    st.lists(st.floats(-30, 39), min_size=3, max_size=40), st.sampled_from([-999.0, -9999.0, 999.9, 9999.0, -99.9])
)  # 69 degrees at most from end to end, and -99.9 lies 69.9 below
def test_a_code_is_found_among_temperatures_and_taken_only_if_repeated(values, code):
    for times in (1, 2, 5):
        frame = pd.DataFrame({"a": [*values, *[code] * times], "b": 1.0})
        assert find_sentinels(frame) == {code: {"a": times}}
        removed, notes = remove_sentinels(frame)
        assert len(notes) == 1 and removed["a"].isna().sum() == (times if times > 1 else 0)
        assert removed["a"].iloc[: len(values)].tolist() == values


@given(st.lists(st.integers(0, 130), min_size=5, max_size=60), st.sampled_from([99, 999]), st.data())
def test_nines_among_numbers_like_them_are_numbers(values, nines, data):
    """No number is taken for missing that lies nearer to the others than these spread."""
    values = [*values, 0, data.draw(st.integers(nines // 2 + 1, 2 * nines)), nines, nines]
    frame = pd.DataFrame({"a": np.array(values, float)})
    assert find_sentinels(frame) == {}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_what_is_no_code_stays(values):
    frame = pd.DataFrame({"a": [value for value in values if value not in SENTINELS] or [1.0]})
    assert find_sentinels(frame) == {}


@pytest.mark.parametrize(
    ("rest", "code", "found"),
    [
        ([0, 1, 30], 99, False),  # ordinary
        ([0, 1, 20], 99, True),  # wave heights
        ([180, 0, 359], 999, True),  # degrees of wind
        ([980, 1040, 1000], 9999, True),
        ([0, 40_000, 20_000], -999, True),  # a flow has no sign
        ([-5000, 40_000, 20_000], -999, False),  # a profit has
        ([299, 399, 899], 999, False),  # prices
        ([20, 30, 40], 99.99, True),
        ([], -999, True),  # an instrument that never was there
        ([5, 5, 5], 99, False),
        ([0, 1, 2], 1e20, True),
        ([0, -1, 2], -32768, True),
        ([0, -1, 2], -(2**31), True),  # R's NA_integer_
        ([0, 1, 2], 9.96921e36, True),  # NetCDF's, as it is printed
    ],
)
def test_how_far_a_code_lies(rest, code, found):
    frame = pd.DataFrame({"a": np.array([*rest, code, code], float)})
    assert find_sentinels(frame) == ({code: {"a": 2}} if found else {})


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.234,50 S", "5,00 H", "0,00"], [-1234.5, 5, 0]),
        (["1,234.50CR", "5.00DR", "€ 5.00 Dr."], None),  # another unit
        (["1,234.50CR", "5.00DR", "5.00 Dr."], [1234.5, -5, -5]),
        (["12,5 Haben", "3 Soll", "7"], [12.5, -3, 7]),
    ],
)
def test_sides_of_an_account_are_signs(cells, values):
    column = pd.Series(cells, name="a")
    if values is None:
        with pytest.raises(UserError, match=r"row 3: .*its unit is another"):
            to_numbers(column, ".", "t")
    else:
        assert to_numbers(column, decimal_sign([column], ";", None, "t"), "t").values.tolist() == values
