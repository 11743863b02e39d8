"""Trainings of writers and classifiers: which sentences a batch has, what is held out, what a killed one leaves."""

import csv

import pytest
import torch

from inkwash.progress import Note, Progress
from inkwash.systems.language import engines, train, train_classifier
from inkwash.systems.language.data import Corpus, read_corpus, split_training
from inkwash.systems.language.model import Writer
from inkwash.systems.language.vocabulary import END, PAD, Vocabulary
from inkwash.training.settings import Settings
from tests.accelerator import counting
from tests.follower import Follower

ENGINES = [("continuous", True), ("continuous", False), ("masked", True), ("autoregressive", True)]
FIT = Settings(steps=4, batch_size=8, warmup=1, preview_every=2, checkpoint_minutes=0)
SMALL = {"length": 10, "min_count": 1, "width": 16, "layers": 1, "heads": 2}


@pytest.fixture
def data(tmp_path):
    """120 sentences, each with a source of its own, of one to four words: three of them are held out."""
    rows = "".join(f"{' '.join(['go'] * (1 + i % 4))} {i},we saw {i} of them\n" for i in range(120))
    (tmp_path / "pairs.csv").write_text(f"source,target\n{rows}")
    return tmp_path / "pairs.csv"


@pytest.fixture
def moods(tmp_path):
    rows = "".join(
        f"The cat number {i} sat {'still' if i % 2 else 'up'}.,{'calm' if i % 2 else 'wild'}\n" for i in range(80)
    )
    (tmp_path / "moods.csv").write_text(f"text,mood\n{rows}")
    return tmp_path / "moods.csv"


class Killed(Exception):
    """The process is gone."""


class Killer(Follower):
    """Kills a training at a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def tell(self, event):
        super().tell(event)
        if isinstance(event, Progress) and event.done == self.step:
            raise Killed


def recipe(data, fit=FIT, **how):
    return train.Recipe("language", data, fit, **(SMALL | how))


def held_out_rows(folder):
    return [
        (int(row["step"]), float(row["loss"]))
        for row in csv.DictReader((folder / "held_out.csv").read_text().splitlines())
    ]


@pytest.mark.parametrize("fixed", [False, True])
def test_a_batch_is_rows_and_its_sources_are_cut_to_the_longest_unless_shapes_are_fixed(fixed, data, monkeypatch):
    monkeypatch.setattr(train, "fixed_shapes", lambda _: fixed)
    training, held_out = split_training(read_corpus(data))
    assert len(held_out) == 3 and len(training) == 117
    vocabulary = Vocabulary.build(training.texts + training.sources)
    how = recipe(data, Settings(steps=4, batch_size=3))
    tables = train.encode(how, training + held_out, vocabulary)
    batch, others = train.loader(how, tables, len(training))
    lengths = set()
    for k in range(8):
        made = batch(k)
        rows = made["rows"].tolist()
        assert max(rows) < 117
        found = train.gather(tables, made)
        assert found["words"].tolist() == vocabulary.encode([training.texts[row] for row in rows], 10).tolist()
        assert ("source" in found) == (k % 2 == 0)
        if k % 2 == 0:
            sources = engines.encode_sources(vocabulary, [training.sources[row] for row in rows], how.source)
            width = sources["source"].shape[1]
            lengths.add(found["source"].shape[1])
            assert (found["source"][:, :width] == sources["source"]).all()
            assert (found["source_mask"][:, :width] == sources["source_mask"]).all()
            assert not found["source_mask"][:, width:].any()
            assert fixed or found["source"].shape[1] == width
    assert (len(lengths) == 1) is fixed
    assert [row for made in others for row in made["rows"].tolist()] == [117, 118, 119]
    words = torch.cat([train.gather(tables, made)["words"] for made in others])
    assert words.tolist() == vocabulary.encode(held_out.texts, 10).tolist()


@pytest.mark.parametrize(("engine", "improved"), ENGINES)
def test_padding_of_sources_changes_no_loss(engine, improved, data):
    how = recipe(data, engine=engine, improved=improved)
    torch.manual_seed(0)
    vocabulary = Vocabulary(["a", "b", "c"])
    network = train.new_network(how, vocabulary, sources=True).eval()
    words = torch.tensor([[4, 5, END, PAD], [6, 4, 5, END]])
    source = torch.tensor([[4, END, PAD, PAD, PAD], [6, 5, END, PAD, PAD]])
    for reach in (3, 5):
        batch = {"words": words, "source": source[:, :reach], "source_mask": source[:, :reach] != PAD}
        losses = [engines.loss(network)(batch, torch.Generator().manual_seed(k)) for k in range(3)]
        if reach == 3:
            expected = losses
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize(("engine", "improved"), ENGINES)
def test_a_killed_training_leaves_a_writer_and_its_held_out_losses(engine, improved, data, tmp_path):
    how = recipe(data, engine=engine, improved=improved)
    with pytest.raises(Killed):
        train.train(how, tmp_path / "run", Killer(2))
    writer = Writer.load(tmp_path / "run" / "model")
    assert len(writer.write(2, seed=1, steps=2)) == 2
    assert [step for step, _ in held_out_rows(tmp_path / "run")] == [1]
    train.train(how, tmp_path / "run", follower := Follower())
    assert [step for step, _ in held_out_rows(tmp_path / "run")] == [1, 2, 3, 4]
    assert sum("held-out loss" in note.text for note in follower.of(Note)) == 3


def test_a_corpus_too_small_to_hold_anything_out_is_learned(tmp_path):
    (tmp_path / "few.txt").write_text("a cat\na dog\n")
    train.train(recipe(tmp_path / "few.txt"), tmp_path / "run", Follower())
    assert not (tmp_path / "run" / "held_out.csv").exists() or not held_out_rows(tmp_path / "run")


def test_a_classifier_trains_where_its_writer_did(moods, tmp_path):
    fit = Settings(steps=2, batch_size=8, warmup=1, grad_accumulation=2, device="chip", seed=3)
    with counting() as counts:
        train.train(recipe(moods, fit, source=0, classifier_steps=3), tmp_path, follower := Follower())
    log = (tmp_path / "classifier" / "log.csv").read_text().splitlines()
    assert len(log) == 1 + 3
    assert counts.async_copies >= 2 * (2 + 3)  # the batches of both trainings
    accuracies = [note.text for note in follower.of(Note) if "held-out accuracy" in note.text]
    assert len(accuracies) == 1 and accuracies[0].endswith("%") and "mood" in accuracies[0]
    assert Writer.load(tmp_path / "model").classifier.fields == {"mood": ["", "calm", "wild"]}


def test_a_killed_training_leaves_a_classifier(moods, tmp_path):
    train.train(recipe(moods, engine="masked"), tmp_path / "writer", Follower())
    how = train_classifier.Recipe(
        "classifier", moods, tmp_path / "writer" / "model", FIT, grammar=False, width=16, layers=1, heads=2
    )
    with pytest.raises(Killed):
        train_classifier.train(how, tmp_path / "run", Killer(2))
    writer = Writer.load(tmp_path / "run" / "model")
    assert writer.classifier.fields == {"mood": ["", "calm", "wild"]}
    assert writer.write(1, seed=1, steps=2)
    assert [step for step, _ in held_out_rows(tmp_path / "run")] == [1]


def test_labels_of_a_batch_are_those_of_each_span():
    texts = ["the cat sat on the mat", "run", "a dog ran", "two birds sing by the river now"]
    parses = [
        train_classifier.grammar.Parse(["DET", "NOUN"], [(0, 1, "NP"), (0, 5, "S"), (3, 5, "PP")]),
        train_classifier.grammar.Parse(["VERB"], []),
        train_classifier.grammar.Parse(["DET", "NOUN", "VERB"], [(0, 1, "NP"), (0, 2, "S")]),
        train_classifier.grammar.Parse(["NUM"] * 7, [(0, 1, "NP"), (3, 6, "PP")]),  # the second is cut off
    ]
    vocabulary, fields = Vocabulary.build(texts), torch.arange(4)[:, None]
    tables = train_classifier.label_data(texts, fields, vocabulary, 6, parses)
    rows = torch.tensor([2, 0, 3, 1, 2])
    batch = train_classifier.gather(tables, rows)
    for i, row in enumerate(rows.tolist()):
        expected = torch.full((6, 6), -1).tril()
        for first, last, label in parses[row].spans:
            if last < min(len(parses[row].tags), 5):
                expected[first, last] = 1 + train_classifier.grammar.LABELS.index(label)
        assert batch["labels"][i].tolist() == expected.tolist()
    assert batch["fields"].tolist() == [[row] for row in rows.tolist()]
    assert (batch["labels"] > 0).sum() == 1 + 1 + 2 + 2  # of the rows 2, 0, 3 and 2 again
    assert "spans" not in batch


def test_what_is_held_out_changes_no_label_of_what_is_learned():
    """A value counts as mentioned where most sentences that are learned from mention it."""
    texts = ["a calm cat", "calm dogs", "a wild cat"] + ["nobody says so"] * 9
    fields = [{"mood": "calm"}] * 2 + [{"mood": "wild"}] + [{"mood": "calm"}] * 9
    training, held_out = Corpus(texts[:3], [""] * 3, fields[:3]), Corpus(texts[3:], [""] * 9, fields[3:])
    labels = [train_classifier.field_labels(part, {"mood": ["", "calm", "wild"]}) for part in (training, held_out)]
    assert labels[0].tolist() == [[1], [1], [2]] and (labels[1] == 1).all()
