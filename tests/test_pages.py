"""The examples of docs/core.md and docs/process.md run as they stand there, and print what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["core.md", "process.md"])
def test_the_examples_print_what_the_page_says(page):
    names = {"__name__": page}
    for code, shown in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page, "exec"), names)
        assert printed.getvalue() == shown
