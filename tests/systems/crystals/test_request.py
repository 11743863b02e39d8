"""What is asked of a model of crystals is checked before anything heavy is imported."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.errors import UserError
from inkwash.systems.base import Limit
from inkwash.systems.crystals.elements import (
    SYMBOLS,
    fits,
    number,
    parse_elements,
    parse_formula,
    parse_prototype,
)
from inkwash.systems.crystals.request import Generate


def test_symbols_are_the_periodic_table():
    from pymatgen.core import Element

    assert [Element.from_Z(z).symbol for z in range(1, 119)] == SYMBOLS[1:]


@given(
    st.lists(st.tuples(st.sampled_from(SYMBOLS[1:]), st.integers(1, 9)), min_size=1, max_size=6), st.integers(1, 3)
)
def test_formulas_are_counted_as_pymatgen_counts_them(parts, times):
    from pymatgen.core import Composition

    inner = "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in parts)
    formula = f"{inner}({inner}){times}"
    assert parse_formula(formula) == {str(el): n for el, n in Composition(formula).as_dict().items()}


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("batio3", "symbols and whole numbers"),
        ("Ba0.5TiO3", "symbols and whole numbers"),
        ("Xx2O", "unknown element 'Xx'"),
        ("Ba(TiO3", "not closed"),
        ("Ba)TiO3", "not opened"),
        ("Ba0TiO3", "cannot be counted"),
        ("BaTiO3·H2O", "symbols and whole numbers"),
        ("", "nothing in it"),
    ],
)
def test_what_is_no_formula_is_refused(formula, words):
    with pytest.raises(UserError, match=words):
        Generate(formula=formula)


def test_elements_and_prototypes():
    assert parse_elements("Ba, Ti,O;O") == ("Ba", "Ti", "O")
    assert parse_prototype("ABX3") == parse_prototype("A3BC") == (1, 1, 3)
    assert fits(["O"] * 6 + ["Ba"] * 2 + ["Ti"] * 2, (1, 1, 3)) and fits("AXBXX", (1, 1, 3))
    assert not fits(["O"] * 4 + ["Ba"], (1, 1, 3)) and not fits("AXX", (1, 1, 3))
    assert number("O") == 8
    with pytest.raises(UserError, match="did you mean Ba"):
        parse_elements("BA,Ti")
    with pytest.raises(UserError, match="each once"):
        parse_prototype("AAX3")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"formula": "BaTiO3", "elements": "Ba"}, "leave --elements and --prototype out"),
        ({"formula": "BaTiO3", "prototype": "ABX3"}, "leave --elements and --prototype out"),
        ({"formula": "BaTiO3", "atoms": 6}, "no multiple of the 5 of BaTiO3"),
        ({"prototype": "ABX3", "atoms": 6}, "no multiple of the 5 of ABX3"),
        ({"prototype": "ABX3", "elements": "Ba,O"}, "but 2 may be used"),
        ({"hull": None, "minimise": "gap", "target": ("gap=1",)}, "cannot be minimised and have a value"),
        ({"target": ("gap",)}, "a name and a number"),
        ({"target": ("gap=nan",)}, "a name and a number"),
        ({"target": ("gap=1", "gap=2")}, "twice"),
        ({"symprec": 0.0}, "symprec"),
        ({"elements": " , "}, "none in it"),
    ],
)
def test_options_that_contradict_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        Generate(**options)


def test_what_the_model_was_not_taught_is_named_with_what_it_was():
    limits = {"minimise": Limit(choices=("heat_ref", "dir_gap")), "atoms": Limit(low=5, high=5)}
    Generate(target=("heat_ref=0.2",)).check(limits)
    with pytest.raises(UserError, match="did you mean heat_ref"):
        Generate(target=("heat_reff=0.2",)).check(limits)
    Generate(formula="BaTiO3").check(limits)
    with pytest.raises(UserError, match="100000000001 atoms: this model has seen cells of up to 5"):
        Generate(formula="BaO100000000000").check(limits)  # else a list of so many would be made


def test_the_room_is_named_and_asked_without_anything_heavy():
    heavy = "torch", "pymatgen", "ase", "spglib", "chgnet", "scipy", "pandas"
    code = (
        "import sys, inkwash.systems.crystals as c, inkwash.systems.crystals.limits;"
        "c.request.Generate(formula='BaTiO3');"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_names_of_properties_may_have_spaces_and_signs():
    targets = Generate(target=("band gap = 1.5", "E(x=0) = -2e-1", "Δ (eV)=.5")).targets()
    assert targets == {"band gap": 1.5, "E(x=0)": -0.2, "Δ (eV)": 0.5}
    for text in ("band gap", "gap=1,5", "=1", "gap=", "1.5"):
        with pytest.raises(UserError, match=r"a name and a number are needed, as gap=1\.5"):
            Generate(target=(text,))
