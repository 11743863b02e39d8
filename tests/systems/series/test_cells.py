"""Cells as numbers: what is written in any country's way is read as the same number, or not at all."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.series.cells import decimal_sign, parse_number, to_numbers

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
