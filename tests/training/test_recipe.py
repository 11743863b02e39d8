from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from inkwash.errors import UserError
from inkwash.training.recipe import load_recipe
from inkwash.training.settings import Settings


@dataclass(frozen=True)
class Data:
    folder: Path
    styles: list[str] = field(default_factory=list)
    crop: tuple[int, int] | None = None


@dataclass(frozen=True)
class Recipe:
    task: Literal["pictures", "forecast"]
    fit: Settings
    data: Data | None = None
    network: dict[str, Any] = field(default_factory=dict)


GOOD = """
task = "pictures"
[fit]
steps = 1_000
learning_rate = 1e-3
max_grad_norm = inf
ema_decay = 0
betas = [0.9, 0.95]
precision = "bfloat16"
[data]
folder = "data/emoji"
styles = ["flat", "3d"]
crop = [8, 8]
[network]
block_out_channels = [96, 192]
"""


def read(folder, text):
    path = folder / "recipe.toml"
    path.write_text(text)
    return load_recipe(path, Recipe)


def test_every_table_becomes_its_dataclass(tmp_path):
    assert read(tmp_path, GOOD) == Recipe(
        task="pictures",
        fit=Settings(
            steps=1000,
            learning_rate=1e-3,
            max_grad_norm=float("inf"),
            ema_decay=0.0,
            betas=(0.9, 0.95),
            precision="bfloat16",
        ),
        data=Data(Path("data/emoji"), ["flat", "3d"], (8, 8)),
        network={"block_out_channels": [96, 192]},
    )
    short = read(tmp_path, 'task = "forecast"\nfit.steps = 1')
    assert short == Recipe("forecast", Settings(steps=1))


@pytest.mark.parametrize(
    "text, says",
    [
        (GOOD.replace("max_grad", "max_gard"), "unknown key of [fit] 'max_gard_norm': did you mean max_grad_norm?"),
        (GOOD.replace("[fit]", "[fitt]"), "unknown key of the recipe 'fitt': did you mean fit?"),
        (GOOD.replace("steps = 1_000", ""), "[fit] lacks the key 'steps' (a whole number)"),
        (GOOD.replace('folder = "data/emoji"', ""), "[data] lacks the key 'folder' (a path)"),
        (GOOD.replace("1_000", '"many"'), "fit.steps must be a whole number, not 'many'"),
        (GOOD.replace("1_000", "true"), "fit.steps must be a whole number, not True"),
        (GOOD.replace("1_000", "1.5"), "fit.steps must be a whole number, not 1.5"),
        (GOOD.replace("1_000", "0"), "steps must be at least 1, not 0"),
        (GOOD.replace("1_000", "0"), "fit.steps must be at least 1, not 0"),
        (GOOD.replace("[0.9, 0.95]", "[0.9, 1]"), "fit.betas[1] must be below 1, not 1.0"),
        ("x = " + 5000 * "[" + 5000 * "]", "nested too deeply"),
        (GOOD.replace("[0.9, 0.95]", "[0.9]"), "fit.betas must be a list of 2 values, each a number, not [0.9]"),
        (GOOD.replace('"3d"', "3"), "data.styles[1] must be a text, not 3"),
        (GOOD.replace("[8, 8]", "8"), "data.crop must be a list of 2 values, each a whole number, not 8"),
        (
            GOOD.replace('"pictures"', '"picture"'),
            "task must be one of 'pictures', 'forecast', not 'picture'",
        ),
        ('fit = 3\ntask = "pictures"', "fit must be a table, not 3"),
        (GOOD.replace('"bfloat16"', '"bfloat16'), "is not valid TOML: Illegal character '\\n' (at line 9, "),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_key(tmp_path, text, says):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "recipe.toml"))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_of_a_windows_editor_is_read(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(GOOD.encode("utf-8-sig"))
    assert load_recipe(path, Recipe) == read(tmp_path, GOOD)
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(UserError, match=r"recipe\.toml is not in UTF-8, as TOML is: save it as UTF-8"):
        load_recipe(path, Recipe)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the recipe .*none\.toml: No such file"):
        load_recipe(tmp_path / "none.toml", Recipe)
