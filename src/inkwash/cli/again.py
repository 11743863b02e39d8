"""`inkwash again FILE`: what a file of any system says of itself, made anew, and compared with it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from inkwash.cli.commands import app, find_model
from inkwash.cli.context import Local, make_writable, move, move_unused
from inkwash.cli.requests import is_file
from inkwash.errors import UserError
from inkwash.systems import available, systems
from inkwash.systems.base import File, Recorded, Request, Result, Verb, options, resolve
from inkwash.weights.shipped import is_model, shipped

GIVE = "put it beside that file, or give its folder with --inputs"  # what is not found


@app.command()
def again(
    file: Annotated[
        Path,
        typer.Argument(
            help="A picture (PNG, SVG, WebP, ICO or GIF), a crystal (CIF, extxyz) or a protein (PDB, mmCIF, JSON) "
            "that inkwash made."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file or folder for it.")] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Folder of its model and of what went in, if they are neither beside FILE nor here."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; the one it was made on if left out.")] = None,
) -> None:
    """Make anew what a file says of itself: on one machine to the same pixels, atoms or numbers."""
    before = recorded(file)
    if inputs is not None and not inputs.is_dir():
        raise UserError(f"--inputs {inputs}: no such folder")
    single = out if out is not None and is_file(Verb(Request, "", endings=(before.suffix,)), out) else None
    itself = single is not None and single.exists() and single.samefile(file)
    if single and os.path.lexists(single) and not itself:
        raise UserError(f"--out {out}: it is there already; move it away, or choose another name")
    target = single or (out or file.parent) / f"{file.stem}-again{before.suffix}"
    make_writable(target.parent)
    with TemporaryDirectory(prefix="inkwash-") as scratch:
        results = run(before.recipe, file, inputs, device, Path(scratch))
        made = likest(before, file, results)
        same = recorded(made).content == before.content  # first, for `--out` may name this very file
        target = move(made, target) if itself else move_unused(made, target)
    print(target)
    what = before.what
    print(f"the same {what}" if same else f"not the same {what}: the file, the model or the machine has changed")


def recorded(file: Path) -> Recorded:
    """What a file says of itself, by the first system that knows it. UserError for one that says nothing."""
    if not file.is_file():
        raise UserError(f"{file}: {'a folder; give one of its files' if file.is_dir() else 'no such file'}")
    for reader in dict.fromkeys(system.recipe_of for system in systems().values() if system.recipe_of):
        if (found := resolve(reader)(file)) is not None:
            return found  # type: ignore[no-any-return]
    raise UserError(f"{file}: no recipe in it; only files that inkwash wrote have one, and tables have none")


def run(recipe: dict[str, Any], file: Path, inputs: Path | None, device: str | None, scratch: Path) -> list[Result]:
    """What the verb of a recipe makes. UserError, before anything is made, for a recipe that cannot be followed: one
    of a verb that works elsewhere than in its own folder, or of another system than that whose file it is."""
    try:
        system = systems()[recipe["system"]]
        verb = system.verbs[recipe["verb"]]
        reader = system.recipe_of  # without one its files are pictures
        known = resolve(reader)(file) is not None if reader else file.suffix in verb.endings
        if verb.lasting or not known:  # it would write elsewhere, or no such file
            raise UserError(f"{system.name} {recipe['verb']} makes no such file")
        device = device or recipe["device"].partition(":")[0]
        runtime = "onnx" if recipe["runtime"].startswith("onnx") and device == "cpu" else "torch"
        context = Local(scratch, device, recipe["precision"], runtime, int(recipe["threads"]))
        folders = [file.parent, Path(), *([] if inputs is None else [inputs])]
        request = request_of_recipe(recipe, verb, context, file, folders)
        if "run" in recipe:  # it was one of several, which share their arithmetic: alone it differs in the last bit
            request = dataclasses.replace(request, n=recipe["run"]["n"], seed=recipe["run"]["seed"])
        hashes = {"model": recipe["hash"], "refiner": recipe.get("refiner_hash")}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError) and "was made " in str(error):
            raise
        why = f" ({error})" if isinstance(error, UserError) else ""
        raise UserError(f"{file}: its recipe is not one that this version of inkwash can follow{why}") from None
    available(system, recipe["verb"])
    for name, before in hashes.items():
        model = getattr(request, name, None)
        if model is not None and context.model(model).hash != before:
            print(f"inkwash: the model '{model}' has changed since; what is made will differ", file=sys.stderr)
    try:
        results = list[Result](resolve(verb.run)([request], context))
    finally:
        context.close()
    if context.signal:
        raise typer.Exit(128 + context.signal)
    return results


def likest(before: Recorded, file: Path, results: Sequence[Result]) -> Path:
    """Of all that was made the file with the same content; if none has it, the one of the same seed whose name ends
    alike. UserError where nothing was made."""
    made = [
        (path, name, result.recipe.get("seed") == before.recipe.get("seed"))
        for result in results
        for name, path in result.files.items()
        if path.suffix == before.suffix
    ]
    if not made:
        raise UserError(f"{file}: nothing like it comes out of its recipe any more")
    for path, _, _ in made:
        if recorded(path).content == before.content:
            return path
    return max(made, key=lambda one: (one[2], len(one[1]) if file.name.endswith(one[1]) else 0))[0]


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
