import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from inkwash.errors import UserError
from inkwash.progress import Note, Progress
from inkwash.systems.pictures.folder import check_captions, describe_captions, read_folder, split_by_content
from tests.follower import Follower


def test_a_picture_too_large_is_skipped(tmp_path, monkeypatch):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert len(read_folder(tmp_path, 8, monitor=(follower := Follower())).pictures) == 1
    why = {"a.png": "too many pixels; make it smaller", "c.png": "not a picture that can be read"}
    notes = [f"skipped {tmp_path / name}: {text}" for name, text in why.items()]
    assert [note.text for note in follower.of(Note)] == notes


def test_read_folder_crops_and_lies_on_white(tmp_path):
    picture = Image.new("RGBA", (60, 20), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (20, 0, 40, 20))
    picture.save(tmp_path / "a.PNG")
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "b.webp")
    a, b = read_folder(tmp_path, 8).pictures
    assert (a[3:5, 3:5] == [255, 0, 0]).all() and (b == 255).all()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        with pytest.raises(UserError, match=r"no such folder|no pictures"):
            read_folder(folder, 8)


def test_copies_of_a_picture_are_held_out_together_or_learned_from_together():
    pictures = np.random.default_rng(0).integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)
    learned, held_out = split_by_content(np.concatenate([pictures, pictures]))
    assert len(held_out) == 20 and not {*learned % 200} & {*held_out % 200}
    assert len(split_by_content(np.concatenate([pictures[:1]] * 200))[1]) == 0


def read(folder, **options):
    """The pictures of a folder, in 8 pixels, and what was said of them."""
    found = read_folder(folder, 8, monitor=(follower := Follower()), **options)
    return found, "\n".join(note.text for note in follower.of(Note)), follower


def save(path, colour="red", size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def test_captions_lie_beside_the_files_or_in_tables(tmp_path):
    for name in ("a", "b", "c", "in/d", "in/e"):
        save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("\ufeffa red  fox\n\nein Fuchs\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text(" \n")
    (tmp_path / "in" / "metadata.csv").write_text('file_name,text\nd.png,"a cup, of tea"\n', encoding="utf-8")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "in/e.png", "text": "茶", "n": 1}\n', encoding="utf-8")
    captions = read(tmp_path)[0].captions
    assert captions == [["a red fox", "ein Fuchs"], [], [], ["a cup, of tea"], ["茶"]]
    assert describe_captions(captions).endswith("2 of 5 pictures have none, and are learned without words")


def test_folders_are_classes_where_there_are_several_and_no_captions(tmp_path):
    save(tmp_path / "cats" / "a.png")
    assert read(tmp_path)[0].captions == [[]]
    save(tmp_path / "guide_dogs" / "b.png")
    save(tmp_path / "c.png")
    captions = read(tmp_path)[0].captions
    assert captions == [[], ["cats"], ["guide dogs"]]
    assert describe_captions([["cats"]] * 30 + [["dogs"]] * 20) == "captions: cats (30), dogs (20)"
    (tmp_path / "cats" / "a.txt").write_text("a cat")
    assert read(tmp_path)[0].captions == [[], ["a cat"], []]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "eine Tür".encode("latin-1"), "a.txt: captions are read as UTF-8"),
        ("metadata.csv", b"file,text\na.png,fox\n", "entry 1: a file_name and a text are needed"),
        ("metadata.csv", b"file_name,text\na.png,a cat, red\n", "line 2: more or fewer cells than the first line"),
        ("metadata.csv", b'file_name,text\na.png,"a cat\na.png,red\n', "a quotation mark that is not closed"),
        ("metadata.csv", b"file_name,text\na.pdf,fox\n", "a.pdf: no such picture"),
        ("metadata.jsonl", b'{"file_name": "%s", "text": "x"}' % (b"a" * 300), "no such picture"),
        ("metadata.jsonl", b"[" * 100_000, "its lines are not JSON"),
        (
            "metadata.jsonl",
            b'{"file_name": "a.png", "text": "\\ud83d"}',
            "entry 1: a file_name and a text are needed",
        ),
        ("metadata.jsonl", b"{'file_name': 1}", "its lines are not JSON"),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": null}', "entry 1: a file_name and a text are needed"),
        ("metadata.csv", b"file_name,text\nb.png,fox\n", "b.png: no such picture, which metadata.csv names"),
    ],
)
def test_captions_that_cannot_be_read_are_refused(tmp_path, name, content, message):
    save(tmp_path / "a.png")
    (tmp_path / "a.pdf").write_bytes(b"")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_folder(tmp_path, 8)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in/e\u0301.TXT", "a cup, red"),
        ("in/\xe9.txt", "a cup, red"),  # one sign, where macOS writes two
        ("in/Metadata.CSV", "file_name;text\n\xe9.png;a cup, red\n"),
        ("in/metadata.csv", 'file_name, text\ne\u0301.png, "a cup, red"\n'),
        ("beside/metadata.csv", 'file_name,text\n../in/\xe9.png,"a cup, red"\n'),
        ("metadata.jsonl", '{"file_name": "in/\xe9.png", "text": "a cup,\u2028red"}\n'),
    ],
)
def test_captions_are_found_however_systems_write_names_and_tables(tmp_path, name, content):
    save(tmp_path / "in" / "e\u0301.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read(tmp_path)[0].captions == [["a cup, red"]]


def test_texts_that_are_of_no_picture_are_counted(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "a.png.txt").write_text("a cat")
    assert read(tmp_path)[1] == "1 texts are passed over: no picture is called as they are (a.png.txt)"


def test_files_that_say_nothing_are_counted(tmp_path):
    """Drawings that are not read, and captions as other trainers have them."""
    save(tmp_path / "a.png")
    for name in ("a.svg", "b.SVG", "in/captions.csv", "a.caption", "README", ".hidden", "metadata.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("file_name,text\n")
    said = "5 files are passed over, neither pictures nor captions: .caption, .csv, .svg, README"
    assert read(tmp_path)[1] == f"{said} (README)"


def test_captions_that_the_text_encoder_does_not_know_are_counted(tmp_path):
    words = {"a", "fox", "cat"}

    def encode(text):
        found = [*re.finditer(r"\w+|\S", text)]
        tokens = [word[0] if word[0] in words else "[UNK]" for word in found]
        return SimpleNamespace(offsets=[(0, 0), *(word.span() for word in found)], tokens=["[CLS]", *tokens])

    def said(*captions):
        check_captions([[text] for text in captions], SimpleNamespace(encode=encode), follower := Follower())
        return [note.text for note in follower.of(Note)]

    assert said("a fox", "a cat") == []
    assert said("a fox", "a dog", "\u043b\u0438\u0441\u0430", "\u043b\u0438\u0441\u0430", "\u3042") == [
        "2 of 4 captions: the text encoder knows nothing of them (\u043b\u0438\u0441\u0430)",
        "1 of 4 captions: the text encoder knows not all of them (a dog)",
    ]
    with pytest.raises(UserError, match=r"knows nothing of any caption \(dog\): write English or Chinese"):
        said("dog", "\u3042")


def test_emoji_in_captions_are_their_names_as_they_are_in_prompts(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a \U0001f98a, \U0001f1e9\U0001f1ea", encoding="utf-8")
    assert read(tmp_path)[0].captions == [["a fox , Germany"]]


def test_what_is_hidden_is_passed_over_and_links_are_followed_once(tmp_path):
    save(tmp_path / "elsewhere" / "cat.png", "blue")
    folder = tmp_path / "mine"
    save(folder / "fox.png")
    for name in ("._fox.png", ".trash/old.png", "__MACOSX/fox.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    for name, target in {"cats": "elsewhere", "again": "elsewhere", "loop": "mine", "above": ""}.items():
        (folder / name).symlink_to(tmp_path / target)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found, said, _ = read(folder)
    assert found.pictures[:, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0]]
    assert said == f"skipped {folder / 'gone.png'}: no such file"


def test_it_is_said_what_pictures_lose(tmp_path):
    save(tmp_path / "wide.png", size=(40, 10))
    save(tmp_path / "square.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    found, said, _ = read(tmp_path)
    assert (found.pictures[0] == 255).all() and (found.pictures[1:] == [255, 0, 0]).all()  # all cropped
    assert "1 of 4 pictures are not square: what lies beside the middle is cut off, up to 75%" in said
    assert "1 of 4 pictures are transparent" in said and "(clear.png)" in said
    assert "1 of 4 pictures are animated: the first frame is taken (moving.gif)" in said
    save(tmp_path / "small.png", size=(2, 4))
    found, said, _ = read(tmp_path, resize="pad")
    assert "1 of 5 pictures are smaller than the model's: they are enlarged, up to 2.0 times (small.png)" in said
    assert (found.pictures[4][[0, -1]] == 255).all() and (found.pictures[4][[3, 4]] == [255, 0, 0]).all()
    assert "white is laid beside them, up to 75%" in said and "cut off" not in said


def test_avif_is_read_and_it_is_said_how_far_reading_is(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.avif", "red")
    found, _, follower = read(tmp_path)
    assert np.abs(found.pictures.astype(int) - [255, 0, 0]).max() < 8
    assert [(step.done, step.total) for step in follower.of(Progress)] == [(1, 3), (2, 3), (3, 3)]


def test_heic_is_read_where_its_package_is_and_else_the_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.HEIC").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("inkwash.extras.find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"a\.HEIC needs pillow_heif: pip install pillow-heif"):
        read_folder(tmp_path, 8)
    monkeypatch.setattr("inkwash.extras.find_spec", lambda module: True)
    opened = []
    monkeypatch.setitem(
        sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=lambda: opened.append("heif"))
    )
    with pytest.raises(UserError, match="no pictures"):
        read_folder(tmp_path, 8, monitor=Follower())
    assert {*opened} == {"heif"}
