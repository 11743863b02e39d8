"""Writers of a language of four sentences: they write these and no others, and those that are asked for."""

import numpy as np
import pytest
import torch

import inkwash
from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.language import baselines
from inkwash.systems.language.controls import Constraints, parse_constraints
from inkwash.systems.language.metrics import mbr
from inkwash.systems.language.model import Writer, reweighted
from inkwash.systems.language.vocabulary import END, PAD, detokenize
from tests.systems.language.toy import SENTENCES

ENGINES = ["continuous", "masked", "autoregressive"]


@pytest.mark.parametrize("engine", ENGINES)
def test_it_writes_what_it_has_learned_and_all_of_it(engine, writer):
    made = writer(engine).write(60, seed=1, steps=None if engine == "autoregressive" else 40)
    right = [text in SENTENCES for text in made]
    assert np.mean(right) > 0.9 and len(set(made) & set(SENTENCES)) == 4


def test_the_loss_of_the_paper_learns_too(writer):
    made = writer("continuous", improved=False).write(60, seed=1, steps=100)
    assert np.mean([text in SENTENCES for text in made]) > 0.5


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sentence_of_a_seed_is_the_same_alone_and_among_others(engine, writer):
    model, how = writer(engine), {"steps": 10 if engine == "continuous" else None}
    together = model.write(70, seed=5, **how)
    assert [model.write(1, seed=5 + i, **how)[0] for i in (0, 3, 69)] == [together[i] for i in (0, 3, 69)]


def test_a_seed_is_any_of_64_bits(writer):
    model = writer("autoregressive")
    assert model.write(2, seed=2**64 - 1) == model.write(1, seed=2**64 - 1) + model.write(1, seed=0)


@pytest.mark.parametrize("engine", ["continuous", "masked"])
@pytest.mark.parametrize(
    ("asked", "right"),
    [
        (parse_constraints(infill="_ dog _ in the _ !"), "A dog ran in the park!"),
        (parse_constraints(infill="_ _ birds _ _ _ _ ."), "Two old birds sing by the river."),
        (parse_constraints(start="The cat"), "The cat sat on the mat."),
        (parse_constraints(length=8), "Two old birds sing by the river."),
        (parse_constraints(length=2), "Run!"),
    ],
)
def test_known_words_and_lengths_leave_one_sentence(engine, asked, right, writer):
    made = writer(engine).write(20, asked, seed=2, steps=40 if engine == "continuous" else None)
    assert np.mean([text == right for text in made]) > 0.8
    rows = writer(engine).sample([asked] * 20, range(20), steps=5)
    for words in writer(engine).vocabulary.decode(rows):  # what is given is given, however few the steps
        assert asked.length in (None, len(words))
        assert all(word in (None, own) for word, own in zip(asked.words, words, strict=False))


@pytest.mark.parametrize("engine", ["continuous", "masked"])
@pytest.mark.parametrize("mood", ["calm", "wild"])
def test_a_reader_leads_to_the_field(engine, mood, read):
    made = read(engine).write(
        60, parse_constraints([f"mood={mood}"]), seed=3, steps=40 if engine == "continuous" else None
    )
    assert np.mean([SENTENCES.get(text) == mood for text in made]) > 0.75  # half of them without a classifier


GRAMMAR = {
    "pos": Constraints(tags=("DET", "NOUN", "VERB", "ADP", "DET", "NOUN", "PUNCT"), length=7),
    "span": Constraints(spans=((4, 6, "PP"),)),
}


@pytest.mark.parametrize("engine", ["continuous", "masked"])
def test_a_reader_of_grammar_leads_to_tags_and_constituents(engine, read):
    model, steps = read(engine, grammar=True), 40 if engine == "continuous" else None
    made = model.write(20, GRAMMAR["pos"], seed=1, steps=steps)
    assert np.mean([text in ("The cat sat on the mat.", "A dog ran in the park!") for text in made]) > 0.7
    made = model.write(60, GRAMMAR["span"], seed=1, steps=steps)  # of the four sentences one has it
    assert np.mean([text == "Two old birds sing by the river." for text in made]) > 0.5
    both = Constraints({"mood": "wild"}, GRAMMAR["pos"].tags, length=7)
    made = model.write(60, both, seed=1, steps=steps)  # two have these tags
    assert np.mean([text == "A dog ran in the park!" for text in made]) > (0.8 if engine == "continuous" else 0.6)


def test_opened_words_are_drawn_by_how_likely_they_are_and_what_a_reader_says():
    """p(w) p(y | w)^scale among the likeliest two, for each sentence by its own wish; the rest stays masked."""
    n, mask = 8000, 3
    logits, says = torch.tensor([0.0, 1.0, 2.0, -torch.inf]), torch.tensor([9.0, 1.0, -1.0, 0.0])
    sign = torch.tensor([1.0, -1.0]).repeat(n // 2)

    def score(vectors, t, rows):
        return sign[rows] * (vectors @ says).sum(1)

    x = torch.full((n, 2), mask)
    opened = torch.stack([x[:, 0], 0 * x[:, 1]], 1)
    process = diffusion.Categorical.masked(diffusion.rectified_flow(), mask)
    step = diffusion.StepResult(
        opened, process.at(1.0), process.at(0.5), diffusion.Prediction(logits.expand(n, 2, 4))
    )
    drawn = reweighted(x, torch.eye(4), score, 0.5, 2)(step, diffusion.Noise(range(n), (2,), device="cpu"))
    assert (drawn[:, 0] == mask).all()
    for i in (0, 1):
        law = (logits + 0.5 * sign[i] * says)[1:3].softmax(0)
        found = torch.bincount(drawn[i::2, 1], minlength=4) / (n // 2)
        np.testing.assert_allclose(found, [0, *law, 0], atol=4 * 0.5 / (n // 2) ** 0.5)


def test_a_part_of_speech_that_no_word_has_is_said(read):
    with pytest.raises(UserError, match="no word that is INTJ"):
        read("continuous", grammar=True).write(1, Constraints(tags=("INTJ",), length=1))


def test_what_is_saved_writes_the_same(tmp_path, read):
    model = read("continuous")
    model.save(tmp_path)
    again = inkwash.load(tmp_path)
    asked = parse_constraints(["mood=wild"])
    assert again.write(5, asked, seed=1, steps=10) == model.write(5, asked, seed=1, steps=10)


def test_the_least_risk_is_the_sentence_that_most_agree_with(writer):
    assert mbr([text.split() for text in ["a b c d e", "x y", "a b c d f", "a b c d e"]]) in (0, 3)
    made = writer("autoregressive").write(5, seed=1, candidates=8)
    assert set(made) <= set(SENTENCES)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"constraints": parse_constraints(["colour=red"])}, "unknown field 'colour'"),
        ({"constraints": parse_constraints(["mood=mild"])}, "unknown value of mood 'mild': did you mean wild"),
        ({"constraints": parse_constraints(tags="DET NOUN")}, "was not taught grammar"),
        ({"constraints": parse_constraints(length=10)}, "at most 9"),
        ({"constraints": parse_constraints(start="The cta")}, "'cta': did you mean cat"),
        ({"source": "anything"}, "not taught to read a source"),
        ({"n": 0}, "at least 1"),
        ({"seed": -1}, r"seed -1: a whole number from 0 to 2\^64 - 1 is needed"),
        ({"seed": 2**64}, r"seed 18446744073709551616: a whole number from 0 to 2\^64 - 1"),
    ],
)
def test_what_cannot_be_written_is_said(asked, says, read):
    with pytest.raises(UserError, match=says):
        read("continuous").write(**asked)


def test_a_model_without_a_reader_says_so(writer):
    with pytest.raises(UserError, match="has no classifier"):
        writer("continuous").write(1, parse_constraints(["mood=wild"]))


@pytest.mark.parametrize(
    ("broken", "content", "says"),
    [
        ("system.json", "{}", "a model of 'None', not of language"),
        ("system.json", '{"system": "language"}', "system.json is broken"),
        ("classifier.json", "{}", "classifier.json: broken"),
        ("model.safetensors", "", "model.safetensors: not a whole"),
    ],
)
def test_a_broken_folder_is_named(broken, content, says, tmp_path, read):
    read("masked").save(tmp_path)
    (tmp_path / broken).write_text(content)
    with pytest.raises(UserError, match=says):
        Writer.load(tmp_path)


def test_nll_is_the_sum_over_words_and_the_end(writer):
    model = writer("autoregressive")
    rows = torch.from_numpy(model.vocabulary.encode(["Run!", "The cat sat on the mat."], model.length))
    totals, counts = baselines.nll(model.network, rows)
    with torch.no_grad():
        logits = model.network(rows).log_softmax(-1)
    for row, total, count in zip(rows, totals, counts, strict=True):
        size = int((row == END).nonzero()) + 1
        by_hand = sum(-float(logits[rows.tolist().index(row.tolist()), i, row[i]]) for i in range(size))
        assert count == size and total == pytest.approx(by_hand, rel=1e-5)
    assert (rows[0, 3:] == PAD).all()


def test_rival_draws_follow_the_network_s_own_law(writer):
    model = writer("autoregressive")
    allowed = torch.ones(2000, model.length, len(model.vocabulary), dtype=torch.bool)
    rows = baselines.sample(model.network, range(2000), allowed)
    first = torch.bincount(rows[:, 0], minlength=len(model.vocabulary)) / 2000
    with torch.no_grad():
        law = model.network(rows[:1, :0])[0, 0].softmax(-1)
    np.testing.assert_allclose(first, law, atol=4 * 0.5 / 2000**0.5)


def test_all_marks_are_kept_out_of_sentences(writer):
    texts = [
        detokenize(words)
        for words in writer("continuous").vocabulary.decode(
            writer("continuous").sample([Constraints()] * 30, range(30), steps=5)
        )
    ]
    assert not any("[" in text for text in texts) and all(texts)
