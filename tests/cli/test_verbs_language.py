"""The command of language, as a person types it."""

import json
from dataclasses import replace
from functools import partial

import pytest

from inkwash.cli import main
from inkwash.errors import UserError
from inkwash.systems.language import verbs
from inkwash.systems.language.vocabulary import tokenize
from tests.systems.language.toy import SENTENCES


def write(capsys, *arguments):
    """Exit code, lines on standard output, standard error."""
    code = main(["write", *arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def folder(model):
    return ["--model", str(model.folder)]


def test_a_sentence_a_line_and_nothing_else(capsys, writer):
    model = folder(writer("masked"))
    capsys.readouterr()  # what training said
    how = ["--n", "20", "--seed", "3", "--steps", "40"]  # in few steps, two words at once may be of two sentences
    code, lines, err = write(capsys, *model, *how)
    assert code == 0 and err == "" and len(lines) == 20
    assert set(lines) <= set(SENTENCES) and len(set(lines)) > 1
    assert write(capsys, *folder(writer("masked")), *how)[1] == lines


def test_what_is_asked_is_kept_to(capsys, writer, read):
    code, lines, _ = write(
        capsys, *folder(read("continuous")), "--control", "mood=wild", "--length", "2", "--steps", "20"
    )
    assert code == 0 and lines == ["Run!"]
    code, lines, _ = write(capsys, *folder(writer("masked")), "--infill", "_ dog ran in _ park !")
    assert lines == ["A dog ran in the park!"]


def test_sentences_go_into_a_file_too(capsys, tmp_path):
    """As much as on the terminal; a folder has them under a name of their own."""
    asked = ["write", "--length", "6", "--n", "2", "--seed", "3"]
    assert main([*asked, "-o", str(tmp_path / "two.txt")]) == 0 and main([*asked, "-o", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert (tmp_path / "two.txt").read_text(encoding="utf-8").splitlines() == shown[:2] == shown[2:]
    assert (tmp_path / "sentences-3.txt").read_text(encoding="utf-8").splitlines() == shown[:2]
    assert main([*asked, "-o", str(tmp_path / "two.txt")]) == 2
    assert "two.txt: it is there already" in capsys.readouterr().err


def test_rows_of_a_table_go_into_files_and_over_none(capsys, tmp_path):
    (tmp_path / "rows.csv").write_text("length,n\n5,1\n6,2\n")
    command = ["write", "--csv", str(tmp_path / "rows.csv"), "--steps", "4", "-o", str(tmp_path / "out")]
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    kept = [(tmp_path / "out" / f"sentences-{seed}.txt").read_text().splitlines() for seed in (2, 3)]
    assert [len(lines) for lines in kept] == [1, 2] and [*kept[0], *kept[1]] == shown
    assert main(command) == 0
    assert "0 made, 2 there already, 0 broken" in capsys.readouterr().err
    (tmp_path / "out" / "sentences-2.txt").write_text("mine")
    assert main(command) == 2
    assert "line 2: " in (error := capsys.readouterr().err) and "sentences-2.txt: it is there already" in error
    assert (tmp_path / "out" / "sentences-2.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--guidance", "3"], "guidance means nothing without --source"),
        (["--fields", "--length", "9"], "length means nothing with --fields"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(arguments, says, capsys):
    assert main(["write", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["export", "emoji", "--device", "cuda"], "--device"),
        (["export", "emoji", "--out", "here"], "--out"),
        (["write", "--runtime", "onnx"], "--runtime"),
        (["forecast", "data.csv", "--precision", "bfloat16"], "--precision"),
        (["train", "language", "--runtime", "onnx"], "--runtime"),
        (["evaluate", "exchange", "--split", "test"], "--split"),
        (["write", "--size", "9"], "--size"),
    ],
)
def test_an_option_that_a_verb_does_not_have_is_refused(arguments, option, capsys):
    assert main(arguments) == 2
    assert f"No such option: {option}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ([], "e2e-masked"),
        (["--length", "9"], "e2e-masked"),
        (["--infill", "The _ is a pub."], "e2e-masked"),
        (["--start", "The Punter"], "e2e-masked"),
        (["--source", "name[The Punter], food[Italian]"], "e2e-masked"),
        (["--control", "food=Italian"], "e2e"),
        (["--pos", "DET NOUN"], "e2e"),
        (["--span", "1-2:NP"], "e2e"),
        (["--tree", "(NP _ _)"], "e2e"),
        (["--fields"], "e2e"),
        (["--length", "9", "--control", "food=Italian"], "e2e"),
        (["--model", "e2e"], "e2e"),
        (["--model", "e2e-masked", "--control", "food=Italian"], "e2e-masked"),
    ],
)
def test_the_masked_engine_writes_where_nothing_needs_a_reader(asked, model, monkeypatch, capsys):
    def load(name, *options, **more):
        raise UserError(f"loading {name}.")

    monkeypatch.setattr("inkwash.systems.language.model.Writer.load", load)
    assert f"/{model}." in write(capsys, *asked)[2]


def test_what_can_be_asked_is_listed(capsys, read):
    _, lines, _ = write(capsys, *folder(read("continuous")), "--fields")
    assert lines[0].startswith("length: 1 to 9 words") and "mood: calm, wild" in lines


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--control", "colour=red"], "unknown field 'colour': choose from: mood"),
        (["--control", "mood=wlid"], "did you mean wild"),
        (["--control", "mood=wild", "--control", "mood=calm"], "contradict"),
        (["--length", "0"], "length = 0: choose a whole number from 1"),
        (["--length", "99"], "length = 99: choose a whole number from 1 to 9"),
        (["--infill", "The dgo _"], "'dgo': did you mean dog"),
        (["--infill", "The dog"], "no _ in the text"),
        (["--pos", "DET NOUN"], "pos means nothing with the model"),
        (["--source", "name[The Punter]"], "source means nothing with the model"),
        (["--seed", "-1"], "seed = -1: choose a whole number from 0"),
        (["--n", "0"], "n = 0: choose a whole number from 1"),
        (["--steps", "0"], "steps = 0: choose a whole number from 1"),
    ],
)
@pytest.mark.parametrize("engine", ["continuous", "masked"])
def test_a_mistake_is_one_line(engine, arguments, says, capsys, read):
    model = folder(read(engine))
    capsys.readouterr()
    code, lines, err = write(capsys, *model, *arguments)
    assert code == 2 and lines == [] and says in err and err.count("\n") == 1


@pytest.mark.parametrize("model", ["emoji", "nothing-like-it"])
def test_a_model_of_something_else_is_refused(model, capsys):
    code, _, err = write(capsys, "--model", model)
    assert code == 2 and err.count("\n") == 1


def test_a_writer_draws_no_pictures(capsys, writer):
    assert main(["generate", "a fox", *folder(writer("masked")), "--seed", "1"]) == 2
    assert "is a model of language: inkwash write --model" in capsys.readouterr().err


def test_own_text_by_one_command(tmp_path, capsys):
    file = tmp_path / "my.txt"
    file.write_text("我喜欢这家店。\n这家店很便宜。\n" * 3, encoding="utf-8")
    out = tmp_path / "run"
    assert main(["train", "language", "--data", str(file), "--out", str(out), "--steps", "60"]) == 0
    config = json.loads((out / "model" / "system.json").read_text(encoding="utf-8"))
    assert set(config["words"]) == set("我喜欢这家店。很便宜")
    capsys.readouterr()
    code, lines, _ = write(capsys, "--model", str(out / "model"), "--n", "3", "--steps", "10", "--seed", "1")
    assert code == 0 and len(lines) == 3 and not any(" " in line for line in lines)


@pytest.fixture
def narrow(monkeypatch):
    """Models of one's own are half as wide and deep, and their classifiers learn for less long."""

    def narrower(data):
        recipe = verbs.default_recipe(data)
        return replace(recipe, width=64, layers=2, classifier_steps=min(recipe.classifier_steps, 1300))

    monkeypatch.setattr(verbs, "train", partial(verbs.train, default=narrower))


def test_own_pairs_by_one_command(narrow, tmp_path, capsys):
    file = tmp_path / "pairs.csv"
    pairs = {"one": "eins", "two": "zwei", "three": "drei"}
    file.write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in pairs.items()), encoding="utf-8")
    out = tmp_path / "run"
    assert main(["train", "--data", str(file), "--out", str(out), "--steps", "500", "language"]) == 0
    capsys.readouterr()
    for source, target in pairs.items():
        assert write(capsys, "--model", str(out / "model"), "--source", source, "--seed", "1", "--steps", "20")[
            1
        ] == [target]
    code, _, err = write(capsys, "--model", str(out / "model"))
    assert code == 2 and "--source" in err


@pytest.mark.slow
def test_fields_of_one_s_own_can_be_asked_after_one_command(narrow, tmp_path, capsys):
    file = tmp_path / "moods.csv"
    file.write_text("text,mood\nWe laugh.,glad\nI weep alone.,sad\nThey sing a song.,glad\nYou cry.,sad\n" * 10)
    out = tmp_path / "run"
    assert main(["train", "language", "--data", str(file), "--out", str(out), "--steps", "600"]) == 0
    capsys.readouterr()
    asked = ["--model", str(out / "model"), "--n", "20", "--seed", "1", "--control"]
    for mood, right in (("glad", {"We laugh.", "They sing a song."}), ("sad", {"I weep alone.", "You cry."})):
        _, lines, _ = write(capsys, *asked, f"mood={mood}")
        assert sum(line in right for line in lines) >= 14


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_training_file_is_said(content, tmp_path, capsys):
    (tmp_path / "my.txt").write_text(content)
    assert main(["train", "language", "--data", str(tmp_path / "my.txt"), "--out", str(tmp_path / "run")]) == 2
    assert "no sentence in it" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def meanings(tmp_path_factory):
    """Sixty sentences of the kind that the shipped model knows."""
    file = tmp_path_factory.mktemp("e2e") / "dev.csv"
    names, foods, areas = ["The Punter", "Cocum", "Aromi", "Strada"], ["Italian", "French", "Indian"], ["riverside"]
    rows = [
        f'"name[{name}], food[{food}], area[{area}]",{name} is a{extra} {food} restaurant in the {area} area.'
        for name in names
        for food in foods
        for area in areas
        for extra in ("", " cheap", " family friendly", " highly rated", " moderately priced")
    ]
    file.write_text("mr,ref\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["e2e", "e2e-masked"])
def test_the_whole_table_of_a_shipped_model(name, meanings):
    import inkwash
    from inkwash.systems.language.evaluate import OURS, best_of

    writer = inkwash.load(name)
    report = writer.evaluate(meanings, targets=2, samples=2, steps=6, mrs=2)
    found = {(row["metric"], row["source"], row.get("control"), row.get("part")): row for row in report.rows}
    human, shuffled = (value for key, value in found.items() if key[1].startswith("people"))
    assert human["value"] < 3 < shuffled["value"]
    kinds = ["none", "semantic", "length", "parts of speech", "tree", "span"]
    kinds += ["semantic + parts of speech", "semantic + tree", "semantic + length"]
    assert sorted(report.cpu_seconds) == sorted(kinds)
    length = found["success", OURS, "length", "length"]
    assert (length["low"], length["value"], length["high"], length["n"]) == (1.0, 1.0, 1.0, 4)
    assert found["success", "paper", "span", "span"]["value"] == 0.938
    page = report.markdown()
    assert all(f"| {OURS} | {kind} |" in page for kind in kinds) and page.count("MBR") == 2
    baseline = best_of(inkwash.load("e2e-evaluator"), writer, 4, pool=8)
    report = writer.evaluate(meanings, targets=2, samples=2, controls=["semantic", "length"], sample=baseline)
    (length,) = (row for row in report.rows if row.get("part") == "length" and row["source"] == OURS)
    assert length["value"] == 1.0 and not any("chosen" in row for row in report.rows)


def test_evaluate_says_what_it_needs(tmp_path, capsys):
    assert main(["evaluate", "e2e", "--data", str(tmp_path / "none.csv"), "-o", str(tmp_path)]) == 2
    assert "A table of sentences that the model has not seen" in capsys.readouterr().err
    (tmp_path / "few.csv").write_text("mr,ref\nname[Cocum],Cocum is a cheap pub.\n")
    # the options may come before the model
    assert main(["evaluate", "--json", "-o", str(tmp_path), "--data", str(tmp_path / "few.csv"), "e2e"]) == 2
    assert "are needed for 40 targets" in capsys.readouterr().err


def test_the_shipped_model_writes_what_the_page_promises(capsys):
    arguments = ["--control", "food=Italian", "--length", "12", "--n", "10", "--seed", "3"]
    code, lines, err = write(capsys, *arguments)
    assert code == 0 and err == "" and len(lines) == 10
    assert all(len(tokenize(line)) == 12 for line in lines)
    assert sum("Italian" in line for line in lines) >= 7
    _, lines, _ = write(capsys, "--infill", "The _ is a _ near the river.", "--seed", "1")
    assert len(lines) == 1 and lines[0].startswith("The ") and lines[0].endswith(" near the river.")
