"""What can be asked of writers."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MaxLen

from inkwash.systems.base import File, Help, Media, Request


@dataclass(frozen=True, kw_only=True)
class Write(Request):
    """Write sentences that keep to what is asked, one a line."""

    control: Annotated[tuple[str, ...], Help("field=value, food=Italian; again for more. --fields lists them.")] = ()
    length: Annotated[int | None, Ge(1), Help("How many words and signs.")] = None
    pos: Annotated[str | None, MaxLen(2000), Help('Parts of speech, one a word: "DET NOUN VERB".')] = None
    span: Annotated[tuple[str, ...], Help("A constituent: first-last:LABEL, 3-6:PP; again for more.")] = ()
    tree: Annotated[str | None, MaxLen(2000), Help('All constituents: "(S (NP _ _) (VP _ (NP _ _)))".')] = None
    infill: Annotated[str | None, MaxLen(2000), Help("A sentence with _ for each word that is missing.")] = None
    start: Annotated[str | None, MaxLen(2000), Help("The words that it begins with.")] = None
    source: Annotated[
        str | None, MaxLen(2000), Help("What to make it from: name[The Punter], food[Italian], or a text.")
    ] = None
    n: Annotated[int, Ge(1), Le(1000), Help("How many sentences.")] = 1
    seed: Annotated[
        int | None, Ge(0), Le(2**64 - 1), Help("The same seed writes the same sentence; random if left out.")
    ] = None
    candidates: Annotated[
        int, Ge(1), Le(1000), Help("Of so many, take the one most like the others (minimum Bayes risk).")
    ] = 1
    steps: Annotated[int | None, Ge(1), Le(10_000), Help("Calls of the network; more take longer.")] = None
    temperature: Annotated[
        float | None, Gt(0), Lt(100), Help("Below 1 likely words come more often; the model's own if left out.")
    ] = None
    guidance: Annotated[
        float | None, Ge(0), Le(30), Help("How closely to follow the source; the model's own if left out.")
    ] = None
    model: Annotated[
        str | None,
        Help(
            "A shipped model (see `inkwash models`) or a folder; if left out, e2e for --control, --pos, --span and "
            "--tree, and e2e-masked, which writes more fluently, for all else."
        ),
    ] = None
    fields: Annotated[bool, Help("List what can be asked of the model, and stop.")] = False

    def model_name(self) -> str:
        return self.model or ("e2e" if self.steered() or self.fields else "e2e-masked")

    def steered(self) -> bool:
        """Whether more is asked than words and length."""
        return bool(self.control or self.pos or self.span or self.tree)

    def basename(self) -> str:
        return "sentences"


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure how well a writer keeps to what is asked, and how fluently, beside sentences that people wrote."""

    model: Annotated[str, Help("A shipped model or a folder.", argument=True)] = "e2e"
    data: Annotated[File, Media("text/csv"), Help("A table of sentences that the model has not seen.")]
    seed: Annotated[int, Ge(0), Le(2**64 - 1), Help("Of the choice of targets and of the sentences.")] = 0
    steps: Annotated[int | None, Ge(1), Le(10_000), Help("Calls of the network, instead of the model's own.")] = None
