"""Tables of requests, as people's spreadsheets write them."""

import errno
import json
import os
import re
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image

from inkwash.cli import main
from inkwash.cli.record import Record
from inkwash.cli.tables import Table, row_names
from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.systems.base import File
from inkwash.systems.checkpoints import request as checkpoints
from inkwash.systems.pictures.request import Generate


@pytest.fixture
def draw(tiny_folder, tmp_path, capsys):
    """Draws a table, of text or bytes: the exit code, the names of the files in their order, standard error."""

    def call(content, *arguments):
        file = tmp_path / "rows.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        command = ["generate", "--csv", str(file), "--model", str(tiny_folder), "-o", str(tmp_path / "out")]
        code = main([*command, *arguments])
        shown = capsys.readouterr()
        names = [line.removeprefix(f"{tmp_path / 'out'}/") for line in shown.out.splitlines()]
        return code, names, shown.err

    return call


def recipes(tmp_path, names):
    return [read_recipe(tmp_path / "out" / name) for name in names]


def read(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    return [values for _, values in Table(tmp_path / "a.csv", Generate)]


def test_options_of_the_command_line_stand_for_empty_cells_and_columns_that_are_not_there(draw, tmp_path):
    options = ["--style", "flat", "--steps", "2", "--guidance", "2.5", "--negative", "a hat", "--size", "24"]
    options += ["--sampler", "euler", "--seed", "7"]
    code, names, _ = draw("prompt,steps,style\na fox,,\na cat,1,noto\n,1,\n", "a dog", *options)
    assert (code, names) == (0, ["a-fox-flat-7.png", "a-cat-noto-7.png", "a-dog-flat-7.png"])
    shared = {"guidance": 2.5, "negative": "a hat", "size": 24, "sampler": "euler", "seed": 7}
    rows = [("a fox", 2, "flat"), ("a cat", 1, "noto"), ("a dog", 1, "flat")]
    for recipe, (prompt, steps, style) in zip(recipes(tmp_path, names), rows, strict=True):
        assert (shared | {"prompt": prompt, "steps": steps, "style": style}).items() <= recipe.items()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--mask", "nowhere.png"], "nowhere.png: no such file"),
        (["--strength", "0.5"], "strength means nothing without an image"),
        (["--transparent"], "transparent means nothing with the model"),
        (["--style", "flta"], "unknown style 'flta': did you mean flat?"),
        (["--to", "a cat", "--n", "1"], "n = 1"),
    ],
)
def test_an_option_that_no_row_can_have_is_refused_in_one_line(options, says, draw, tmp_path):
    code, names, error = draw("prompt\na fox\na cat\na dog\n", *options)
    assert code == 2 and not names and error.count("\n") == 1 and says in error
    assert not (tmp_path / "out").exists()


def test_a_table_of_chinese_excel(draw, tmp_path):
    """In GBK, with semicolons, capitals and spaces in its heading, decimal commas, emptied columns and rows."""
    rows = "Prompt; Seed ;Style;GUIDANCE;Steps;;\r\n红色的狐狸,坐着;7,0;flat;1,5;3.0;;\r\n;;;;;;\r\n"
    rows += '"猫\n和 ""狗""";8;;;;;\r\n'
    code, names, error = draw(rows.encode("gbk"))
    assert code == 0 and "rows.csv: read as GB18030" in error and error.count("\n") == 2
    assert names == ["红色的狐狸-坐着-flat-7.png", "猫-和-狗-8.png"]
    first, second = recipes(tmp_path, names)
    assert (first["prompt"], first["guidance"], first["steps"]) == ("红色的狐狸,坐着", 1.5, 3)
    assert second["prompt"] == '猫\n和 "狗"'


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_cell_with_signs_in_quotes_is_one(sign, tmp_path):
    rows = sign.join(["prompt", "seed"]) + "\n" + sign.join(['"a fox, a cat; a\tdog\nand a hat"', "7"]) + "\n"
    assert read(tmp_path, rows) == [{"prompt": "a fox, a cat; a\tdog\nand a hat", "seed": 7}]


@pytest.mark.parametrize(
    ("sign", "cell", "value"),
    [
        (",", "7.0", 7), (",", "7.00", 7), (";", "7,0", 7), (";", "7.0", 7), (",", "7.5", None), (";", "1,000", None),
        (";", "1.000", None), (",", '"7,0"', None), (",", "1_000", None), (",", "1e3", None), (",", "-", None),
    ],
)  # fmt: skip
def test_a_whole_number_is_read_right_or_refused(sign, cell, value, tmp_path):
    (row,) = read(tmp_path, f"prompt{sign}steps\na fox{sign}{cell}\n")
    assert row == {"prompt": "a fox", "steps": value} if value else "no whole number" in str(row)


@pytest.mark.parametrize(
    ("sign", "cell", "value"),
    [(";", "1,5", 1.5), ("\t", "1,5", 1.5), (";", "1.5", 1.5), (",", '"1,5"', None), (",", "nan", None)],
)
def test_a_number_is_read_right_or_refused(sign, cell, value, tmp_path):
    (row,) = read(tmp_path, f"prompt{sign}guidance\na fox{sign}{cell}\n")
    assert row == {"prompt": "a fox", "guidance": value} if value else "no number" in str(row)


@pytest.mark.parametrize(
    ("cell", "what"),
    [("#NAME?", "an error"), ("#N/A", "an error"), ("#DIV/0!", "an error"), ("Err:508", "an error"),
     ("=A1&B1", "a formula"), ('"=""a ""&A1"', "a formula")],
)  # fmt: skip
@pytest.mark.parametrize("column", ["prompt", "name", "seed", "image"])
def test_what_a_spreadsheet_could_not_compute_is_no_prompt(column, cell, what, tmp_path):
    broken, other = read(tmp_path, f"{column},style\n{cell},flat\n,flat\n")
    assert f"column {column}: " in str(broken) and f"is {what} of a spreadsheet: write there" in str(broken)
    assert other == {"style": "flat"}


@pytest.mark.parametrize("prompt", ["#1 fan!", "#fox", "a = b", "= )", "Err: a fox", "no #N/A here"])
def test_other_signs_are_prompts(prompt, tmp_path):
    assert read(tmp_path, f"prompt\n{prompt}\n") == [{"prompt": prompt}]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("prompt,Prompt\na fox,a cat\n", "two columns are called 'prompt'"),
        ("prompt,stpes\na fox,3\n", "unknown column of .*a.csv 'stpes': did you mean steps"),
        (",prompt\n0,a fox\n", "column 1 has no name"),
        ("\tprompt\n0\ta fox\n", "column 1 has no name"),
        ('prompt,seed\n"a fox,7\n', "look for a quotation mark"),
        ("", "no column of an option's name"),
    ],
)
def test_a_heading_that_is_not_understood_is_refused(rows, says, tmp_path):
    with pytest.raises(UserError, match=says):
        read(tmp_path, rows)


def test_what_is_wrong_with_a_row_is_one_short_line(draw, tmp_path):
    code, names, said = draw(f'prompt,seed\na fox,"7\ninkwash: all is well{"9" * 5000}"\na fox,8\n', "--steps", "1")
    first, second = said.splitlines()
    assert code == 2 and names == ["a-fox-8.png"] and second.startswith("1 made")
    assert "line 3, column seed: '7 inkwash: all is well999" in first and len(first) < 300
    code, _, said = draw(f"{'prompt' * 99},seed\na fox,7\n")
    assert code == 2 and said.count("\n") == 1 and "unknown column" in said and len(said) < 500


def test_a_path_that_there_cannot_be_breaks_its_row_alone(draw):
    code, names, said = draw(f"prompt,image,seed\na fox,{'x' * 300}.png,7\na hen,,8\n", "--steps", "1")
    assert code == 2 and names == ["a-hen-8.png"] and "rows.csv, line 2: " in said
    assert "File name too long; name another" in said and "1 made, 0 there already, 1 broken" in said


@pytest.mark.parametrize(
    ("number", "todo"),
    [(errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EROFS, "name another folder")],
)
def test_a_disk_that_takes_no_more_ends_a_table_in_one_line(number, todo, draw, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Record, "save", full)
        code, names, said = draw("prompt,seed\na fox,7\na fox,8\n", "--steps", "1")
    assert (code, names) == (2, []) and not (tmp_path / "out").exists()
    assert said == f"inkwash: cannot write any more: {os.strerror(number)}; {todo}, and run the same again\n"


def test_rows_that_would_be_called_the_same_are_told_apart_by_what_they_differ_in(draw, tmp_path):
    code, names, _ = draw("prompt,steps,sampler\na fox,1,\na fox,2,\na fox,2,euler\na cat,1,\n", "--seed", "7")
    sweep = ["a-fox-7-steps-1.png", "a-fox-7-steps-2.png", "a-fox-7-sampler-euler-steps-2.png"]
    assert (code, names) == (0, [*sweep, "a-cat-7.png"])
    assert [recipe["steps"] for recipe in recipes(tmp_path, sweep)] == [1, 2, 2]
    code, names, error = draw("prompt,name\na fox,Mine\na cat,mine\na fox 7,\n", "--seed", "7")
    assert code == 2 and "line 3: mine is line 2's already; give it a name" in error
    code, names, error = draw("prompt,steps\na fox,1\na fox,1\n", "--seed", "7")
    assert code == 2 and "line 3: a-fox-7 is line 2's already" in error


def test_a_row_with_several_pictures_names_each(draw, tmp_path):
    rows = "prompt,n,seed,name\na fox,2,7,\na fox,,8,\na cat,2,7,cats\na dog,,1,cats-2\n"
    made = ["a-fox-7-1.png", "a-fox-7-2.png", "a-fox-7-grid.png", "a-fox-8.png", "cats-1.png", "cats-2.png"]
    code, names, error = draw(rows)
    assert (code, names) == (2, [*made, "cats-grid.png"]) and "line 5: cats-2 is line 4's already" in error
    seeds = [recipe["seed"] for recipe in recipes(tmp_path, [made[0], made[1], *made[3:]])]
    assert seeds == [7, 8, 8, 7, 8]
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in made}
    assert "0 made, 3 there already, 1 broken" in draw(rows)[2]
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in made} == before
    (tmp_path / "out" / "a-hat-1-2.png").write_text("mine")
    code, names, error = draw("prompt,n,seed\na hat,2,1\n")
    assert code == 2 and "a-hat-1-2.png: it is there already" in error and not names


def test_files_are_looked_for_beside_the_table(draw, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16, 16), "red").save(tmp_path / "in" / "car.png")
    Image.new("L", (16, 16), 255).save(tmp_path / "in" / "all.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rows = (
        "prompt,image,mask,strength,outpaint\n,in/car.png,,0.4,\na fox,in/car.png,in/all.png,,\n,in/car.png,,,0.25\n"
    )
    code, names, _ = draw(rows + ",car.png,,,\n", "--seed", "7")
    assert code == 2 and len(names) == 3
    first, second, third = recipes(tmp_path, names)
    assert first["image"]["name"] == second["image"]["name"] == third["image"]["name"] == "car.png"
    assert (first["strength"], second["mask"]["name"], third["outpaint"]) == (0.4, "all.png", 0.25)


def test_old_line_ends_and_empty_lines_before_the_heading_do_no_harm(tmp_path):
    assert read(tmp_path, "\r\rprompt,seed\ra fox; a cat,7\r") == [{"prompt": "a fox; a cat", "seed": 7}]


def test_the_first_line_may_say_what_separates_the_cells(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"sep=;\r\nprompt;seed\r\na fox, red;7\r\n")
    assert [*Table(tmp_path / "a.csv", Generate)] == [(3, {"prompt": "a fox, red", "seed": 7})]


def test_an_option_of_nought_is_told_from_one_that_is_not_there():
    rows = [Generate(seed=7, guidance=guidance) for guidance in (0, None)]
    assert row_names({i: (None, row) for i, row in enumerate(rows)}) == {0: "picture-7-guidance-0.0", 1: "picture-7"}


def test_rows_are_told_apart_by_the_names_of_files_and_models_and_not_by_where_they_lie():
    ink, half = File("0" * 64, "ink.safetensors"), File("1" * 64, "half.safetensors")
    rows = [
        checkpoints.Generate(model=f"/home/ann/{model}", seed=7, adapter=adapter)
        for model, adapter in (("a", ()), ("a", (ink,)), ("b", (ink, half)))
    ]
    assert [*row_names({i: (None, row) for i, row in enumerate(rows)}).values()] == [
        "picture-7-model-a", "picture-7-model-a-adapter-ink", "picture-7-model-b-adapter-ink-half"
    ]  # fmt: skip


def test_a_name_is_that_of_a_file_in_the_folder_or_refused(draw, tmp_path):
    """Whatever a cell says, nothing lies outside the folder, is hidden or is lost."""
    names = ["..", ".", "a/b", "../up", "CON", "nul.png", "com1.x", " ", "-", "same", "same", ".hidden", "end.", "~"]
    table = "".join(f"{name},a fox,{seed}\n" for seed, name in enumerate(names))
    code, made, said = draw(f"name,prompt,seed\n{table}", "--steps", "1")
    assert code == 2
    assert made == ["a-b.png", "-up.png", "a-fox-7.png", "same.png", "hidden.png", "end.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted([*made, "results.jsonl"])
    assert {file.name for file in tmp_path.iterdir()} == {"out", "rows.csv"}
    assert [recipe["seed"] for recipe in recipes(tmp_path, made)] == [2, 3, 7, 9, 11, 12]
    refused = re.findall(r"line (\d+), column name: '(.*)' cannot be the name of a file", said)
    assert refused == [
        ("2", ".."),
        ("3", "."),
        ("6", "CON"),
        ("7", "nul.png"),
        ("8", "com1.x"),
        ("10", "-"),
        ("15", "~"),
    ]
    assert "line 12: same is line 11's already" in said


def test_long_names_are_cut(draw):
    names = draw(
        f"prompt,negative,steps,name\n{'狐' * 80},{'猫' * 80},1,\n{'狐' * 80},,2,\n狗,,1,{'犬' * 90}\n", "--seed", "7"
    )[1]
    assert len(names) == 3 and all(len(name.encode()) < 230 for name in names)


def test_a_row_may_be_an_animation(draw, tmp_path):
    code, names, _ = draw("prompt,to,n,seed\na fox,a cat,2,7\na fox,,,7\n")
    assert code == 0
    assert names == ["a-fox-7-n-2-to-a-cat.gif", "a-fox-7-n-2-to-a-cat-grid.png", "a-fox-7-n-1.png"]
    assert read_recipe(tmp_path / "out" / names[0])["to"] == "a cat"


def test_a_plan_counts_what_a_table_makes(draw):
    one, three = (draw(f"prompt,n\na fox,{n}\n", "--plan", "--json")[1][0] for n in (1, 3))
    assert 2.9 < json.loads(three)["bytes"] / json.loads(one)["bytes"] < 3.1


def test_a_parquet_is_the_same_table(tmp_path, monkeypatch):
    """Its lines have the numbers of the CSV's, which are the seeds of rows without one."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    columns = {"prompt": ["a fox", None, " a hen ", "a cat"], "seed": [7, None, None, 2**53 + 1]}
    columns |= {"guidance": [1.5, None, None, 2.0], "transparent": [True, None, False, None]}
    parquet.write_table(arrow.table(columns), "rows.parquet", row_group_size=2)
    Path("rows.csv").write_text(
        f"prompt,seed,guidance,transparent\na fox,7,1.5,yes\n,,,\na hen,,,no\na cat,{2**53 + 1},2,\n"
    )
    one, other = (list(Table(Path(name), Generate)) for name in ("rows.csv", "rows.parquet"))
    assert one == other and [line for line, _ in other] == [2, 4, 5]


def test_a_parquet_that_is_none_is_one_line(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "text.parquet").write_text("prompt\na fox\n")
    with pytest.raises(UserError, match=r"text\.parquet: no parquet that can be read"):
        Table(tmp_path / "text.parquet", Generate)
    with pytest.raises(UserError, match=r"none\.parquet: no such file"):
        Table(tmp_path / "none.parquet", Generate)
    parquet.write_table(arrow.table({"words": ["a fox"]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match=r"unknown column of .*'words'"):
        Table(tmp_path / "other.parquet", Generate)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("list", [[1], None]), ("halffloat", [7.5, 1.0]), ("binary", [b"7", b""]), ("decimal128", [Decimal(7), None]),
        ("date32", [2**30, 0]), ("timestamp", [2**62, 0]), ("timestamp[us, tz=Nowhere/Land]", [1, 0]),
        ("struct", [{"a": 1}] * 2),
    ],
)  # fmt: skip
def test_a_column_of_a_parquet_that_is_no_text_nor_numbers_is_refused(kind, values, tmp_path):
    """Of times, too, that Python has not, and zones that nobody knows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    types = {
        "halffloat": arrow.float16(), "date32": arrow.date32(), "timestamp": arrow.timestamp("ms"),
        "timestamp[us, tz=Nowhere/Land]": arrow.timestamp("us", "Nowhere/Land"),
    }  # fmt: skip
    columns = {"prompt": ["a fox", "a hen"], "seed": arrow.array(values, types.get(kind))}
    parquet.write_table(arrow.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(UserError) as error:
        Table(tmp_path / "rows.parquet", Generate)
    assert f"rows.parquet: column seed is of {kind}" in str(error.value)


def test_the_texts_of_a_parquet_may_be_of_any_kind(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = ["a fox", None, "a hen"]
    plain = arrow.array(texts)
    for column in (plain.dictionary_encode(), plain.cast("large_string"), plain.cast("string_view")):
        parquet.write_table(arrow.table({"prompt": column, "seed": [1, 2, 3]}), tmp_path / "rows.parquet")
        rows = [values for _, values in Table(tmp_path / "rows.parquet", Generate)]
        assert rows == [{"prompt": "a fox", "seed": 1}, {"seed": 2}, {"prompt": "a hen", "seed": 3}]


def test_numbers_of_a_parquet_are_those_that_were_meant(tmp_path):
    """A decimal of 32 bits, whole numbers beside nothing, and the column that pandas adds."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        " prompt ": arrow.array(["a fox", "a hare"]),
        "guidance": arrow.array([7.3, 2.0], arrow.float32()),
        "steps": arrow.array([9.0, None]),
        "__index_level_0__": arrow.array([5, 9]),
    }
    parquet.write_table(arrow.table(columns), tmp_path / "rows.parquet")
    (_, one), (_, other) = Table(tmp_path / "rows.parquet", Generate)
    assert one == {"prompt": "a fox", "guidance": 7.3, "steps": 9} and other == {"prompt": "a hare", "guidance": 2.0}
    parquet.write_table(arrow.table({"seed": [float(2**53)]}), tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="line 2: 9007199254740992 is not exact in a column of double"):
        Table(tmp_path / "bad.parquet", Generate)


def test_options_that_differ_name_the_rows_and_those_alike_do_not():
    rows = {i: (None, Generate(prompt="a fox", steps=9 + i % 2, seed=3)) for i in range(2, 5)}
    assert [*row_names(rows).values()] == ["a-fox-3-steps-9", "a-fox-3-steps-10", "a-fox-3-steps-9"]
