"""The commands that belong to no system, and those that hand over to the verb of a system."""

import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

import inkwash
from inkwash.cli.context import Local, make_writable, move, move_unused
from inkwash.cli.verbs import complete, is_file
from inkwash.errors import UserError, unknown
from inkwash.extras import install_command
from inkwash.progress import Console, Progress
from inkwash.systems import makes, of_task, system_of, systems
from inkwash.systems.base import File, Request, Verb, options, resolve
from inkwash.systems.train import task_of
from inkwash.weights.shipped import CHECKPOINTS, find_recipe, is_model, locate, queues, recipes, shipped

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


PICTURES = ("png", "svg", "webp", "ico", "gif")  # what `again` makes, by its content
GIVE = "put it beside the picture, or give its folder with --inputs"  # what `again` does not find


@app.command()
def again(
    file: Annotated[Path, typer.Argument(help="A PNG, SVG, WebP, ICO or GIF that inkwash made.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file or folder for it.")] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Folder of its model and of what went in, if they are neither beside FILE nor here."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; the one it was made on if left out.")] = None,
) -> None:
    """Make a picture anew from its file: on one machine, to the same pixels, or the same SVG."""
    from inkwash.codecs.png import read_recipe

    recipe = read_recipe(file)
    if inputs is not None and not inputs.is_dir():
        raise UserError(f"--inputs {inputs}: no such folder")
    format = "gif" if file.read_bytes().startswith(b"GIF8") else recipe.get("format", "png")
    if format not in PICTURES:
        raise UserError(f"{file}: its recipe asks for what is no picture; take one of {', '.join(PICTURES)}")
    ending = f".{format}"
    kind = Verb(Request, "", endings=(ending,))
    single = out if out is not None and is_file(kind, out) else None
    itself = single is not None and single.exists() and single.samefile(file)
    if single and os.path.lexists(single) and not itself:
        raise UserError(f"--out {out}: it is there already; move it away, or choose another name")
    target = single or (out or file.parent) / f"{file.stem}-again{ending}"
    make_writable(target.parent)
    with TemporaryDirectory(prefix="inkwash-") as scratch:
        try:
            verb = systems()[recipe["system"]].verbs[recipe["verb"]]
            if verb.lasting or ".png" not in verb.endings[:1]:  # any other writes more than a picture, or elsewhere
                raise UserError(f"{recipe['verb']} makes no picture")
            device = device or recipe["device"].partition(":")[0]
            runtime = "onnx" if recipe["runtime"].startswith("onnx") and device == "cpu" else "torch"
            threads = int(recipe["threads"])
            context = Local(Path(scratch), device, recipe["precision"], runtime, threads)
            folders = [file.parent, Path(), *([] if inputs is None else [inputs])]
            request = request_of_recipe(recipe, verb, context, file, folders)
            several = getattr(request, "n", 1) != 1 or getattr(request, "to", None) is not None
            if several and ending != ".gif":
                raise UserError("it asks for several pictures")
            hashes = {"model": recipe["hash"], "refiner": recipe.get("refiner_hash")}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, UserError) and "was made " in str(error):
                raise
            why = f" ({error})" if isinstance(error, UserError) else ""
            raise UserError(f"{file}: its recipe is not one that this version of inkwash can follow{why}") from None
        for name, before in hashes.items():
            model = getattr(request, name, None)
            if model is not None and context.model(model).hash != before:
                print(f"inkwash: the model '{model}' has changed since; the picture will differ", file=sys.stderr)
        try:
            (result,) = resolve(verb.run)([request], context)
        finally:
            context.close()
        made = next(iter(result.files.values()))
        same = frames(file) == frames(made)  # first, for `--out` may name this very file
        target = move(made, target) if itself else move_unused(made, target)
    print(target)
    what = "bytes" if ending == ".svg" else "pixels"
    print(f"the same {what}" if same else f"not the same {what}: the file, the model or the machine has changed")


def frames(file: Path) -> list[bytes]:
    """The pixels of a picture, of each one of an animation or of an ICO; of an SVG its bytes."""
    from PIL import Image, ImageSequence

    from inkwash.codecs.png import decode_ico, is_svg

    data = file.read_bytes()
    if is_svg(data):
        return [data]
    with Image.open(file) as picture:
        if picture.format == "ICO":
            return [one.convert("RGBA").tobytes() for one in decode_ico(data)]
        return [frame.convert("RGBA").tobytes() for frame in ImageSequence.Iterator(picture)]


def request_of_recipe(recipe: dict[str, Any], verb: Any, context: Local, file: Path, folders: list[Path]) -> Any:
    """The request of a recipe: its fields, its model, and the files that went in, if they are unchanged; those that
    lie in one of the folders."""
    values = {}
    for name, option in options(verb.request).items():
        value = recipe.get(name)
        if name in recipe and value is None and not option.optional:
            raise UserError(f"{name} is missing")
        if name in ("model", "refiner") and value is not None and value not in shipped():
            places = [str(folder / value) for folder in folders if is_model(folder / value)]
            with suppress(UserError):
                places += [str(find_model(value))]  # a hub id, or in the folders that were added
            if not places:
                raise UserError(f"{file} was made by the model {value}, which is not here: {GIVE}")
            value = places[0]
        elif option.kind is File and value:
            found = [find_input(one, option, context, file, folders) for one in (value if option.many else [value])]
            value = tuple(found) if option.many else found[0]
        if value is not None:
            values[name] = value
    if values.get("image") is None:
        values.pop("strength", None)
    return verb.request(**values)


def find_input(facts: dict[str, Any], option: Any, context: Local, file: Path, folders: list[Path]) -> File:
    """A file that went in, unchanged, in one of the folders. UserError without it."""
    if "name" not in facts:
        raise UserError(
            f"{file} was made from a picture that a program gave, which is in no file; make it there again"
        )
    name = Path(facts["name"]).name
    found = [context.file(path, option) for folder in folders if (path := folder / name).is_file()]
    same = [one for one in found if isinstance(one, File) and one.sha256 == facts["sha256"]]
    if not same:
        raise UserError(f"{file} was made from {name}, which {'has changed' if found else 'is not here'}: {GIVE}")
    return same[0]


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
        from inkwash.systems.pictures.runtimes import fastest

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
