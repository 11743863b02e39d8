"""The examples of the pages run as they stand there, and print what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from inkwash import diffusion

DOCS = Path(__file__).parents[1] / "docs"
# a block of Python, and what it prints, if that is shown
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [pytest.param("core.md", marks=pytest.mark.slow), "process.md", "systems.md"])
def test_the_examples_print_what_the_page_says(page):
    names = {"__name__": page}
    for code, shown in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page, "exec"), names)
        assert printed.getvalue() == shown


def test_the_page_of_the_core_names_all_that_has_a_name():
    page = (DOCS / "core.md").read_text(encoding="utf-8")
    for names in (diffusion.SAMPLERS, diffusion.SCHEDULES, diffusion.GRIDS, diffusion.PARAMETRIZATIONS):
        assert [name for name in names if f"`{name}`" not in page] == []
