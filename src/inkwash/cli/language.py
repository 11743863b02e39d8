"""The command of language: `inkwash write`."""

from pathlib import Path
from typing import Annotated

import typer

from inkwash.cli.commands import app, available, progress
from inkwash.errors import UserError


@app.command()
def write(
    control: Annotated[
        list[str] | None, typer.Option(help="field=value, food=Italian; again for more. --fields lists them.")
    ] = None,
    length: Annotated[int | None, typer.Option(help="How many words and signs.")] = None,
    pos: Annotated[str | None, typer.Option(help='Parts of speech, one a word: "DET NOUN VERB".')] = None,
    span: Annotated[
        list[str] | None, typer.Option(help="A constituent: first-last:LABEL, 3-6:PP; again for more.")
    ] = None,
    tree: Annotated[str | None, typer.Option(help='All constituents: "(S (NP _ _) (VP _ (NP _ _)))".')] = None,
    infill: Annotated[str | None, typer.Option(help="A sentence with _ for each word that is missing.")] = None,
    start: Annotated[str | None, typer.Option(help="The words that it begins with.")] = None,
    source: Annotated[
        str | None, typer.Option(help="What to make it from: name[The Punter], food[Italian], or a text.")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="How many sentences.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="The same seed writes the same sentence; random if left out.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(help="Of so many, take the one most like the others (minimum Bayes risk).")
    ] = 1,
    steps: Annotated[int | None, typer.Option(help="Calls of the network; more take longer.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Below 1 likely words come more often; the model's own if left out.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the source; the model's own if left out.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A shipped model (see `inkwash models`) or a folder; if left out, e2e for --control, --pos, --span "
            "and --tree, and e2e-masked, which writes more fluently, for all else."
        ),
    ] = None,
    fields: Annotated[bool, typer.Option("--fields", help="List what can be asked of the model, and stop.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Write sentences that keep to what is asked, one a line."""
    import random

    from inkwash.systems.language.controls import wish
    from inkwash.systems.language.reading import MEANING, meaning, said

    wanted = wish(control or (), pos, span or (), tree, infill, start, length)
    if source is not None and not source.strip():
        raise UserError("source: no words in it")
    available(device)
    from inkwash.systems.language.model import Writer

    model = model or ("e2e" if wanted.steered or fields else "e2e-masked")
    writer = Writer.load(model, device, threads=1)
    if steps is not None and writer.info["engine"] == "next":
        raise UserError(f"{model} writes one word after the other: leave out --steps")
    if fields:
        print(writer.asked())
        return
    if source is not None and MEANING.match(source):
        source = said(meaning(source))
    with progress("steps") as report:
        for text in writer.write(
            n,
            wanted,
            source,
            random.randrange(2**32) if seed is None else seed,
            steps=steps,
            temperature=temperature,
            guidance=guidance,
            candidates=candidates,
            progress=report,
        ):
            print(text)


def evaluate_writer(model: str, data: Path, seed: int, out: Path, steps: int | None) -> None:
    """Prints the whole table of a writer, and keeps it in out/report.json."""
    import json

    from inkwash.systems.language.evaluate import table
    from inkwash.systems.language.model import Writer
    from inkwash.weights.files import atomic

    if not data.is_file():
        raise UserError(f"{data}: no such file; give --data, a table of sentences that the model has not seen")
    writer = Writer.load(model, threads=1)
    with progress("sentences") as report:
        found = writer.evaluate(data, seed=seed, steps=steps, progress=report)
    with atomic(out / "report.json") as file:
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(found))
    print(out / "report.json")
