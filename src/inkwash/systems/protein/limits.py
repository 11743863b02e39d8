"""What a model of backbones says without being loaded: what it narrows, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inkwash.systems import plans
from inkwash.systems.base import Limit, Plan
from inkwash.systems.protein.contigs import parse_length
from inkwash.systems.protein.request import Scaffold
from inkwash.weights.shipped import describe, locate

GRADIENTS = 2.5  # TDS also walks backwards through the network
# operations for each pair of residues, by networks of width 64: measured at 64 and 100 residues, as 40 % of a core's
OPERATIONS = {"frames": 55_000, "protdiff": 180_000}
FILE = 40_000  # bytes of a structure


def limits(folder: Path) -> dict[str, Limit]:
    """The defaults."""
    facts: dict[str, Any] = describe(folder)
    return {"steps": Limit(default=facts["steps"])}


def plan(request: Any, folder: Path | None, device: str, threads: int) -> Plan:
    """By the pairs of residues, of the longest chains that the model makes where only the motif's file says how long
    they are."""
    facts: dict[str, Any] = describe(folder or locate(request.model))
    length = sum(parse_length(request.length)) / 2 if request.length else facts["max_length"]
    calls = request.n * (request.steps or facts["steps"])
    if isinstance(request, Scaffold):
        calls *= request.count() * (GRADIENTS if request.method == "tds" else 1)
    work = OPERATIONS[facts["engine"]] * facts["network"]["width"] / 64 * length**2
    return Plan(plans.seconds(calls * work, device, threads), request.n * FILE)
