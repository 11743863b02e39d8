"""What a plain install, without torch, does, and how it says what it cannot."""

import json
import subprocess
import sys

import pytest

from inkwash.errors import UserError
from inkwash.extras import install_command, missing

BARE = """
import contextlib, io, json, sys
for name in ("torch", "pandas", "pyarrow"):
    sys.modules[name] = None
from inkwash.cli import main
for line in sys.stdin:
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        code = main(json.loads(line))
    print(json.dumps([code, out.getvalue(), said.getvalue()]), flush=True)
"""


@pytest.fixture
def bare(tmp_path):
    """Commands, each with its exit code and what it prints, in a process that finds no torch."""
    command, options = [sys.executable, "-c", BARE], {"text": True, "cwd": tmp_path, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as process:

        def run(*arguments):
            process.stdin.write(json.dumps(arguments) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def test_pictures_need_no_torch(bare, tmp_path):
    code, made, said = bare("generate", "a sunflower", "--model", "emoji-fast", "--seed", "7", "-o", "a.png")
    assert (code, made, said) == (0, "a.png\n", "") and (tmp_path / "a.png").stat().st_size > 1000
    assert bare("again", "a.png")[1].endswith("the same pixels\n")
    assert bare("models")[0] == bare("doctor")[0] == bare("train", "--help")[0] == 0


def test_what_needs_torch_says_so_in_one_line(bare, tmp_path):
    (tmp_path / "x.csv").write_text("time,a\n2020-01-01,1\n2020-01-02,2\n")
    (tmp_path / "r.toml").write_text('task = "language"\n')
    for arguments, names in [
        (("write",), "torch"),
        (("forecast", "x.csv"), "pandas"),
        (("train", "r.toml"), "torch"),
        (("export", "emoji"), "torch"),
        (("evaluate", "emoji"), "torch"),
        (("generate", "x", "--runtime", "torch"), "torch"),
        (("generate", "x", "--device", "cuda"), "torch"),
    ]:
        code, made, said = bare(*arguments)
        assert (code, made, said.count("\n")) == (2, "", 1), (arguments, said)
        assert names in said and "pip install 'inkwash[" in said, (arguments, said)


def test_the_package_itself_says_which_extra_brings_a_module():
    assert install_command("torch") == "pip install 'inkwash[torch]'"
    assert install_command("resvg_py") == "pip install 'inkwash[data]'"
    assert install_command("no_such_thing") == "pip install no-such-thing"
    assert str(missing(ModuleNotFoundError(name="pyarrow.parquet"))) == (
        "this needs pyarrow: pip install 'inkwash[data]'"
    )
    assert isinstance(missing(ModuleNotFoundError(name="x")), UserError)
    with pytest.raises(ModuleNotFoundError):
        missing(ModuleNotFoundError(name="inkwash.nowhere"))


def test_a_module_of_another_name_is_installed_by_its_package():
    assert install_command("skimage") in ("pip install scikit-image", "pip install 'inkwash[segmentation]'")
