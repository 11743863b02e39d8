from inkwash.cli.record import Record
from inkwash.systems.pictures.request import Generate


def test_a_row_is_known_again_whatever_signs_its_prompt_has(tmp_path):
    request = Generate(prompt="a\u2028fox\x85and a hen")
    (tmp_path / "made").write_bytes(b"a picture")
    Record(tmp_path).save("fox", request, None, {"fox.png": tmp_path / "made"})
    assert Record(tmp_path).existing("fox", request) == ([tmp_path / "fox.png"], None)


def test_a_line_that_a_full_disk_cut_within_a_sign_is_half_a_line(tmp_path):
    request = Generate(prompt="狐狸")
    for name in ("one", "two"):
        (tmp_path / "made").write_bytes(b"a picture")
        Record(tmp_path).save(name, request, None, {f"{name}.png": tmp_path / "made"})
    file = tmp_path / "results.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.rindex("狸".encode()) + 1])
    assert Record(tmp_path).existing("one", request)[0] and Record(tmp_path).existing("two", request) == ([], None)
