"""The verbs of language: from requests to results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from inkwash.errors import UserError
from inkwash.systems import report
from inkwash.systems.base import Context, Result, idle, is_blank, on_progress, options, seeded
from inkwash.systems.language.controls import parse_constraints
from inkwash.systems.language.data import MR, linearize_mr, parse_mr
from inkwash.systems.language.model import Writer
from inkwash.systems.language.request import Evaluate, Write
from inkwash.systems.language.train import default_recipe
from inkwash.systems.train import Task
from inkwash.systems.train import train as run_training

TASKS = {
    "language": Task("inkwash.systems.language.train"),
    "classifier": Task("inkwash.systems.language.train_classifier"),
}


def write(requests: list[Write], context: Context) -> Iterator[Result]:
    for of, request in enumerate(requests):
        constraint = parse_constraints(
            request.control, request.pos, request.span, request.tree, request.infill, request.start, request.length
        )
        source = request.source
        if request.fields:
            idle(request, options(Write).keys() - {"model", "fields"}, "with --fields, which only lists")
        if source is None:
            idle(request, ["guidance"], "without --source")
        if source is not None and is_blank(source):
            raise UserError("source: no words in it")
        name = request.model_name()
        writer = context.model(name)
        if request.fields:
            yield Result(of, None, {}, {"text": writer.describe_controls()})
            continue
        if source is not None and MR.match(source):
            source = linearize_mr(parse_mr(source))
        request = seeded(request)
        texts = writer.write(
            request.n, constraint, source, request.seed,
            steps=request.steps, temperature=request.temperature, guidance=request.guidance,
            candidates=request.candidates, progress=on_progress(context),
        )  # fmt: skip
        for place, text in enumerate(texts):
            one = replace(request, model=name, n=1, seed=(request.seed + place) % 2**64)
            yield Result(of, place, {}, {"text": text}, one.facts() | {"hash": writer.hash})


def measure(request: Evaluate, writer: Writer, context: Context) -> report.Report:
    data = context.open(request.data)
    return writer.evaluate(data, seed=request.seed, steps=request.steps, progress=on_progress(context))


train = partial(run_training, tasks=TASKS, default=default_recipe)
evaluate = partial(report.evaluate, measure=measure)
