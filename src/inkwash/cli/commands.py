"""The commands that belong to no system, and those that hand over to the verb of a system."""

import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Annotated

import typer

import inkwash
from inkwash.cli.context import make_writable
from inkwash.cli.verbs import complete
from inkwash.errors import UserError, unknown
from inkwash.extras import install_command
from inkwash.progress import Console, Progress
from inkwash.systems import makes, of_task, system_of, systems
from inkwash.systems.base import File, options
from inkwash.systems.train import task_of
from inkwash.weights.shipped import CHECKPOINTS, find_recipe, locate, queues, recipes, shipped

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
data_app = typer.Typer(help="Build a data set from public packages.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"inkwash {inkwash.__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True)] = False,
) -> None:
    """Pictures from words, forecasts and sentences, offline, and the training of diffusion models."""


# `inkwash WORD TARGET ...` is `inkwash SYSTEM WORD TARGET ...`, the system being that of the target
SHORTCUTS = {
    "train": (
        "RECIPE_OR_SYSTEM",
        "Train a model by a recipe, a file or the name of one that ships, or a system's on data of your own.",
    ),
    "evaluate": ("MODEL", "Measure a model beside the simplest baselines."),
    "tune": ("MODEL", "Learn how to sample a model in few steps."),
    "export": ("MODEL", "Write a model's networks as ONNX graphs, to compute without torch."),
}


def expand_shortcut(arguments: list[str]) -> list[str]:
    """The arguments with the system of their target before them. UserError for a target that does not exist, and for
    a system without that verb."""
    word, *rest = arguments
    if word == "train" and any(argument.partition("=")[0] == "--queue" for argument in rest):
        return arguments
    position = target_position(word, rest)
    target = rest[position] if position < len(rest) else ""
    if word == "train":
        words = {name: system for system in systems().values() for name in (system.name, system.command) if name}
        if target in words:
            del rest[position]
            return [words[target].name, word, *rest]
        if not target:
            return arguments
        if (recipe := find_recipe(target)) is None:
            raise unknown("recipe", target, [*systems(), *recipes()])
        system, rest[position] = of_task(task_of(recipe)), str(recipe)
    else:
        if not target and word == "export":
            return arguments
        system = system_of(locate(target or "emoji"))
    if word not in system.verbs:
        raise UserError(f"{target}: {system.name} has no {word}; it has {', '.join(system.verbs)}")
    return [system.name, word, *rest]


def expand_command(arguments: list[str]) -> list[str]:
    """`inkwash segment train ...` as `inkwash segmentation train ...`: after a system's own word another of its
    verbs, where the word takes a file and none is called so."""
    for system in systems().values():
        if arguments[:1] == [system.command] and arguments[1:2] and arguments[1] in system.verbs:
            first = next(iter(system.verbs.values()))
            takes_file = any(option.argument and option.kind is File for option in options(first.request).values())
            if takes_file and not Path(arguments[1]).exists():
                return [system.name, *arguments[1:]]
    return arguments


def expand_recipe(arguments: list[str]) -> list[str]:
    """`inkwash SYSTEM train NAME` with the path of the shipped recipe of this name."""
    position = 2 + target_position("train", arguments[2:])
    named = [str(find_recipe(name) or name) for name in arguments[position : position + 1]]
    return [*arguments[:position], *named, *arguments[position + 1 :]]


def expand_generate(arguments: list[str]) -> list[str]:
    """`inkwash generate ... --model MODEL` with the system of the model before it, where that is not pictures', and
    its path for the name of a checkpoint in the folders that were added."""
    expanded, found = list(arguments), dict[str, str]()
    for i, argument in enumerate(arguments):
        name, equals, model = argument.partition("=")
        i, model = (i, model) if equals else (i + 1, "".join(arguments[i + 1 : i + 2]))
        if name in ("--model", "--refiner") and model:
            folder = find_model(model)
            expanded[i] = f"{name}={folder}" if equals else str(folder)
            found[name] = system_of(folder).name
    return [CHECKPOINTS, *expanded] if found.get("--model") == CHECKPOINTS else arguments


def find_model(name: str) -> Path:
    """Where the model of a name lies, in the folders that were added, too."""
    from inkwash.cli import folders

    try:
        return locate(name)
    except UserError:
        found = None if Path(name).exists() else folders.find(name)
        if found is None:
            raise
        return found


def target_position(word: str, rest: list[str]) -> int:
    """The index of the first argument that is neither an option of this verb nor an option's value; the length
    without any."""
    verbs = [system.verbs[word] for system in systems().values() if word in system.verbs]
    flags = {option.name for verb in verbs for option in options(verb.request).values() if option.kind is bool}
    flags |= {"help", "json", "timings", "plan"}
    value = False
    for position, argument in enumerate(rest):
        if argument.startswith("-"):
            value = "=" not in argument and argument.strip("-").replace("-", "_") not in flags
        elif not value:
            return position
        else:
            value = False
    return len(rest)


def _stub(word: str, target: str, help: str) -> None:
    @app.command(word, help=f"{help} Its options: inkwash {word} {target} --help")
    def hand_over(named: Annotated[str, typer.Argument(metavar=target, autocompletion=complete(shipped))]) -> None:
        # otherwise `expand_shortcut` has replaced it
        raise UserError(f"give the {target} first: inkwash {word} {target}")


for _word, (_target, _help) in SHORTCUTS.items():
    if _word != "train":
        _stub(_word, _target, _help)


@app.command(
    help=f"{SHORTCUTS['train'][1]} Its options: inkwash train {SHORTCUTS['train'][0]} --help. "
    f"Or the recipes of a queue, one after the other. Recipes that ship: {', '.join(recipes())}; "
    f"queues: {', '.join(queues())}."
)
def train(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar=SHORTCUTS["train"][0],
            help="What is trained, if no queue is.",
            autocompletion=complete(lambda: [*recipes(), *systems()]),
        ),
    ] = None,
    queue: Annotated[
        str | None, typer.Option(help="A file of recipes with budgets (.toml), or the name of one that ships.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End after so many; the same command goes on. [above 0]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps; what the queue or the recipes say if left out.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16; what they say if left out.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with.")] = None,
) -> None:
    if queue is None:  # otherwise `expand_shortcut` has replaced it
        raise UserError("give the RECIPE_OR_SYSTEM first: inkwash train RECIPE_OR_SYSTEM; or a --queue")
    if named is not None:
        raise UserError(f"--queue: its own recipes are trained: leave '{named}' out")
    from inkwash.cli.queue import train_queue

    train_queue(queue, minutes, {"device": device, "precision": precision, "threads": threads})


@app.command()
def models(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders in which to look, too; or of models.")] = None,
    scan: Annotated[
        list[Path] | None, typer.Option(help="Name every file in a folder of models of any other tool.")
    ] = None,
    add: Annotated[
        list[Path] | None, typer.Option(help="The same, and remember it: `inkwash models` lists it from now on.")
    ] = None,
    forget: Annotated[list[Path] | None, typer.Option(help="Remember it no more.")] = None,
    hashes: Annotated[
        bool, typer.Option("--hashes", help="With the hashes AutoV2 and AutoV3, for which files are read whole.")
    ] = False,
) -> None:
    """List the models that ship, those in runs/, and those in other folders; and what they do."""
    from inkwash.cli import folders as remembered

    named = [*(scan or []), *(add or [])]
    if folders and (named or forget):
        raise UserError(f"{folders[0]}: leave it out beside --scan, --add and --forget")
    for folder in scan or []:
        if not folder.is_dir():
            raise UserError(f"--scan {folder}: no such folder")
    for folder in forget or []:
        remembered.forget(folder)
    for folder in add or []:
        remembered.remember(folder)
    if not named and not forget:
        _list_models(folders)
        named = [
            folder for folder in remembered.remembered() if folder.is_dir() or print(f"{folder}: no such folder")
        ]
    if hashes and not named:
        raise UserError("--hashes: give a folder with --scan")
    for folder in named:
        for line in remembered.lines(folder, hashes):
            print(line)


def _list_models(folders: list[Path] | None) -> None:
    from rich.console import Console
    from rich.table import Table

    found = shipped()
    for parent in folders or []:
        inner = [file.parent for file in sorted(parent.rglob("system.json"))]
        if not inner:
            raise UserError(f"{parent}: no model in it (a folder with system.json)")
        found |= {str(folder): folder for folder in inner}
    found |= {str(file.parent): file.parent for file in sorted(Path("runs").glob("*/*/system.json"))}
    table = Table("name", "system", "makes", "MB", "licence")
    for name, folder in found.items():
        try:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            table.add_row(name, system_of(folder).name, makes(folder), f"{size / 1e6:.1f}", licence(folder))
        except (UserError, OSError) as error:
            table.add_row(name, "", f"cannot be read: {error}", "", "")
    Console(markup=False, emoji=False).print(table)


def licence(folder: Path) -> str:
    """The licence in the front matter of a model's card."""
    card = folder / "card.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = re.match(r"---\n(?:.+\n)*?license: (.+)\n", text)
    return found[1] if found else ""


VECTORS = ("AVX2", "AVX512F", "AVX512BF16", "NEON", "SVE")  # as NumPy names what decides the speed


@app.command()
def doctor() -> None:
    """Say what each system needs, what is missing, and how to get it."""
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "found", "needed for", "how to get it")
    table.add_row("Python", sys.version.split()[0], "everything", "")
    table.add_row("inkwash", inkwash.__version__, "everything", "")

    def add(name: str, purpose: str) -> None:
        module, found = name.strip(), util.find_spec(name.strip()) is not None
        table.add_row(
            name, _version(module) if found else "missing", purpose, "" if found else install_command(module)
        )

    for system in systems().values():
        missing = [module for module, verbs in system.modules.items() if not verbs and not util.find_spec(module)]
        table.add_row(system.name, f"needs {', '.join(missing)}" if missing else "ready", system.help, "")
        for module, verbs in system.modules.items():
            add(f"  {module}", verbs or "everything")
    add("tensorboard", "logs of trainings")
    add("fastapi", "inkwash studio")
    add("psycopg", "inkwash studio --store postgresql://...")
    add("s3fs", "inkwash studio --files s3://...")
    add("ray", "--on ray")
    npm, names = shutil.which("npm"), ", ".join(shipped())
    table.add_row("npm", "yes" if npm else "missing", "inkwash data", "" if npm else "install Node.js")
    table.add_row("models", names or "missing", "", "" if names else "pip install --force-reinstall inkwash")
    for part, found, purpose in speed():
        table.add_row(part, found, purpose, "")
    Console(markup=False, emoji=False).print(table)


def speed() -> Iterator[tuple[str, str, str]]:
    """The lines of `doctor` on what decides how fast this machine computes: part, found, needed for."""
    core = importlib.import_module("numpy._core._multiarray_umath")
    features = [name for name in VECTORS if getattr(core, "__cpu_features__", {}).get(name)]
    yield "processor", ", ".join([f"{os.cpu_count()} cores", *features]), "speed"
    if util.find_spec("onnxruntime"):
        import onnxruntime

        providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
        yield "onnxruntime's providers", ", ".join(providers), "--device cpu, by CPU alone"
    else:
        yield "without onnxruntime", "torch draws", "half as fast, and each command starts some seconds later"
    if util.find_spec("torch"):
        import torch

        devices = ["cpu", *(["cuda"] * torch.cuda.is_available()), *(["mps"] * torch.backends.mps.is_available())]
        yield "devices", ", ".join(devices), "--device; others than cpu by torch"
        yield "torch's threads", str(torch.get_num_threads()), "Python, where nothing else is said"
    if "emoji" in shipped():
        from inkwash.systems.pictures.model import read_index
        from inkwash.weights.graph import fastest

        folders = [component.folder for component in read_index(shipped()["emoji"]).values()]
        yield "runtime", fastest(folders, "cpu", "float32"), "generate, if --runtime says no other"
    yield "threads", os.environ.get("OMP_NUM_THREADS") or "1", "--threads, if left out; more where nothing else runs"


def _version(module: str) -> str:
    try:
        return metadata.version(module.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "yes"


@data_app.command("emoji")
def data_emoji(
    out: Annotated[Path, typer.Option(help="Folder for the data set.")] = Path("data/emoji"),
    cache: Annotated[Path | None, typer.Option(help="Folder for the packages; OUT/cache if left out.")] = None,
) -> None:
    """Build the emoji data set: about 8,600 pictures in six styles with names, tags and licences."""
    from inkwash.systems.pictures import emoji_data

    make_writable(out)
    console = Console()
    try:
        emoji_data.build(out, cache, progress=lambda done, total, style: console.tell(Progress(done, total, style)))
    finally:
        console.close()
    _show_data(out)


@data_app.command("icons")
def data_icons(
    out: Annotated[Path, typer.Option(help="Folder for the data set.")] = Path("data/icons"),
    sets: Annotated[
        str, typer.Option(help="Sets with commas between, as hugeicons,carbon; nine styles of six sets if left out.")
    ] = "",
    cache: Annotated[Path | None, typer.Option(help="Folder for the packages; OUT/cache if left out.")] = None,
) -> None:
    """Build the data set of icons: about 15,500 distance fields in nine styles with names, tags and licences."""
    from inkwash.systems.pictures import icons_data

    make_writable(out)
    console = Console()
    names = [name.strip() for name in sets.split(",") if name.strip()]

    def tell(done: int, total: int, style: str) -> None:
        console.tell(Progress(done, total, style))

    try:
        icons_data.build(out, names, cache, progress=tell, processes=os.cpu_count() or 1)
    finally:
        console.close()
    _show_data(out)


def _show_data(out: Path) -> None:
    styles = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["styles"]
    width = max(map(len, styles))
    for style, facts in styles.items():
        print(f"{style:{width}} {facts['pictures']:5} pictures  {facts['licence']}")
    print(out)
