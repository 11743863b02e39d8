"""What holds of the repository: where tests lie, and that a hook and CI do what `make` does."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# of a running studio, not of one of its modules
WHOLE = "crash full_disk fuzz matrix migration page page_checkpoints page_engines queue security"


def test_tests_are_found_by_the_name_of_their_module():
    """Those of inkwash/X/y.py are tests/X/test_y.py, or test_y_TOPIC.py."""
    allowed, lost = {f"studio/test_{topic}.py" for topic in WHOLE.split()}, []
    for test in (ROOT / "tests").glob("*/**/test_*.py"):
        place = test.relative_to(ROOT / "tests")
        modules = (ROOT / "src" / "inkwash" / place.parent).glob("[!_]*.py")
        begins = [f"test_{module.stem}" for module in modules]
        if not any(test.stem == name or test.stem.startswith(f"{name}_") for name in begins):
            lost.append(place.as_posix())
    assert {place for place in lost if not place.startswith("house/")} == allowed


def test_the_hook_checks_what_make_check_does():
    rules = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    commands = re.findall(r"\$\(BIN\)/(.*)\)", rules)
    assert len(commands) == 4
    assert re.findall(r"entry: \.venv/bin/(.*?), language", hooks) == commands


def test_windows_installs_and_runs_what_make_test_does():
    rules, steps = ((ROOT / name).read_text() for name in ("Makefile", ".github/workflows/ci.yml"))
    for name in (" torch==[0-9.]+", r"(?<=WORKERS := ).*", r"(?<=EXTRAS := ).*"):
        assert re.search(name, rules)[0] in steps
    alone = re.search(r"ALONE := (.*)", rules)[1]
    assert all(package in steps for package in re.findall(r"([\w-]+)==", alone))
