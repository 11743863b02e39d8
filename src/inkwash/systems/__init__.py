"""The applications, one room each, all built alike: a folder here, or a package with the entry point
`inkwash.systems` that names its `SYSTEM`. A room may have several, its `SYSTEMS`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from inkwash.errors import UserError, unknown
from inkwash.extras import require
from inkwash.systems.base import System, reading, resolve
from inkwash.weights.shipped import describe, locate


@cache
def systems() -> dict[str, System]:
    """All of them, by name."""
    rooms = sorted(file.parent.name for file in Path(__file__).parent.glob("*/__init__.py"))
    modules = [import_module(f"{__name__}.{room}") for room in rooms]
    found = [system for module in modules for system in getattr(module, "SYSTEMS", None) or (module.SYSTEM,)]
    found += [entry.load() for entry in entry_points(group=__name__)]
    return {system.name: system for system in found}


MAX_THREADS = 1024  # more than any machine has; their stacks alone would fill the memory


def system_of(folder: Path) -> System:
    """The system of a model's folder."""
    name = str(describe(folder).get("system"))
    if name not in systems():
        raise UserError(f"{folder}: a model of system '{name}', which this version does not know")
    return systems()[name]


def of_task(task: str) -> System:
    """The system whose recipes have this task."""
    tasks = {task: system for system in systems().values() for task in system.tasks}
    if task not in tasks:
        raise unknown("task", task, tasks)
    return tasks[task]


def makes(folder: Path) -> str:
    """What the model in this folder makes, in a few words."""
    system = system_of(folder)
    with reading(folder):
        return str(resolve(system.makes)(describe(folder))) if system.makes else system.help


def available(system: System, verb: str = "") -> None:
    """UserError, with what to install, where a module is missing that the whole system needs, or this verb of it."""
    needed = [module for module, verbs in system.modules.items() if not verbs or verb in verbs.split(", ")]
    require(f"{system.name} {verb}".strip(), *needed)


def check_device(device: str) -> None:
    """UserError for a device that is unknown, or not there; "cuda:1" is the second of several."""
    if device.partition(":")[0] not in (known := ("cpu", "cuda", "mps")):
        raise unknown("device", device, known)
    if device != "cpu":
        from inkwash.training.placement import device_of

        device_of(device)


def load(
    name: str | Path,
    device: str = "cpu",
    precision: str = "float32",
    runtime: str | None = None,
    threads: int | None = None,
    **components: Any,
) -> Any:
    """The model of a shipped name or a folder, as its system loads it; see `inkwash.load`."""
    folder = locate(name)
    system = system_of(folder)
    available(system)
    check_device(device)
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MAX_THREADS):
        raise UserError(f"threads = {threads}: choose a whole number from 1 to {MAX_THREADS}")
    return resolve(system.load)(folder, device, precision, runtime, threads, **components)
