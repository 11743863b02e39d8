"""Tests are found from a module by its name: those of inkwash/X/y.py are tests/X/test_y.py, or test_y_TOPIC.py."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
WHOLE = "crash full_disk fuzz matrix migration page queue security"  # of a running studio, not of one of its modules


def test_the_name_of_a_test_begins_with_that_of_a_module_beside_which_it_would_lie():
    allowed, lost = {f"studio/test_{topic}.py" for topic in WHOLE.split()}, []
    for test in (ROOT / "tests").glob("*/**/test_*.py"):
        place = test.relative_to(ROOT / "tests")
        modules = (ROOT / "src" / "inkwash" / place.parent).glob("[!_]*.py")
        begins = [f"test_{module.stem}" for module in modules]
        if not any(test.stem == name or test.stem.startswith(f"{name}_") for name in begins):
            lost.append(place.as_posix())
    assert {place for place in lost if not place.startswith("house/")} == allowed
