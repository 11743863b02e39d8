"""Text as people's programs save it: read in the encoding that it is in, or refused."""

import pytest

from inkwash.errors import UserError
from inkwash.systems.tables import read_text

CHINESE = "prompt;style\n一只红色的狐狸，坐在草地上;flat\n猫;3d\n3D狐狸;flat\n"
WESTERN = "prompt,style\nun café noir,flat\nein größer Küchenhut für Öl,3d\nel niño señor,flat\n"


@pytest.mark.parametrize(
    ("text", "encoding", "says"),
    [
        (CHINESE, "utf-8", "UTF-8"),
        (CHINESE, "utf-8-sig", "UTF-8"),
        (CHINESE, "utf-16", "UTF-16LE"),
        (CHINESE, "utf-16-le", "UTF-16LE"),
        (CHINESE, "utf-16-be", "UTF-16BE"),
        (CHINESE, "gbk", "GB18030"),
        (CHINESE + "🦊\n", "gb18030", "GB18030"),
        ("prompt\n狗\n", "gbk", "GB18030"),
        (WESTERN, "utf-8", "UTF-8"),
        (WESTERN, "latin-1", "Windows-1252"),
        (WESTERN + "5 € “hats”\n", "cp1252", "Windows-1252"),
        ("prompt\nKüche\n", "latin-1", "Windows-1252"),
        ("prompt\na fox\n", "utf-16", "UTF-16LE"),
    ],
)
def test_a_table_is_read_in_its_encoding(text, encoding, says, tmp_path):
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read_text(tmp_path / "a.csv") == (text, says)


@pytest.mark.parametrize(
    "raw",
    [
        CHINESE.encode()[:-8] + b"\xff\n",  # UTF-8 with one wrong byte is not Chinese in another encoding
        CHINESE.encode("utf-16")[:-1],
        b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00b\xee\x9dh",  # a workbook
        b"prompt\n\x81\x8d\x8f\n",
    ],
)
def test_what_is_no_text_is_refused(raw, tmp_path):
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(UserError, match="not a table of text"):
        read_text(tmp_path / "a.csv")
