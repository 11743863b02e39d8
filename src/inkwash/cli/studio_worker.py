"""Workers without a server: `inkwash studio worker`."""

import asyncio
import signal
from collections.abc import Collection
from typing import Annotated, Any

import typer

from inkwash.cli.studio_log import logging_to
from inkwash.cli.studio_places import FilesURL, Home, StoreURL, existing_store, given_places
from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems import MAX_THREADS, check_device

MODULES = ("fastapi", "uvicorn", "sqlalchemy", "argon2", "prometheus_client", "python_multipart", "fastapi_offline")
Models = Annotated[
    list[str] | None,
    typer.Option(help="A model of your own, another tool's checkpoint, or a folder of these; may be given again."),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(help="cpu, cuda or mps; a worker for each; of a server also none: workers elsewhere draw."),
]
Threads = Annotated[int, typer.Option(min=1, max=MAX_THREADS, help="Threads of a worker.")]
Engines = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=URL#MODEL",
        envvar="INKWASH_ENGINES",
        help="An engine that speaks OpenAI's images protocol, as qwen=http://host:8000/v1#Qwen/Qwen-Image: the model "
        "NAME draws there. INKWASH_ENGINE_KEYS has their keys, NAME=KEY. May be given again.",
    ),
]
Memory = Annotated[int, typer.Option(min=500, help="MB that a worker may keep between jobs.")]


def worker(
    context: typer.Context,
    home: Home = None,
    store: StoreURL = None,
    files: FilesURL = None,
    model: Models = None,
    engine: Engines = None,
    device: Devices = None,
    threads: Threads = 1,
    memory: Memory = 2000,
    log: Annotated[str, typer.Option(help="File of the log; - for here.")] = "-",
) -> None:
    """Draw for the servers that share a database, on this machine, without a server. Ctrl-C or SIGTERM ends it when
    what it draws is done, Ctrl-C again at once; the rest of a job is others'."""
    require("the studio", *MODULES)
    from inkwash.studio.catalogue import shared_models
    from inkwash.studio.supervisor import Settings, Supervisor

    engines = engines_of(engine, shared_models(model or ()))
    place, url, bucket = given_places(context, home, store, files)
    if not url:
        raise UserError(
            "a worker without a server needs the database that it shares with them: give --store, or INKWASH_STORE; "
            "SQLite's is one server's alone, whose workers `inkwash studio --device` starts"
        )
    settings = Settings(
        home=place,
        devices=devices_of(device),
        threads=threads,
        memory=memory,
        models=tuple(model or ()),
        engines=engines,
        store=url,
        bucket=bucket,
    )
    supervisor = Supervisor(settings)
    with logging_to(place, log):
        assert supervisor.store.postgresql is not None
        print(f"Drawing on {', '.join(settings.devices)} for the studio in {supervisor.store.postgresql.name}")
        print("Ctrl-C stops it when what is drawn is done, and again at once.", flush=True)
        if not asyncio.run(work(supervisor)):
            raise KeyboardInterrupt


def workers(context: typer.Context, home: Home = None, store: StoreURL = None, files: FilesURL = None) -> None:
    """List the workers of all servers that share a database, and the models that jobs wait for and none has."""
    require("the studio", *MODULES)
    from inkwash.studio import fleet

    place, url, bucket = given_places(context, home, store, files)
    if not url:
        raise UserError("with SQLite the studio's workers are its server's: /metrics shows them; or give --store")
    tables = existing_store(place, url, bucket)
    found = fleet.alive(tables)
    for row in found:
        print(f"{row.name}  {row.host}  {row.device}  {row.version}  {len(row.models)} models")
    print(f"{len(found)} workers")
    for (name, hash), count in fleet.unserved(tables, found).items():
        print(f"{count} jobs wait for the model {name} ({hash[:10]}), which no worker has")


def devices_of(device: list[str] | None) -> tuple[str, ...]:
    """UserError for one that is not there, or there twice."""
    for one in device or ():
        check_device(one)
        if (device or []).count(one) > 1:
            raise UserError(f"--device {one}: given twice, and a device has one worker; leave one of them out")
    return tuple(device or ("cpu",))


def engines_of(engine: list[str] | None, shared: Collection[str]) -> tuple[str, ...]:
    """UserError for what is no address, has another model's name, or has a key that is none."""
    from inkwash.systems.engines import addresses

    found = addresses.parse(engine or ())
    for name in filter(shared.__contains__, found):
        raise UserError(f"engine {name}: there is a model '{name}' already; choose another name")
    addresses.keys(found)
    return tuple(engine or ())


async def work(supervisor: Any) -> bool:
    """Until a signal says that it shall end; whether what was drawn then was waited for."""
    loop, asked, told = asyncio.get_running_loop(), asyncio.Event(), list[int]()

    def end(number: int, _: object) -> None:
        if told and number == signal.SIGINT:
            supervisor.leave()
        told.append(number)
        loop.call_soon_threadsafe(asked.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    async with supervisor.running():
        await asked.wait()
    return not supervisor.leaving.is_set()
