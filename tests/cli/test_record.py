from inkwash.cli.record import Record
from inkwash.systems.pictures.request import Generate


def test_a_row_is_known_again_whatever_signs_its_prompt_has(tmp_path):
    request = Generate(prompt="a\u2028fox\x85and a hen")
    (tmp_path / "made").write_bytes(b"a picture")
    Record(tmp_path).save("fox", request, None, {"fox.png": tmp_path / "made"})
    assert Record(tmp_path).existing("fox", request) == ([tmp_path / "fox.png"], None)
