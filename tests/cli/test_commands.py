import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import inkwash
from inkwash.cli import commands, main
from inkwash.cli.context import move_all, unused_paths
from inkwash.codecs.png import read_recipe, write_png
from inkwash.errors import UserError
from inkwash.systems.pictures import emoji_data
from inkwash.systems.pictures.model import SAMPLERS
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.weights import graph
from tests.models import tiny, wordless


def test_help_and_mistakes_load_no_torch():
    code = """
import sys
from inkwash.cli import main
assert main(["--help"]) == 0 and main([]) == 0
assert main(["generate", "x", "--model", "nope"]) == 2 and main(["models"]) == 0
assert "torch" not in sys.modules
import inkwash, inkwash.diffusion
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("inkwash train emoji-", {"emoji-fast"}),
        ("inkwash evaluate e2e-m", {"e2e-masked"}),
        ("inkwash generate --model emoji-", {"emoji-fast"}),
        ("inkwash generate --sampler dpmpp_2m", {"dpmpp_2m", "dpmpp_2m_sde"}),
        ("inkwash forecast --mode f", {"faithful"}),
        ("inkwash generate --see", {"--seed"}),
    ],
)
def test_a_shell_completes_values_and_options(words, found):
    shell = {"_INKWASH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "from inkwash.cli import main; main([])"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'inkwash'; {code}"],
        env=os.environ | shell, capture_output=True, text=True,
    )  # fmt: skip
    assert set(run.stdout.split()) == found


def test_version_by_option_and_as_a_module(capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"inkwash {inkwash.__version__}\n"
    shown = subprocess.run([sys.executable, "-m", "inkwash", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"inkwash {inkwash.__version__}\n"


def test_one_picture_and_again(tiny_folder, tmp_path, capsys):
    assert (
        main(
            [
                "generate",
                "a red fox",
                "--style",
                "flat",
                "--seed",
                "7",
                "--model",
                str(tiny_folder),
                "-o",
                str(tmp_path),
            ]
        )
        == 0
    )
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(tmp_path / "a-red-fox-flat-7.png")]
    assert shown.err == ""  # no progress bar in a pipe
    assert main(["again", str(tmp_path / "a-red-fox-flat-7.png"), "--inputs", str(tiny_folder.parent)]) == 0
    assert "the same pixels" in capsys.readouterr().out.splitlines()
    one, other = (np.asarray(Image.open(p)) for p in sorted(tmp_path.glob("*.png")))
    np.testing.assert_array_equal(one, other)


def test_several_pictures_with_a_grid_and_nothing_overwritten(tiny_folder, tmp_path, capsys):
    command = ["generate", "fox", "--n", "3", "--seed", "1", "--model", str(tiny_folder), "-o", str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr().out.splitlines()
    assert [os.path.basename(p) for p in first] == ["fox-1.png", "fox-2.png", "fox-3.png", "fox-grid.png"]
    with Image.open(first[-1]) as grid:
        assert grid.size == (36, 36)
    before = {p: Path(p).read_bytes() for p in first}
    assert main(command) == 0
    assert os.path.basename(capsys.readouterr().out.split()[0]) == "fox-1-2.png"
    assert {p: Path(p).read_bytes() for p in first} == before
    assert main(["again", first[-1]]) == 2 and "a grid" in capsys.readouterr().err


def test_one_file_by_name_and_timings(tiny_folder, tmp_path, capsys):
    out = tmp_path / "deep" / "fox.png"
    assert main(["generate", "fox", "--model", str(tiny_folder), "-o", str(out), "--timings"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(out)] and out.exists()
    assert re.findall(r"^(\w+) ", shown.err, re.M) == ["import", "load", "run", "all", "memory"]


def test_again_over_the_file_itself_compares_before_it_writes(tiny_folder, tmp_path, capsys):
    file = tmp_path / "fox.png"
    main(["generate", "fox", "--model", str(tiny_folder), "-o", str(file)])
    recipe = read_recipe(file)
    write_png(Image.new("RGB", (16, 16)), file, recipe)
    for words in ("not the same pixels", "the same pixels"):
        assert main(["again", str(file), "--inputs", str(tiny_folder.parent), "-o", str(file)]) == 0
        assert capsys.readouterr().out.splitlines()[-1].partition(":")[0] == words


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "7"}, {"model": None}, {"threads": []}, {"threads": "two"}, {"n": 2}, {"n": 2, "to": "a cat"},
        {"verb": "export"}, {"verb": "evaluate"}, {"system": "series", "verb": "forecast"}, {"system": []},
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_followed_is_refused(change, tiny_folder, tmp_path, capsys):
    before = sorted(tiny_folder.rglob("*"))
    file = tmp_path / "fox.png"
    main(["generate", "fox", "--model", str(tiny_folder), "-o", str(file)])
    write_png(Image.open(file), file, read_recipe(file) | change)
    assert main(["again", str(file), "--inputs", str(tiny_folder.parent)]) == 2
    assert "can follow" in capsys.readouterr().err
    assert sorted(tiny_folder.rglob("*")) == before and [path.name for path in tmp_path.iterdir()] == ["fox.png"]


def test_again_looks_in_no_folder_that_is_not_there_and_steers_no_terminal(tiny_folder, tmp_path, capsys):
    file = tmp_path / "fox.png"
    main(["generate", "fox", "--model", str(tiny_folder), "-o", str(file)])
    assert main(["again", str(file), "--inputs", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"inkwash: --inputs {tmp_path / 'nowhere'}: no such folder\n"
    write_png(Image.open(file), file, read_recipe(file) | {"model": "\x1b[2Jmine\x9b31m\x07"})
    assert main(["again", str(file)]) == 2
    assert "made by the model ?[2Jmine?31m?, which is not here" in capsys.readouterr().err


def test_a_recipe_without_a_hash_is_refused(tiny_folder, tmp_path, capsys):
    file = tmp_path / "fox.png"
    main(["generate", "fox", "--model", str(tiny_folder), "-o", str(file)])
    recipe = read_recipe(file)
    del recipe["hash"]
    write_png(Image.open(file), file, recipe)
    assert main(["again", str(file), "--inputs", str(tiny_folder.parent)]) == 2
    assert "can follow" in capsys.readouterr().err


def test_a_long_prompt_has_a_short_name(tiny_folder, tmp_path, capsys):
    assert main(["generate", "狐" * 200, "--seed", "1", "--model", str(tiny_folder), "-o", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["狐" * 60 + "-1.png"]


def test_the_help_names_the_samplers(capsys):
    assert main(["generate", "--help"]) == 0
    words = set(re.findall(r"\w+", capsys.readouterr().out))
    assert set(SAMPLERS) <= words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["genrate", "x"], "Did you mean 'generate'"),
        (["generate"], "the prompt is empty"),
        (["generate", "x", "--modle", "y"], "--model"),
        (["generate", "  "], "the prompt is empty"),
        (["generate", "\u200b\u200e"], "the prompt is empty"),
        (["generate", "a fox", "--to", "\u200b"], "to: the second prompt is empty"),
        (["generate", "a fox", "--negative", "a\0b"], "negative has the sign U+0000"),
        (["generate", "x", "--grid", "karas", "--model", "TINY"], "unknown grid 'karas': did you mean karras"),
        (["generate", "x", "--grid", "karras", "--sampler", "tuned"], "grid means nothing with the sampler tuned"),
        (["generate", "x", "--strength", "0.5", "--to", "y"], "strength means nothing without an image"),
        (["generate", "x", "--style", "flta", "--model", "TINY"], "unknown style 'flta': did you mean flat?"),
        (["generate", "x", "--sampler", "ddmi", "--model", "TINY"], "unknown sampler 'ddmi': did you mean"),
        (["generate", "x", "--steps", "0", "--model", "TINY"], "steps = 0"),
        (["generate", "x", "--size", "1000000", "--model", "TINY"], "size = 1000000"),
        (["generate", "x", "--n", "two"], "valid integer"),
        (["generate", "x", "--n", "2", "-o", "a.png"], "is one file"),
        (["generate", "x", "-o", "a.jpg"], "give a .png file or a folder"),
        (["generate", "x", "--model", "emojii"], "unknown model 'emojii'"),
        (["generate", "x", "--device", "gpu", "--model", "TINY"], "unknown device 'gpu'"),
        (["generate", "x", "-o", "/proc/nowhere", "--model", "TINY"], "cannot make the folder /proc/nowhere"),
        (["again", "nothing.png"], "nothing.png: no such file"),
        (["train", "emojo"], "unknown recipe 'emojo'"),
        (["train", "pictures"], "neither a recipe nor data of your own"),
        (["train", "pictures", "--data", "nowhere"], "nowhere: no such file or folder"),
        (["series", "train", "exchange", "--data", "nowhere"], "nowhere: no such file"),
        (["segment", "train", "nuclei", "--data", "nowhere"], "nowhere: no such file"),
        (["train", "pictures", "--data", ".", "--out", "/proc/nowhere"], "cannot make the folder /proc/nowhere"),
        (["evaluate", "--model", "x"], "--model"),
        (["evaluate", "--per-row", "-5"], "per_row = -5: choose a whole number from 6"),
        (["evaluate", "WORDLESS"], "without words"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, words, tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "WORDLESS" in arguments:
        wordless(tmp_path / "WORDLESS")
    assert main([str(tiny_folder) if a == "TINY" else a for a in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and words in shown.err
    assert not list(tmp_path.rglob("*.png"))


def test_recipe_mistakes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "r.toml"
    for text, words in (
        ("task = 'picturs'", "unknown task 'picturs': did you mean pictures"),
        (
            "task = 'pictures'\ndata = 'd'\nnetwork = {}\n[fit]\nsteps = 1\nlearning_rat = 1.0",
            "did you mean learning_rate?",
        ),
        ("task = ", "not valid TOML"),
    ):
        recipe.write_text(text)
        assert main(["train", str(recipe)]) == 2
        assert words in capsys.readouterr().err


def doctor(capsys):
    """The lines of the table, by their first column."""
    assert main(["doctor"]) == 0
    rows = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    return {name.strip(): [column.strip() for column in columns] for name, *columns in rows}


def test_doctor_says_what_decides_the_speed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    rows = doctor(capsys)
    assert rows["onnxruntime"][0] == onnxruntime.__version__
    assert "CPU" in rows["onnxruntime's providers"][0].split(", ")
    assert rows["runtime"][0] == "onnx" and rows["threads"][0] == "3"
    assert rows["torch's threads"][0] == str(torch.get_num_threads())
    cores, *features = rows["processor"][0].split(", ")
    assert cores == f"{os.cpu_count()} cores"
    capability = torch.backends.cpu.get_cpu_capability()
    assert ("AVX2" in features) >= (capability == "AVX2") and ("AVX512F" in features) >= (capability == "AVX512")
    find = commands.util.find_spec
    for module in (commands.util, graph):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    rows = doctor(capsys)
    assert rows["onnxruntime"][0] == "missing" and "pip install" in rows["onnxruntime"][2]
    assert rows["without onnxruntime"][0] == "torch draws" and rows["runtime"][0] == "torch"


def test_models_are_listed(capsys):
    assert main(["models"]) == 0
    assert "emoji-fast" in capsys.readouterr().out


def test_a_broken_model_hides_no_other(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    card = {"system": "series", "horizon": 3, "names": 5, "mode": "improved"}
    for name, facts in (("m[bold]x", card), ("n:fox:y", card | {"names": ["tea"]})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "system.json").write_text(json.dumps(facts))
    (tmp_path / "n:fox:y" / "card.md").write_bytes(b"\xff")
    assert main(["models", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "m[bold]x" in shown and "n:fox:y" in shown
    assert "cannot be read" in shown and "the next 3 steps of 1 series" in shown
    (tmp_path / "table.csv").write_text("day,tea\n2024-01-01,1\n2024-01-02,2\n")
    assert main(["forecast", str(tmp_path / "table.csv"), "--model", str(tmp_path / "m[bold]x")]) == 2
    assert "its system.json is broken" in capsys.readouterr().err


def test_tune_then_generate_in_few_steps(tmp_path, monkeypatch, capsys):
    """Tables are learned beside the weights, used, made anew by `again`, and refused where they do not fit."""
    folder = tmp_path / "tiny"
    tiny().save(folder)
    names = np.array([f"thing {i}" for i in range(30)])
    split = np.where(np.arange(30) < 12, "validation", "train")
    seen = SimpleNamespace(name=names, style=np.array(["flat", "noto"] * 15), split=split)
    monkeypatch.setattr(emoji_data, "load", lambda data: seen)
    draw = [
        "generate",
        "a fox",
        "--model",
        str(folder),
        "--sampler",
        "tuned",
        "--seed",
        "3",
        "-o",
        str(tmp_path / "out"),
    ]

    assert main([*draw, "--steps", "4"]) == 2
    assert f"make one: inkwash tune {folder} --steps 4" in capsys.readouterr().err
    assert main(["tune", str(folder), "--steps", "3", "--steps", "4", "--samples", "8"]) == 0
    *_, three, plain, tuned, file = capsys.readouterr().out.splitlines()
    assert three.startswith("| 3 | tuned | 4 |") and file == str(folder / "tables.json")
    before, after = (float(line.split("|")[-2]) for line in (plain, tuned))
    assert "the best untuned" in plain and after < before

    assert main([*draw, "--steps", "4"]) == 0
    picture = capsys.readouterr().out.strip()
    assert main(["again", picture, "--inputs", str(tmp_path)]) == 0
    assert "the same pixels" in capsys.readouterr().out
    # nearer to the model's own picture in 100 steps than the same number of untuned steps are
    model = Pipeline.load(folder)
    ask = [["thing 1", "thing 5"], ["flat", "noto"], [3, 4]]
    own, tuned, plain = (
        model.sample(*ask, sampler=name, steps=steps).astype(float)
        for name, steps in (("dpmpp_2m", 100), ("tuned", 4), ("euler", 4))
    )
    assert ((tuned - own) ** 2).mean() < ((plain - own) ** 2).mean()

    assert main([*draw, "--steps", "5"]) == 2
    assert "there are tables for 3, 4 steps" in capsys.readouterr().err
    for parameter in model.unet.parameters():
        parameter.data *= 1.5
    model.save(folder)
    assert main([*draw, "--steps", "4"]) == 2 and "learned for other weights" in capsys.readouterr().err
    assert main(["tune", str(folder), "--steps", "1"]) == 2 and "from 2 to 50" in capsys.readouterr().err
    assert main(["tune", "nope"]) == 2 and "unknown model" in capsys.readouterr().err


def test_tune_without_data_says_how_to_get_them(tiny_folder, tmp_path, capsys):
    assert main(["tune", str(tiny_folder), "--data", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "inkwash data emoji" in error and error.count("\n") == 1


def test_nothing_that_is_not_ours_is_replaced(tiny_folder, tmp_path, monkeypatch, capsys):
    """Not by `again`, a row of a table, a report, or a training."""
    monkeypatch.chdir(tmp_path)
    model = ["--model", str(tiny_folder)]
    assert main(["generate", "a fox", *model, "--seed", "7", "-o", "fox.png"]) == 0
    for name in ("fox-again.png", "cat.png", "report.json", "nearest.png", "vae/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert (
        main(["again", "fox.png", "--inputs", str(tiny_folder.parent)]) == 0
        and (tmp_path / "fox-again-2.png").exists()
    )
    (tmp_path / "rows.csv").write_text("prompt,name\na cat,cat\na dog,dog\n")
    capsys.readouterr()
    assert main(["generate", "--csv", "rows.csv", *model]) == 2 and (tmp_path / "dog.png").exists()
    assert "rows.csv, line 2: cat.png: it is there already; move it away" in capsys.readouterr().err
    assert main(["evaluate", str(tiny_folder), "-o", "."]) == 2
    assert "report.json: this file is not inkwash's" in capsys.readouterr().err
    (tmp_path / "report.json").unlink()
    assert main(["evaluate", str(tiny_folder), "-o", "."]) == 2
    assert "nearest.png: this file would be lost" in capsys.readouterr().err
    assert main(["train", "autoencoder", "--data", ".", "--out", "."]) == 2
    assert "vae: it is there, and no training here made it" in capsys.readouterr().err
    for name in ("fox-again.png", "cat.png", "nearest.png", "vae/config.json"):
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("out", [["--out", "run"], ["--out", "."], []])
def test_a_run_within_its_own_data_is_refused(out, tmp_path, monkeypatch, capsys):
    """Its previews would be learned from, and its data be others at the next start."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "pictures", "--data", str(tmp_path), *out]) == 2
    assert f"lies in {tmp_path}, and would become a part of these data" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_named_file_is_not_replaced(tiny_folder, tmp_path, capsys):
    mine = tmp_path / "mine.png"
    mine.write_text("mine")
    assert main(["generate", "fox", "--seed", "1", "--model", str(tiny_folder), "-o", str(tmp_path)]) == 0
    assert main(["generate", "fox", "--model", str(tiny_folder), "-o", str(mine)]) == 2
    assert main(["again", str(tmp_path / "fox-1.png"), "-o", str(mine)]) == 2
    assert capsys.readouterr().err.count("mine.png: it is there already") == 2 and mine.read_text() == "mine"
    assert main(["again", str(tmp_path / "fox-1.png"), "-o", str(tmp_path / "fox.jpg")]) == 2
    assert "give a .png file" in capsys.readouterr().err and not (tmp_path / "fox.jpg").exists()


def test_a_link_to_nowhere_is_not_replaced(tiny_folder, tmp_path, capsys):
    for name in ("mine.png", "results.jsonl"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    model = ["--model", str(tiny_folder)]
    assert main(["generate", "fox", *model, "-o", str(tmp_path / "mine.png")]) == 2
    (tmp_path / "rows.csv").write_text("prompt,name\nfox,mine\n")
    assert main(["generate", "--csv", str(tmp_path / "rows.csv"), *model, "-o", str(tmp_path)]) == 2
    assert "results.jsonl: this file is not inkwash's" in capsys.readouterr().err
    (tmp_path / "results.jsonl").unlink()
    assert main(["generate", "--csv", str(tmp_path / "rows.csv"), *model, "-o", str(tmp_path)]) == 2
    assert "mine.png: it is there already" in capsys.readouterr().err
    assert (tmp_path / "mine.png").is_symlink() and not (tmp_path / "nowhere").exists()


def test_what_comes_while_it_is_drawn_is_not_overwritten(tiny_folder, tmp_path, monkeypatch, capsys):
    mine, generate = tmp_path / "mine.png", Pipeline.generate

    def meanwhile(*given, **options):
        mine.write_text("mine")
        return generate(*given, **options)

    monkeypatch.setattr(Pipeline, "generate", meanwhile)
    assert main(["generate", "fox", "--model", str(tiny_folder), "-o", str(mine)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mine-2.png'}\n" and mine.read_text() == "mine"


def test_a_full_disk_leaves_no_empty_file(tiny_folder, tmp_path, monkeypatch, capsys):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("inkwash.cli.context.shutil.move", full)
    for out in (tmp_path / "out", tmp_path / "out" / "fox.png"):
        assert main(["generate", "fox", "--model", str(tiny_folder), "-o", str(out)]) == 2
        assert "No space left on device" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["/proc/nowhere", "x.jpg", "x.tar.gz", "x.gz", "there.png", "rows.csv/deep"])
def test_a_plan_refuses_what_the_work_would_refuse(out, tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_text("mine")
    (tmp_path / "rows.csv").write_text("prompt\nfox\n")
    errors = []
    for command in (["generate", "fox"], ["generate", "--csv", "rows.csv"]):
        for more in ([], ["--plan"]):
            assert main([*command, "--model", str(tiny_folder), "-o", out, *more]) == 2
            errors.append(capsys.readouterr().err)
    assert errors[0] == errors[1] and errors[2] == errors[3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "there.png"]


def test_the_results_of_another_program_are_left_alone(tiny_folder, tmp_path, capsys):
    (tmp_path / "results.jsonl").write_text('{"tool":"inkwash"}\n["inkwash"]\n')
    (tmp_path / "rows.csv").write_text("prompt,name\nfox,fox\n")
    command = ["generate", "--csv", str(tmp_path / "rows.csv"), "--model", str(tiny_folder), "-o", str(tmp_path)]
    assert [main(command), main(command)] == [0, 0]
    assert "0 made, 1 there already, 0 broken" in capsys.readouterr().err
    assert (tmp_path / "results.jsonl").read_text().startswith('{"tool":"inkwash"}\n["inkwash"]\n{')


def test_the_name_of_a_verb_is_a_prompt_too(tiny_folder, tmp_path):
    assert main(["generate", "train", "--seed", "1", "--model", str(tiny_folder), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "train-1.png").exists()


def test_two_processes_never_take_one_name(tmp_path):
    assert [unused_paths([tmp_path / "a.png"], [False])[0].name for _ in range(3)] == ["a.png", "a-2.png", "a-3.png"]


def test_the_files_of_a_result_have_one_number(tmp_path):
    def made(*names):
        (tmp_path / "made").mkdir(exist_ok=True)
        for name in names:
            (tmp_path / "made" / name).write_text(name)
        return [tmp_path / "made" / name for name in names], [tmp_path / "out" / name for name in names]

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.txt").write_text("theirs")
    (tmp_path / "out" / "a-2.txt").write_text("theirs")
    assert [path.name for path in move_all(*made("a.txt", "b.txt"))] == ["a-3.txt", "b-3.txt"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.txt", "a-3.txt", "b-3.txt", "b.txt"]
    assert (tmp_path / "out" / "b.txt").read_text() == "theirs" and (
        tmp_path / "out" / "b-3.txt"
    ).read_text() == "b.txt"


def test_a_folder_that_files_lead_to_is_written_where_none_is_or_not_at_all(tmp_path):
    (tmp_path / "out").mkdir()
    for there in (False, True):
        (tmp_path / "labels").mkdir()
        (tmp_path / "data.yaml").write_text("train: images")
        sources = [tmp_path / "labels", tmp_path / "data.yaml"]
        targets = [tmp_path / "out" / "labels", tmp_path / "out" / "data.yaml"]
        if there:
            with pytest.raises(UserError, match="labels is there already; choose another folder with --out"):
                move_all(sources, targets)
        else:
            assert move_all(sources, targets) == targets
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data.yaml", "labels"]


def test_a_film_refuses_what_it_does_not_take(tiny_folder, tmp_path, capsys):
    film = ["generate", "a fox", "--to", "a cat", "--model", str(tiny_folder), "-o", str(tmp_path / "out")]
    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")
    assert main([*film, "--image", str(tmp_path / "photo.png")]) == 2
    assert "image means nothing with --to" in capsys.readouterr().err
    assert main([*film[:-1], str(tmp_path / "film.png")]) == 2
    assert "give a folder" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("prompt,transparent\na fox,perhaps\n", "column transparent: 'perhaps' is neither yes nor no"),
        ("prompt,prompt\na fox,a cat\n", "two columns are called 'prompt'"),
        ("prompt,seed\na fox,1e3\n", "column seed: '1e3' is no whole number"),
        ("prompt,to,n\na fox,a cat,1\n", "n = 1: from one prompt to another there are 2 pictures at least"),
    ],
)
def test_a_table_read_wrong_says_so(rows, says, tiny_folder, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text(rows)
    command = ["generate", "--csv", str(tmp_path / "rows.csv"), "--model", str(tiny_folder)]
    assert main([*command, "-o", str(tmp_path / "out" / "deep")]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*command, "-o", str(tmp_path / "out.png")]) == 2
    assert "a table has many rows" in capsys.readouterr().err and not (tmp_path / "out.png").exists()


def test_a_table_tells_a_program_and_a_clock(tiny_folder, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("prompt\na fox\na cat\n")
    command = ["generate", "--csv", str(tmp_path / "rows.csv"), "--model", str(tiny_folder), "-o", str(tmp_path)]
    for _ in "made", "there already":
        assert main([*command, "--json", "--timings"]) == 0
        shown = capsys.readouterr()
        assert [json.loads(text)["of"] for text in shown.out.splitlines()] == [0, 1]
        assert re.search(r"^run ", shown.err, re.M)


def test_again_takes_what_python_saved(tiny_folder, tmp_path, capsys):
    """One picture, one of several, with opacity, upscaled, and one made from a file; not what came from no file."""
    model = inkwash.load(tiny_folder)
    first = model.generate("a fox", seed=7)
    first.save(tmp_path / "one.png")
    model.generate("a fox", n=2, seed=7, negative="a cat", guidance=2.0)[1].save(tmp_path / "second.png")
    model.generate("a fox", seed=7, size=40, style="flat").save(tmp_path / "large.png")
    model.generate("a fox", seed=7, image=tmp_path / "one.png", outpaint=0.25).save(tmp_path / "edit.png")
    for name in ("one", "second", "large", "edit"):
        assert main(["again", str(tmp_path / f"{name}.png"), "--inputs", str(tiny_folder.parent)]) == 0
        assert "\nthe same pixels" in capsys.readouterr().out
    model.generate("a fox", seed=7, image=first).save(tmp_path / "memory.png")
    assert main(["again", str(tmp_path / "memory.png"), "--inputs", str(tiny_folder.parent)]) == 2
    assert "made from a picture that a program gave" in capsys.readouterr().err
    frames = model.interpolate("a fox", "a cat", 2, seed=7)
    frames[1].save(tmp_path / "frame.png")
    assert read_recipe(tmp_path / "frame.png")["to"] == "a cat"
