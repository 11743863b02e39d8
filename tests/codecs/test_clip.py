"""CLIP's tokenizer against transformers', from folders as its versions have written them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from inkwash.codecs.clip import CLIPTokenizer
from inkwash.errors import UserError

WORDS = "a cat cats 's 't 're don red fox the then theatre café naïve ! !! ... #$% -- 1 ½ <| |>"
WORDS += " 猫 狐狸 😀 👩‍👩‍👧 한국 नमस्ते"
START, END = "<|startoftext|>", "<|endoftext|>"
# In pieces that hypothesis joins: what the rules of CLIP treat in a way of its own.
PIECES = [START, END, START.upper(), "<|EndOfText|>", "<|endoftext", "DON'T", "I'LL", "we've", "'D", *WORDS.split()]
PIECES += [
    " ",
    "  ",
    "\n\t",
    "\u3000",
    "\u200b",
    "\x00",
    "\ufeff",
    "e\u0301",
    "\u0301",
    "_",
    "&amp;",
    "2nd",
    "²",
    "٣",
]
PIECES += ["İ", "ẞ", "Σ", "ﬁ", "Ａ", "🏳️‍🌈"]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=60).map("".join)


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Bytes, bytes that end a word, what the words above are merged from, start and end: in CLIP's order."""
    letters = sorted(ByteLevel.alphabet(), key=lambda c: (c != "!", c))  # CLIP's first is "!"
    pieces, merges = [*letters, *[letter + "</w>" for letter in letters]], []
    for word in WORDS.split():
        first, *rest = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)[0][0]
        for i, letter in enumerate(rest, 1):
            merges.append((first, letter + "</w>" * (i == len(rest))))
            first += merges[-1][1]
    merges = list(dict.fromkeys(merges))
    pieces += dict.fromkeys(one + other for one, other in merges)
    return {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, START, END]))}, merges


VOCABULARY, MERGES = vocabulary()


def flags(token: str, normalized: bool = True, **others: object) -> dict[str, object]:
    sides = {"lstrip": False, "rstrip": False, "single_word": False}
    return {"content": token, "normalized": normalized, **sides, **others}


def write(folder: Path, settings: dict[str, object], **files: object) -> None:
    """A folder of vocab.json and merges.txt, as until transformers 4, with its settings."""
    folder.mkdir()
    merges = "\n".join(map(" ".join, MERGES))
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    files = {"vocab": VOCABULARY, "tokenizer_config": {"model_max_length": 77, **settings}, **files}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root, folders = tmp_path_factory.mktemp("tokenizers"), {}
    for pad in (END, "!"):
        marks = {"bos_token": flags(START), "eos_token": flags(END), "unk_token": flags(END), "pad_token": pad}
        texts = {key: value if isinstance(value, str) else value["content"] for key, value in marks.items()}
        typed = {key: {"__type": "AddedToken", **value} for key, value in marks.items() if key != "pad_token"}
        numbered = {VOCABULARY[token]: flags(token, normalized=True, special=True) for token in (START, END)}
        if pad == "!":
            numbered[VOCABULARY["!"]] = flags("!", normalized=False, special=True)
        write(root / f"4.20{pad[:1]}", typed | {"pad_token": pad}, special_tokens_map=marks)
        write(root / f"4.40{pad[:1]}", texts | {"added_tokens_decoder": numbered}, special_tokens_map=marks)
        folders |= {f"4.20, pad {pad}": root / f"4.20{pad[:1]}", f"4.40, pad {pad}": root / f"4.40{pad[:1]}"}
    write(
        root / "inversion",
        {"pad_token": "!"},
        added_tokens={"<my-cat>": len(VOCABULARY), "<Dog>": len(VOCABULARY) + 1},
    )
    write(root / "extra", {"additional_special_tokens": ["[Extra]"], "model_max_length": 10**30})
    return folders | {"inversion": root / "inversion", "extra": root / "extra"}


@pytest.fixture(scope="module")
def pairs(folders, tmp_path_factory):
    """(ours, theirs) of each folder, and of what transformers 5 writes of it: tokenizer.json and settings."""
    theirs, pairs = pytest.importorskip("transformers").CLIPTokenizer, {}
    for name, folder in folders.items():
        again = tmp_path_factory.mktemp("again")
        tokenizer = theirs.from_pretrained(folder)
        tokenizer.save_pretrained(again)
        assert sorted(file.name for file in again.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
        pairs[name] = CLIPTokenizer.load(folder), tokenizer
        pairs[f"{name}, by transformers 5"] = CLIPTokenizer.load(again), theirs.from_pretrained(again)
    return pairs


def test_the_alphabet_and_the_merges_are_all_in_the_vocabulary_of_the_test():
    assert VOCABULARY["!"] == 0 and VOCABULARY[END] == len(VOCABULARY) - 1
    assert all(one + other in VOCABULARY for one, other in MERGES)


@pytest.mark.slow
@settings(max_examples=1000)
@given(TEXTS)
@example("")
@example("a cat!")
@example(" ".join(["cat"] * 75))
@example(" ".join(["cat"] * 76))
@example("a <my-cat> and a <dog> or <Dog>, [Extra] [extra]")
@example(f"x{END}y{END.upper()}z")
def test_the_numbers_are_those_of_transformers(pairs, text):
    for name, (ours, theirs) in pairs.items():
        expected = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert ours.tokenize([text])[0].tolist() == expected, name
        assert [ours.start, *ours.encode(text), ours.end] == theirs(text).input_ids, name


def test_words_are_merged_within_themselves_lower_case_and_ended():
    tokenizer = CLIPTokenizer(VOCABULARY, MERGES)
    pieces = list(VOCABULARY)

    def cut(text: str) -> list[str]:
        return [pieces[i] for i in tokenizer.encode(text)]

    assert cut("  The\n CATS  don't") == ["the</w>", "cats</w>", "don</w>", "'t</w>"]
    assert cut("theatre12") == ["theatre</w>", "1</w>", "2</w>"]
    assert cut("cafe\u0301") == cut("CAFÉ") == ["cafÃ©</w>"]
    assert cut("!!") == ["!!</w>"] and cut("! !") == ["!</w>", "!</w>"]


def test_what_fills_a_text_is_the_end_in_one_family_and_an_exclamation_mark_in_the_other(pairs):
    """There, a "!" of the text is the same token, and not that of a "!" which ends a word."""
    first, second = pairs[f"4.20, pad {END}"][0], pairs["4.20, pad !"][0]
    word, mark, start, end = (VOCABULARY[piece] for piece in ("cat</w>", "!</w>", START, END))
    assert first.tokenize(["cat !"])[0].tolist() == [start, word, mark, end] + [end] * 73
    assert second.tokenize(["cat !"])[0].tolist() == [start, word, 0, end] + [0] * 73


def test_a_longer_text_is_cut_and_what_it_has_is_told():
    tokenizer = CLIPTokenizer(VOCABULARY, MERGES)
    text = "cat " * 80
    ids = tokenizer.tokenize([text, "cat"])
    assert ids.dtype == np.int64 and ids.shape == (2, 77)
    assert ids[0].tolist() == [tokenizer.start, *[VOCABULARY["cat</w>"]] * 75, tokenizer.end]
    assert len(tokenizer.encode(text)) == 80


def test_a_folder_without_settings_has_those_of_clip(tmp_path):
    write(tmp_path / "bare", {})
    (tmp_path / "bare" / "tokenizer_config.json").unlink()
    found = CLIPTokenizer.load(tmp_path / "bare")
    assert (found.length, found.pad, found.end) == (77, VOCABULARY[END], VOCABULARY[END])


def test_a_mistake_is_an_error_of_one_line(tmp_path):
    with pytest.raises(UserError, match="no tokenizer; it holds"):
        CLIPTokenizer.load(tmp_path)
    for name, content in (("vocab.json", "{"), ("merges.txt", "one\n"), ("tokenizer_config.json", "[1]")):
        write(tmp_path / name, {})
        (tmp_path / name / name).write_text(content)
        with pytest.raises(UserError, match="the tokenizer is broken") as caught:
            CLIPTokenizer.load(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)
    write(tmp_path / "pad", {"pad_token": "[PAD]"})
    with pytest.raises(UserError, match=r"lacks '\[PAD\]'"):
        CLIPTokenizer.load(tmp_path / "pad")
    tokenizer = CLIPTokenizer(VOCABULARY, MERGES)
    with pytest.raises(UserError, match="must be a string, not 3"):
        tokenizer.tokenize([3])
    with pytest.raises(UserError, match=r"half a character is missing: 'a\\ud800'"):
        tokenizer.encode("a\ud800")
