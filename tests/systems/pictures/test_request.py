import pytest

from inkwash.cli import main
from inkwash.errors import UserError
from inkwash.systems.pictures.request import Generate
from tests.models import tiny

TAG = "a fox <lora:flat_v2:0.8>"


@pytest.mark.parametrize("text", [TAG, "<LyCO: x:1>", "fox ＜lora：扁平：0.8＞", "<hypernet:y>", "<lora:cut off"])
@pytest.mark.parametrize("name", ["prompt", "negative", "to"])
def test_the_tag_of_an_adapter_is_refused_wherever_a_prompt_enters(name, text):
    given = {"prompt": "a fox", name: text}
    for ask in (lambda: Generate(**given), lambda: tiny().generate(**given)):
        with pytest.raises(UserError, match=r"there are no adapters here; take it out.*--model") as error:
            ask()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a < b", "lora: the parrot", "<lora>", "<explora:1>"])
def test_what_is_no_tag_is_a_prompt(text):
    assert Generate(prompt=text).prompt == text


def test_a_row_of_a_table_with_a_tag_is_the_only_one_refused(tiny_folder, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text(f"prompt,seed\na fox,1\n{TAG},2\n")
    words = [
        "generate",
        "--csv",
        str(tmp_path / "rows.csv"),
        "--model",
        str(tiny_folder),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(words) == 2
    assert "rows.csv, line 3: '<lora:flat_v2:0.8>' in the prompt" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").glob("*.png")] == ["a-fox-1.png"]


@pytest.mark.parametrize(
    "given", [{"prompt": "a fox"}, {"style": "flat"}, {"negative": "a hat"}, {"prompt": "a fox", "to": "a cat"}]
)
def test_a_guidance_of_0_with_anything_to_follow_is_refused(given):
    """It is the model without a condition: what was asked for would change nothing."""
    for ask in (lambda: Generate(guidance=0, **given), lambda: tiny().generate(guidance=0.0, **given)):
        with pytest.raises(UserError, match="guidance = 0: the picture would be drawn without"):
            ask()
    assert Generate(guidance=0.1, **given).guidance == 0.1
    assert Generate(guidance=0).guidance == 0  # as of an image that is filled in without words
