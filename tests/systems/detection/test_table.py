"""What is read of tables, their traps, and what is refused in one line."""

import pytest

from inkwash.errors import UserError
from tests.systems.detection.folders import found, picture, table, text


def test_a_table_is_read_with_empty_pictures_and_lists(tmp_path):
    picture(tmp_path / "images" / "empty.png")
    picture(tmp_path / "images" / "listed.png")
    picture(tmp_path / "images" / "lone.png")
    text(tmp_path / "val.txt", "listed\n")
    rows = ["a.5,cell,3,4,6,9", "a.5.png,dust,1,1,40,30", "empty.png,,,,,"]
    boxes, data, notes = found(table(tmp_path, rows))
    assert boxes == {
        "a.5": [((2, 3, 6, 9), "cell", False, False), ((0, 0, 40, 30), "dust", False, False)],
        "empty": [],
        "listed": [],
    }
    assert data.listed == {"listed": "val"} and notes == ["1 pictures have no row, and are left out: lone"]


def test_a_table_of_tensorflow_s_and_flags(tmp_path):
    head = "filename,width,height,class,xmin,ymin,xmax,ymax,crowd,difficult"
    boxes, _, _ = found(table(tmp_path, ["a.5.png,40,30,cell,3,4,6,9,1,1"], head))
    assert boxes["a.5"] == [((2, 3, 6, 9), "cell", True, True)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["a.5,cell,3,4,6,x"], "line 2: numbers are needed for xmin, ymin, xmax, ymax"),
        (["b,cell,3,4,6,9"], "1 of its 1 pictures are not in .*: b"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(rows, says, tmp_path):
    with pytest.raises(UserError, match=says):
        found(table(tmp_path, rows))


@pytest.mark.parametrize(
    ("rows", "head", "says"),
    [
        (["a.5,,3,4,6,9"], "", "line 2: a box without its class"),
        ([",cell,3,4,6,9"], "", "line 2: a box without its picture"),
        (["", "a.5,cell,3,5,4,6,9,1"], "", "line 3: 8 values for 6 columns"),
        (["a.5,cell,3,4,6,9,maybe"], "image,label,xmin,ymin,xmax,ymax,crowd", "'maybe', not 0 or 1"),
        (["a.5,cell,3,4,6,9,5"], "image,label,xmin,ymin,xmax,ymax,xmin", "two columns are called xmin"),
        (
            ["a.5,90,60,x,3,4,6,9"],
            "filename,width,height,class,xmin,ymin,xmax,ymax",
            "40 x 30 pixels, by the file 90",
        ),
        (["a.5," + "x" * 200_000 + ",3,4,6,9"], "", "not a table"),
    ],
)
def test_rows_that_would_be_read_wrong_are_refused(rows, head, says, tmp_path):
    with pytest.raises(UserError, match=says):
        found(table(tmp_path, rows, head or "image,label,xmin,ymin,xmax,ymax"))


def test_a_column_of_each_name_keeps_its_own_and_empty_rows_say_nothing(tmp_path):
    rows = ["a.5,cell,7,3,4,6,9,False", ",,,,,,,", ""]
    boxes, data, _ = found(table(tmp_path, rows, "image,label,class,xmin,ymin,xmax,ymax,difficult"))
    assert boxes["a.5"] == [((2, 3, 6, 9), "cell", False, False)] and data.others == ["class"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_of_other_separators_has_decimal_commas(separator, tmp_path):
    head, row = ("image,label,xmin,ymin,xmax,ymax".replace(",", separator), separator.join)
    boxes, _, _ = found(table(tmp_path, [row(["a.5", "cell", "3,5", "4.25", "6", "9"])], head))
    assert boxes["a.5"] == [((2.5, 3.25, 6, 9), "cell", False, False)]
    assert (
        found(table(tmp_path, [row(["a.5", "cell", "3,5", "4.25", "6", "9"])], f"sep={separator}\n{head}"))[0]
        == boxes
    )
    with pytest.raises(UserError, match="line 2: numbers are needed"):
        found(table(tmp_path, [row(["a.5", "cell", "1.003,5", "4", "6", "9"])], head))


def test_a_table_for_each_part_is_one_set(tmp_path):
    for part in ("train", "valid"):
        picture(tmp_path / part / f"{part}.png")
        rows = f"{part}.png,40,30,cell,3,4,6,9\n"
        text(tmp_path / part / "_annotations.csv", f"filename,width,height,class,xmin,ymin,xmax,ymax\n{rows}")
    boxes, data, _ = found(tmp_path)
    assert boxes == {part: [((2, 3, 6, 9), "cell", False, False)] for part in ("train", "valid")}
    assert data.listed == {"train": "train", "valid": "val"}
    (tmp_path / "valid" / "_annotations.csv").rename(tmp_path / "valid" / "train.csv")
    with pytest.raises(UserError, match="several files of annotations"):
        found(tmp_path)
