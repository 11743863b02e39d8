"""What the documents say is so: their links lead somewhere, their example runs, their tables are the reports'."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from inkwash.cli import application, main
from inkwash.cli.commands import SHORTCUTS
from inkwash.systems.report import Report, markdown_table, markdown_tables

ROOT = Path(__file__).parents[1]
SITE = runpy.run_path(str(ROOT / "docs" / "site" / "build.py"))
PAGES = sorted(page for pattern in SITE["WRITTEN"] for page in ROOT.glob(pattern))
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def programs_find_what_they_share(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_report_is_listed():
    assert set(re.findall(r"^\| \[(.+?)\]", read("docs/results/README.md"), re.MULTILINE)) == {
        file.name for file in ROOT.glob("docs/results/*.json")
    }


def test_the_example_prints_what_the_page_says_and_imports_no_torch():
    found = re.search(r"```python\n(import numpy.*?)```.*?```\n(.*?)```", read("README.md"), re.DOTALL)
    check = "\nimport sys\nassert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", found[1] + check], capture_output=True, text=True, check=True)
    assert run.stdout == found[2]


def test_both_readmes_have_the_same_commands_code_links_and_headings():
    parts = re.compile(
        r"^    \S.*?(?=  |$)|^(?:import|from|def|\w+ =|print).*?(?=  #|$)|\]\((?!README|docs/zh).*?\)|`[^`\n]+`|^#+ ",
        re.M,
    )
    english, chinese = (sorted(parts.findall(read(page))) for page in ("README.md", "README.zh-CN.md"))
    assert english == chinese


def test_the_code_of_the_chinese_pages_stands_in_english_ones():
    """But for its comments."""
    english = "".join(page.read_text(encoding="utf-8") for page in PAGES if "zh" not in str(page.relative_to(ROOT)))
    known = {line.partition("  #")[0].rstrip() for line in english.splitlines()}
    for page in (page for page in PAGES if page.parent.name == "zh"):
        code = "".join(CODE.findall(page.read_text(encoding="utf-8"))).splitlines()
        assert [line for line in code if line.partition("  #")[0].rstrip() not in known] == [], page


def test_the_commands_and_options_that_pages_name_are_there():
    """But for those of the systems that docs/systems.md shows how to add."""
    commands = typer.main.get_command(application()).commands
    wrong = []
    for page in PAGES:
        for lines in re.findall(
            r"^    inkwash (.+)|`inkwash ([^`]+)`", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            words = shlex.split("".join(lines), comments=True)
            given = {word for word in words if word.startswith("-")} - {"--help"}
            if words[0] not in ("--help", "points", "scatter") and not given <= options_of(words, commands):
                wrong.append((page.name, words))
    assert wrong == []


def options_of(words, commands):
    """Of the command that the words begin with; of one that hands over to a system's, as `train` does, of any, and so
    does `generate` with a checkpoint."""
    groups = {name: group.commands for name, group in commands.items() if hasattr(group, "commands")}
    if words[0] in {*SHORTCUTS, "generate"}:
        found = [group[words[0]] for group in [commands, *groups.values()] if words[0] in group]
    elif words[0] in groups and len(words) > 1 and re.fullmatch("[a-z]+", words[1]):
        found = [groups[words[0]][words[1]]]
    else:
        found = [commands[words[0]]]
    return {name for command in found for option in command.params for name in option.opts}


def test_the_sentences_of_the_readme_are_those_of_its_commands(capsys):
    found = re.findall(r"^    inkwash (write .*)\n((?:    > .*\n)+)", read("README.md"), re.MULTILINE)
    assert len(found) == 6
    for command, written in found:
        assert main(shlex.split(command)) == 0
        assert re.sub("^", "    > ", capsys.readouterr().out.rstrip(), flags=re.MULTILINE) + "\n" == written


def test_the_readme_names_the_commands_and_the_options_of_generate():
    commands = typer.main.get_command(application()).commands
    options = {name for option in commands["generate"].params for name in option.opts if name.startswith("--")}
    page = read("README.md")
    assert set(re.findall(r"`(--\w+)", page[page.index("options of `generate`") : page.index("## Train")])) == options
    assert set(re.findall(r"^\| `inkwash (\w+)", page, re.MULTILINE)) == set(commands)


def test_the_tables_of_orders_are_those_of_their_report():
    """And every error that the page speaks of stands in its table."""
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "order.py"))
    report = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    page, small = read("docs/core.md"), benchmark["error_table"](report)
    assert benchmark["table"](report) in page and small in page
    assert set(re.findall(r"\d\.\de-\d\d", page[: page.index("## Agreement")])) <= set(small.split())
    for sampler, schedules in report["largest error"].items():
        found = benchmark["errors"](benchmark["SOLVERS"][sampler], benchmark["SCHEDULES"]["cosine"])
        assert found == pytest.approx(schedules["cosine"], rel=1e-4)
        few = benchmark["few_errors"](benchmark["SOLVERS"][sampler], "karras")
        assert few == pytest.approx(report["largest error, few steps"][sampler]["karras"], rel=1e-4)


def test_the_figures_of_the_emoji_page_are_those_of_their_reports():
    """And the evaluations are of the shipped weights."""
    import inkwash

    page, results, shipped = read("docs/emoji.md"), ROOT / "docs" / "results", inkwash.load("emoji").hash
    for name in ("emoji.json", "emoji-256.json"):
        report = Report.load(results / name)
        shown = markdown_tables(row for row in report.rows if "all" in (row.get("style"), row.get("colour")))
        assert len(shown) == 4 and all(table in page for table in shown)
        assert report.model["sha256"] == shipped
    choice = runpy.run_path(str(ROOT / "benchmarks" / "choice.py"))
    rows = json.loads(choice["RESULT"].read_text(encoding="utf-8"))["rows"]
    assert choice["table"](rows) in page
    assert {(row["model"], row["hash"]) for row in rows} == {
        ("emoji", shipped),
        ("emoji-fast", inkwash.load("emoji-fast").hash),
    }
    speed = json.loads((results / "speed.json").read_text(encoding="utf-8"))
    for name, seconds in {**speed["warm median"], **speed["cold median"]}.items():
        assert any(name in line and f"| {seconds:.2f} |" in line for line in page.splitlines())


def test_the_figures_of_the_icons_page_are_those_of_their_report():
    """And the evaluation is of the shipped weights."""
    import inkwash

    report = Report.load(ROOT / "docs" / "results" / "icons.json")
    shown = markdown_tables(row for row in report.rows if row["style"] == "all")
    assert shown and all(table in read("docs/icons.md") for table in shown)
    assert shown[0] in read("src/inkwash/weights/icons/card.md")
    assert report.model["sha256"] == inkwash.load("icons").hash


def test_the_tables_of_exact_cases_and_of_tuning_are_those_of_their_reports():
    """And the shipped tables for few steps are for the shipped weights."""
    from tests.diffusion import exact

    rows = json.loads(exact.RESULT.read_text(encoding="utf-8"))["rows"]
    assert exact.table(rows) in read("docs/process.md")
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "tuning.py"))
    report = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    assert benchmark["table"](report).strip() in read("docs/tuning.md")
    assert benchmark["energies"](report) in read("docs/tuning.md")
    saved = json.loads((ROOT / "src/inkwash/weights/emoji/tables.json").read_text(encoding="utf-8"))
    assert saved["hash"] == report["emoji"]["sha256"]


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("backbone", "proteins"),
        ("perov", "crystals"),
        ("carbon", "crystals"),
        ("nuclei", "vision"),
        ("bccd", "vision"),
        ("cells", "vision"),
        ("retouch", "vision"),
    ],
)
def test_the_figures_of_a_model_are_those_of_its_report(name, page):
    """And the evaluations are of the shipped weights, whose cards have them all."""
    import inkwash

    report = Report.load(ROOT / "docs" / "results" / f"{name}.json")
    card, page = read(f"src/inkwash/weights/{name}/card.md"), read(f"docs/{page}.md")
    assert report.markdown() in card
    tables = markdown_tables(report.rows)
    assert sum(table in page for table in tables) >= min(4, len(tables))
    assert report.model["sha256"] == inkwash.load(name).hash


def test_the_walk_through_of_masks_is_of_its_report():
    report, page = Report.load(ROOT / "docs" / "results" / "rice.json"), read("docs/vision.md")
    shown = {"IoU", "Dice", "boundary F, 1 px", "WCov", "count off by", "AP50 of objects"}
    rows = [row for row in report.rows if row["metric"] in shown]
    assert rows and all(table in page for table in markdown_tables(rows))


@pytest.mark.parametrize("task", ["colourise", "inpaint"])
def test_models_of_a_single_task_are_of_their_reports(task):
    report, page = Report.load(ROOT / "docs" / "results" / f"retouch-{task}.json"), read("docs/vision.md")
    sources = {"retouch", f"runs/retouch-{task}/model", f"runs/{task}-plain/model"}
    shown = {"PSNR where drawn", "SSIM where drawn", "EfficientNet-Lite0 Frechet distance", "recognised"}
    rows = [row for row in report.rows if row["metric"] in shown and row["source"] in sources]
    assert len(rows) >= 8 and all(table in page for table in markdown_tables(rows))


def test_parts_of_editing_are_of_their_report():
    report = Report.load(ROOT / "docs" / "results" / "retouch-ablation.json")
    shown = {"PSNR where drawn", "SSIM where drawn", "EfficientNet-Lite0 Frechet distance", "recognised"}
    rows = [row for row in report.rows if row["metric"] in shown | {"pairwise SSIM"}]
    (table,) = markdown_tables([row for row in rows if row["source"].startswith("runs/")])
    assert table in read("docs/vision.md")


@pytest.mark.parametrize("name", ["nuclei-plain", "nuclei-ablation", "nuclei-noise"])
def test_rivals_and_parts_of_nuclei_are_of_their_reports(name):
    report, page = Report.load(ROOT / "docs" / "results" / f"{name}.json"), read("docs/vision.md")
    shown = {"IoU", "Dice", "boundary F, 1 px", "WCov", "AP50 of objects", "Brier", "calibration error"}
    rows = [row for row in report.rows if row["pictures"] == "all" and row["metric"] in shown]
    assert rows and all(table in page for table in markdown_tables(rows))


def test_the_table_of_three_trainings_of_nuclei_is_of_its_report():
    report, page = Report.load(ROOT / "docs" / "results" / "nuclei-seeds.json"), read("docs/vision.md")
    shown = {"IoU", "Dice", "boundary F, 1 px", "WCov", "AP50 of objects", "Brier", "calibration error"}
    shown |= {"count covered, fitted"}
    ours = [row for row in report.rows if row["pictures"] == "all" and row["source"] != "Otsu's threshold"]
    rows = [row for row in ours if row["metric"] in shown]
    assert len(rows) == 24 and all(table in page for table in markdown_tables(rows))


def test_the_row_of_the_papers_backbones_is_of_its_report():
    report, page = Report.load(ROOT / "docs" / "results" / "backbone-paper.json"), read("docs/proteins.md")
    own = [row for row in report.rows if row.get("source") == "this model"]
    tables = markdown_tables([row for row in own if row.get("of") in ("handedness", "CA", "ProteinMPNN, ca")])
    assert len(tables) == 3 and all(table in page for table in tables)


def test_the_table_of_three_trainings_of_cells_is_of_their_reports():
    rows = []
    for number, ending in enumerate(("", "-1", "-2")):
        report = Report.load(ROOT / "docs" / "results" / f"cells{ending}.json")
        ours = f"runs/cells{ending}/model" if number else "cells"
        shown = {(ours, "0"), (ours, f"{report.model['noise_level']:g}"), (f"runs/cells-off{ending}/model", "0")}
        rows += [
            row for row in report.rows if row.get("small") == "generated" and (row["source"], row["noise"]) in shown
        ]
    (table,) = markdown_tables(rows)
    assert len(rows) == 27 and table in read("docs/vision.md")


def test_the_figures_of_photographs_are_of_their_report():
    report, page = Report.load(ROOT / "docs" / "results" / "photos.json"), read("docs/vision.md")
    assert report.rows and all(table in page for table in markdown_tables(report.rows))
    more = Report.load(ROOT / "docs" / "results" / "photos-4-steps.json").rows
    ours = [row for row in more if row["source"] == "runs/photos/model" and row["metric"] != "pairwise SSIM"]
    assert ours and all(table in page for table in markdown_tables(ours))


def test_the_table_of_three_trainings_of_boxes_is_of_their_reports():
    rows = []
    for name in ("bccd", "bccd-1", "bccd-2"):
        own = Report.load(ROOT / "docs" / "results" / f"{name}.json").rows
        rows += [row for row in own if row["metric"] in ("AP", "AP50", "AR") and row["source"] != "Otsu's regions"]
    (table,) = markdown_tables(rows)
    assert len(rows) == 27 and table in read("docs/vision.md")


def test_the_tables_of_boxes_and_of_speed_are_those_of_their_reports():
    for name in ("boxes", "crowd", "frozen-backbone", "vision-speed"):
        report = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        assert all(table in read("docs/vision.md") for table in markdown_tables(report["rows"]))


def test_the_table_of_two_experts_is_that_of_its_report():
    report = json.loads((ROOT / "docs" / "results" / "two_experts.json").read_text(encoding="utf-8"))
    assert markdown_table(report["rows"]) in read("docs/vision.md")


def test_how_many_steps_nuclei_needs_is_of_its_reports():
    for steps in (5, 20):
        report = Report.load(ROOT / "docs" / "results" / f"nuclei-{steps}-steps.json")
        (iou,) = [
            one["value"]
            for one in report.rows
            if (one["source"], one["pictures"], one["metric"]) == ("nuclei", "all", "IoU")
        ]
        assert f"`--samples 9 --steps {steps}`" in read("docs/vision.md") and f"{iou:.3f}" in read("docs/vision.md")


@pytest.mark.parametrize("name", ["backbone-targets", "backbone-targets-tds"])
def test_the_tables_of_targets_are_those_of_their_report(name):
    import inkwash

    report, page = Report.load(ROOT / "docs" / "results" / f"{name}.json"), read("docs/proteins.md")
    assert markdown_tables(report.rows)[-1] in page
    assert report.model["sha256"] == inkwash.load("backbone").hash


def test_the_table_of_exact_scaffolds_is_that_of_its_report():
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "protein_exactness.py"))
    report = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    assert benchmark["markdown"](report) in read("docs/proteins.md")


def test_the_table_of_cdvae_is_that_of_its_report():
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "cdvae.py"))
    report = json.loads((ROOT / "docs" / "results" / "cdvae-ablation.json").read_text(encoding="utf-8"))
    assert benchmark["markdown"](report) in read("docs/crystals.md")


def test_the_tables_of_filters_are_those_of_their_report():
    benchmark, page = runpy.run_path(str(ROOT / "benchmarks" / "smc_gaussian.py")), read("docs/proteins.md")
    facts = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    assert benchmark["table"](facts["by length"], benchmark["HEALTH"]).strip() in page
    assert benchmark["table"](facts["calibration"], benchmark["CALIBRATION"]).strip() in page
    assert benchmark["table"](facts["exactness"], benchmark["EXACT"]).strip() in page


def test_the_figures_of_the_forecasting_page_are_those_of_their_reports():
    """And the evaluations of the shipped forecasters are of their weights."""
    import inkwash

    page, results = read("docs/forecasting.md"), ROOT / "docs" / "results"
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "forecasting.py"))
    facts = json.loads((results / "forecasting.json").read_text(encoding="utf-8"))
    assert benchmark["table"](facts).strip() in page
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "pooled.py"))
    assert benchmark["table"](json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))) in page
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "business.py"))
    business = json.loads((results / "business.json").read_text(encoding="utf-8"))
    assert benchmark["markdown"](business["test"]).strip() in page
    assert benchmark["few_rows"]({rows: business[f"test, {rows} rows"] for rows in benchmark["ROWS"]}) in page
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "ablation.py"))
    ablation = json.loads((results / "forecasting-ablation.json").read_text(encoding="utf-8"))
    assert benchmark["markdown"](ablation) in page
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "horizon_at_once.py"))
    runs = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))["runs"]
    lines = benchmark["markdown"](runs).splitlines()
    assert "\n".join([*lines[:2], *lines[-len(benchmark["METHODS"]) :]]) in page
    for name in ("exchange", "electricity"):
        report = Report.load(results / f"{name}.json")
        assert report.markdown() in read(f"src/inkwash/weights/{name}/card.md")
        assert report.model["sha256"] == inkwash.load(name).hash
    examples = json.loads((results / "forecast-examples.json").read_text(encoding="utf-8"))
    for name, facts in examples.items():
        assert f"| {name} | " in page
        assert all(f"{row['crps']:.5f}" in page for row in facts["scores"].values())
    speed = json.loads((results / "forecasting-speed.json").read_text(encoding="utf-8"))
    assert f"{speed['training ratio']:.1f} times" in page
    scale = runpy.run_path(str(ROOT / "benchmarks" / "forecasting_scale.py"))
    assert scale["markdown"](json.loads((results / "forecasting-scale.json").read_text(encoding="utf-8"))) in page


def test_the_figures_of_the_language_page_are_those_of_their_report():
    """And the evaluations are of the shipped weights."""
    import inkwash

    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "language.py"))
    facts = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    assert benchmark["compare"](facts) in read("docs/language.md")
    assert benchmark["samples"](facts["e2e"]) in read("docs/language.md")
    assert f"NLL of {facts['as published']['NLL']:.2f} nats" in read("docs/language.md")
    for name in ("e2e", "e2e-masked"):
        assert facts[name]["model"]["sha256"] == inkwash.load(name).hash
        assert facts[name]["model"]["evaluator"] == inkwash.load("e2e-evaluator").hash
        assert Report(**facts[name]).markdown() in read(f"src/inkwash/weights/{name}/card.md")


def test_the_figures_of_the_studio_page_are_those_of_its_report():
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "studio.py"))
    report = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    assert benchmark["table"](report) in read("docs/studio.md")


def test_the_tables_of_kills_are_those_of_their_report():
    pytest.importorskip("psycopg")
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "kills.py"))
    report = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    for table in (benchmark["kills_table"], benchmark["table"]):
        assert table(report) in read("docs/studio.md")
    assert report["toy"]["kills"] == 50 and not any(report["toy"]["wrong"].values())
    assert report["emoji"]["kills"] == 10 and not any(report["emoji"]["wrong"].values())


def test_the_table_of_ray_is_that_of_its_report():
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "ray_scale.py"))
    report = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    assert benchmark["markdown"](report) in read("docs/ray.md") and report["nodes killed"]["kills"] == 5


@pytest.mark.parametrize(("program", "part"), [("training", "speed"), ("training_device", None)])
def test_the_tables_of_the_training_page_are_those_of_their_reports(program, part):
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / f"{program}.py"))
    report = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    assert benchmark["table"](report[part] if part else report) in read("docs/training.md")


def test_the_tables_of_particles_are_those_of_their_report():
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "particles.py"))
    report = json.loads(benchmark["RESULT"].read_text(encoding="utf-8"))
    for table in benchmark["tables"](report).split("\n\n"):
        assert table in read("docs/inference.md")
