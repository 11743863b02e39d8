"""The commands of the studio: starting it, and its users."""

import json
import os
import re
import socket
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from inkwash.cli.commands import app
from inkwash.cli.studio_log import logging_to
from inkwash.cli.studio_places import (
    FilesURL,
    Home,
    StoreURL,
    bucket_of,
    check_files_url,
    check_hidden,
    existing_store,
    folder,
    folder_of_sqlite,
    given_places,
    is_given,
    url_of,
)
from inkwash.cli.studio_worker import (
    MODULES,
    Devices,
    Engines,
    Memory,
    Models,
    Threads,
    devices_of,
    engines_of,
    worker,
    workers,
)
from inkwash.errors import UserError
from inkwash.extras import require

studio_app = typer.Typer(
    help="Run the studio: a page for all verbs, and three APIs for programs.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(studio_app, name="studio")


RUNNING = "a studio is running in {home} already; stop it, or give another --home"
NEVER_RUN = "the studio has never run here: start it with `inkwash studio`"


@studio_app.callback()
def studio(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than this machine's needs users.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for any that is free.")] = 7860,
    name: Annotated[
        list[str] | None, typer.Option(help="A host name by which it is reached, besides --host.")
    ] = None,
    home: Home = None,
    store: StoreURL = None,
    files: FilesURL = None,
    files_url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Where browsers reach that storage, https://s3.example.org: downloads come from there by signed "
            "addresses; left out, they come from here.",
        ),
    ] = "",
    model: Models = None,
    engine: Engines = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="Another name of a model, as dall-e-3=emoji; may be given again."),
    ] = None,
    device: Devices = None,
    threads: Threads = 1,
    memory: Memory = 2000,
    open: Annotated[
        bool, typer.Option("--open", help="No login: all who reach the address may use it, as one guest.")
    ] = False,
    proxy: Annotated[
        bool, typer.Option("--proxy", help="A proxy on this machine stands before it, and says whom it speaks for.")
    ] = False,
    proxy_address: Annotated[
        list[str] | None, typer.Option(help="The same of a proxy elsewhere: its address, or network (172.18.0.0/16).")
    ] = None,
    root_path: Annotated[str, typer.Option(help="The path at which a proxy shows it, such as /inkwash.")] = "",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="A site whose pages may ask with a key: https://app.example.org; may be given again."),
    ] = None,
    login_header: Annotated[str, typer.Option(help="The header in which that proxy names who is logged in.")] = "",
    log: Annotated[
        str | None, typer.Option(help="File of the log; studio.log in its folder if left out, - for here.")
    ] = None,
) -> None:
    """Run the studio: a page for all verbs, and three APIs for programs. It prints the page's address."""
    context.call_on_close(partial(os.umask, os.umask(0o077)))  # what is written is this user's alone
    check_hidden(context, store)
    if context.invoked_subcommand is not None:
        given = [
            f"--{name.replace('_', '-')}"
            for name in context.params
            if name not in ("home", "store", "files") and is_given(context, name)
        ]
        if given:
            raise UserError(
                f"{', '.join(given)}: for starting the studio; leave it out with {context.invoked_subcommand}"
            )
        context.obj = home, store, files
        return
    require("the studio", *MODULES)
    from inkwash.studio import accounts
    from inkwash.studio.catalogue import parse_aliases, shared_models
    from inkwash.studio.engine import Settings
    from inkwash.studio.middleware import check_origin, check_root_path, is_loopback
    from inkwash.studio.proxy import LOCAL_PROXIES, check_proxy
    from inkwash.studio.recovery import check_current
    from inkwash.studio.store import Store
    from inkwash.systems.engines.addresses import parse
    from inkwash.weights.files import lock

    shared = shared_models(model or ())
    engines = engines_of(engine, shared)
    aliases = parse_aliases(alias or (), {*shared, *parse(engines)})
    check_root_path(root_path)
    for one in allow_origin or ():
        check_origin(one)
    for one in proxy_address or ():
        check_proxy(one)
    check_files_url(files_url, files)
    home, url, bucket = folder(home), url_of(store), bucket_of(files)
    devices = () if device == ["none"] else devices_of(device)
    if not devices and not url:
        raise UserError(
            "--device none: with SQLite nobody else can draw; give --store, a database that workers share, too"
        )
    if idle := [f"--{name}" for name in ("threads", "memory") if not devices and is_given(context, name)]:
        raise UserError(
            f"{', '.join(idle)}: of the workers here, and with --device none there are none; leave it out"
        )
    tables = existing_store(home, url, bucket)
    if login_header and not (proxy or proxy_address):
        raise UserError("--login-header: only a proxy says who is logged in; give --proxy or --proxy-address, too")
    if not re.fullmatch(r"[A-Za-z0-9-]*", login_header):
        raise UserError(f"--login-header {login_header}: a header's name has letters, digits and hyphens")
    if not is_loopback(host) and not open and (tables is None or not accounts.has_accounts(tables)):
        raise UserError(
            f"--host {host}: others could come in, and there are no users: "
            "add one with `inkwash studio user NAME`, or give --open"
        )
    running = RUNNING.format(home=home)
    with ExitStack() as stack:
        if tables is not None and not url:  # first: one that runs there is told of rather than its port
            stack.enter_context(lock(home / "lock", running))
        listener = stack.enter_context(listen(host, port))
        if tables is None:
            tables = Store(home)
            stack.enter_context(lock(home / "lock", running))
        if not url:  # else others may work there, and what they have not written yet is not lost
            check_current(tables)
        warn_if_open(home)
        number = listener.getsockname()[1]
        name_of_log = f"studio-{socket.gethostname()}-{number}.log" if url else "studio.log"
        stack.enter_context(logging_to(home, log, name_of_log))
        settings = Settings(
            home=home,
            host=host,
            port=number,
            names=tuple(one.lower() for one in name or ()),
            origins=tuple(allow_origin or ()),
            root_path=root_path,
            proxies=(*(LOCAL_PROXIES if proxy else ()), *(proxy_address or ())),
            open=open,
            login_header=login_header,
            devices=devices,
            threads=threads,
            memory=memory,
            models=tuple(model or ()),
            engines=engines,
            aliases=aliases,
            store=url,
            bucket=bucket,
            downloads=files_url.rstrip("/"),
        )
        serve(settings, listener, tables, accounts.local_user(tables))


def serve(settings: Any, listener: socket.socket, store: Any, user: Any) -> None:
    """Until it is stopped. UserError for what keeps it from starting."""
    from inkwash.studio import accounts
    from inkwash.studio.app import create
    from inkwash.studio.server import make_server, raise_file_limit

    application = create(settings)
    raise_file_limit()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{settings.port}{settings.root_path}"
    save_local_access(store, user, address)
    link = f"{address}/#token={accounts.issue(store, user.id, 'link')}"
    if settings.open:
        print(f"The studio is at {address}")
        print("All who reach it may use it, as one guest: what one of them makes, all of them see and may delete.")
        print(f"As yourself: {link}")
    else:
        print(f"The studio is at {link}")
    print("The link lets you in once, within an hour; `inkwash studio link` makes another.")
    results = settings.bucket or settings.home
    print(f"Programs: `inkwash studio key` makes a key; {address}/docs says how. Results are in {results}.")
    print(
        "Ctrl-C stops it when what is drawn is done, and again at once; the queue goes on at the next start.",
        flush=True,
    )
    try:
        make_server(application, leave=application.state.engine.leave).run(sockets=[listener])
    except SystemExit:
        raise UserError("the studio could not start; its log says why") from None


studio_app.command()(worker)
studio_app.command()(workers)


@studio_app.command()
def key(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    user: Annotated[str, typer.Option(help="Whose it is.")] = "local",
    home: Home = None,
    store: StoreURL = None,
    files: FilesURL = None,
) -> None:
    """Make a key for a program, and print it."""
    print(issue_token(*given_places(context, home, store, files), user, "key", name))


@studio_app.command()
def link(
    context: typer.Context,
    user: Annotated[str, typer.Option(help="Whom it lets in.")] = "local",
    home: Home = None,
    store: StoreURL = None,
    files: FilesURL = None,
) -> None:
    """Make a link that opens the page once, and print it. The studio must be running."""
    place, url, bucket = given_places(context, home, store, files)
    local = place / "local.json"
    if not local.exists():
        raise UserError(NEVER_RUN)
    try:
        address = json.loads(local.read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{local}: it cannot be read ({error}); start the studio anew, which writes it") from None
    print(f"{address}/#token={issue_token(place, url, bucket, user, 'link', '')}")


@studio_app.command("user")
def add_user(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="May open and close accounts.")] = None,
    daily: Annotated[
        int | None, typer.Option(min=0, max=10**6, help="Results in 24 hours; no limit, or as before.")
    ] = None,
    disk: Annotated[
        int | None,
        typer.Option(min=0, max=10**9, help="MB of results, models, uploads and trainings; no limit, or as before."),
    ] = None,
    close: Annotated[bool, typer.Option("--close", help="Close the account instead.")] = False,
    home: Home = None,
    store: StoreURL = None,
    files: FilesURL = None,
) -> None:
    """Open an account, change its rights alone by --admin, --daily and --disk, or give it a new password, which is
    asked for, or read from standard input. `guest` is whom all are in an open studio who did not sign in."""
    require("the studio", *MODULES)
    from inkwash.studio import accounts
    from inkwash.studio.store import Store
    from inkwash.studio.tables import name_key

    place, url, bucket = given_places(context, home, store, files)
    tables = existing_store(place, url, bucket)
    found = None if tables is None else accounts.find_user(tables, name)
    if found is None and name_key(name) == accounts.GUEST:
        tables = tables or Store(place)
        found = accounts.guest_user(tables)
    name = found.name if found else name.strip()
    if (name if found else name_key(name)) == accounts.LOCAL:
        raise UserError(f"{name}: whoever runs the studio on this machine; it has no password and cannot be changed")
    rights: dict[str, Any] = {"admin": admin, "daily": daily, "disk": None if disk is None else disk * 10**6}
    given = {key: value for key, value in rights.items() if value is not None}
    if close and given:
        raise UserError(f"--close: nothing else can be changed with it; leave out --{' and --'.join(given)}")
    if close or (found and given):
        if tables is None or found is None:
            raise UserError(f"there is no user '{name}'")
        accounts.change_user(tables, found.id, **({"active": False} if close else given))
        print(f"{name}: closed" if close else f"{name}: changed; the password, keys and sessions are as before")
        return
    if found and found.id == accounts.GUEST:
        accounts.change_user(tables, found.id, active=True)
        print(f"{name}: whom all are in an open studio who did not sign in; has no password")
        return
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = read_line(sys.stdin)
    if tables is not None and found is not None:
        accounts.change_user(tables, found.id, password=password, active=True)
        print(f"{name}: may log in with the new password; keys and sessions are ended")
        return
    accounts.check_name(name)
    accounts.check_password(password)
    accounts.add_user(tables or Store(place), name, password, **given)
    print(f"{name}: may log in")


@studio_app.command("backup")
def back_up(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder, or an earlier backup.")],
    home: Home = None,
) -> None:
    """Copy all that the studio keeps, while it runs, too; or add to an earlier backup what is new."""
    require("the studio", *MODULES)
    from inkwash.studio.backup import backup

    copied = backup(folder_of_sqlite(context, home), target)
    print(f"{target}: {copied.results} results, {copied.files} files, {copied.bytes / 1e6:.1f} MB")
    if copied.missing:
        raise UserError(
            f"{len(copied.missing)} files that the database names are lost or damaged, such as {copied.missing[0]}; "
            "all else was copied"
        )


@studio_app.command("restore")
def restore_backup(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="A backup.")],
    home: Home = None,
    store: StoreURL = None,
    files: FilesURL = None,
) -> None:
    """Make the studio's folder anew from a backup; with --store a studio on PostgreSQL, whose files --files may put
    into a bucket. The studio must not be running, nor its database be there."""
    require("the studio", *MODULES)
    from inkwash.studio.backup import restore
    from inkwash.studio.moving import restore_to_postgresql

    place, url, bucket = given_places(context, home, store, files)
    copied = restore_to_postgresql(source, place, url, bucket) if url or bucket else restore(source, place)
    print(f"{bucket or place}: {copied.results} results, {copied.files} files, {copied.bytes / 1e6:.1f} MB")


@studio_app.command("recover")
def recover_files(
    context: typer.Context,
    user: Annotated[str, typer.Option(help="Whose they shall be.")] = "local",
    home: Home = None,
) -> None:
    """Take in pictures and models that the database does not name, as after it was lost. The studio must not be
    running."""
    require("the studio", *MODULES)
    from inkwash.studio.database import folder_errors
    from inkwash.studio.recovery import recover
    from inkwash.weights.files import lock

    place = folder_of_sqlite(context, home)
    if not place.is_dir():
        raise UserError(NEVER_RUN)
    with folder_errors(place), lock(place / "lock", RUNNING.format(home=place)):
        found = recover(place, user)
    print(f"{found.results} pictures and {found.models} models taken in; {found.left} files stay in lost+found")


def read_line(file: TextIO) -> str:
    try:
        line = file.readline().rstrip("\n")
        line.encode()  # where it is read with surrogates
    except UnicodeError:
        raise UserError("the password on standard input is no UTF-8; write it in that") from None
    return line


def warn_if_open(home: Path) -> None:
    """The folder may be one that its owner shares, so it stays as it is."""
    if os.name != "nt" and home.stat().st_mode & 0o077:
        print(f"inkwash: others on this machine may look into {home}; `chmod 700 {home}` ends that", file=sys.stderr)


def issue_token(home: Path, url: str, bucket: str, user: str, kind: str, name: str) -> str:
    require("the studio", *MODULES)
    from inkwash.studio import accounts
    from inkwash.studio.errors import APIError
    from inkwash.studio.tables import name_key

    if not name.isprintable():
        raise UserError("--name: it has signs that cannot be printed; choose another")
    store = existing_store(home, url, bucket)
    if store is None:
        raise UserError(NEVER_RUN)
    found = accounts.local_user(store) if name_key(user) == accounts.LOCAL else accounts.find_user(store, user)
    if found is None:
        raise UserError(f"there is no user '{user}': make one with `inkwash studio user {user}`")
    try:
        return accounts.issue(store, found.id, kind, name)
    except APIError as error:
        if error.code != "account_closed":
            raise UserError(f"{user}: {error.message}") from None
        raise UserError(f"the account '{user}' is closed: `inkwash studio user {user}` opens it again") from None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, before anything else is begun."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # with the protocol named, asyncio sends each answer at once; else every one of them would wait 40 ms
        listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if sys.platform != "win32":  # where it would let two studios listen at one port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}, port {port}: {error.strerror}; give another --port or --host"
        ) from None


def save_local_access(store: Any, user: Any, address: str) -> None:
    """Where the studio is and a key to it, for `inkwash.Studio()` on this machine: readable by this user alone."""
    from inkwash.studio import accounts
    from inkwash.studio.database import folder_errors
    from inkwash.weights.files import atomic, check_ours

    local = store.home / "local.json"
    with folder_errors(store.home):
        check_ours(local, '"key"')
    try:
        key = json.loads(local.read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError):
        key = ""
    if accounts.holder(store, key, "key") is None:
        key = accounts.issue(store, user.id, "key", "this machine")
    with folder_errors(store.home), atomic(local) as file:
        file.touch(mode=0o600)
        file.write_text(json.dumps({"url": address, "key": key}), encoding="utf-8")
