"""Where a studio keeps its tables and its files, as its commands are told."""

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from inkwash.errors import UserError
from inkwash.extras import require
from inkwash.systems.engines.addresses import has_host


def path_of(text: str | Path) -> Path:
    """UserError for what the shell makes of a variable that is not set."""
    if text == "":
        raise UserError("--home is empty; name a folder, or leave it out")
    return Path(text)


Home = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", parser=path_of, help="Folder of its data; ~/.local/share/inkwash/studio if left out."
    ),
]
StoreURL = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="INKWASH_STORE",
        help="postgresql://USER@HOST/DATABASE for its tables, which several servers may share; SQLite, in --home, if "
        "left out.",
    ),
]
FilesURL = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="INKWASH_FILES",
        help="s3://BUCKET/PREFIX of S3-compatible storage for its files; AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY say which. They are in --home if left out.",
    ),
]


def folder(home: Path | None) -> Path:
    """--home, or what INKWASH_HOME says, or the default."""
    return (home or Path(os.environ.get("INKWASH_HOME") or Path.home() / ".local/share/inkwash/studio")).expanduser()


def url_of(store: str | None) -> str:
    """UserError for what the shell makes of a variable that is not set."""
    if store is not None and not store.strip():
        raise UserError("--store is empty; give the address of a database, or leave it out (INKWASH_STORE, too)")
    return store or ""


def bucket_of(files: str | None) -> str:
    """The same of --files."""
    if files is not None and not files.strip():
        raise UserError("--files is empty; give the address of a bucket, or leave it out (INKWASH_FILES, too)")
    return (files or "").rstrip("/")


def check_files_url(address: str, files: str | None) -> None:
    """UserError for what is no address of a server, or is of no use."""
    if not address:
        return
    if not files:
        raise UserError("--files-url: only files of a bucket are fetched elsewhere; give --files, too")
    require("--files", "s3fs")
    from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url  # which sign no other addresses

    is_host = has_host(address) and (is_valid_endpoint_url(address) or is_valid_ipv6_endpoint_url(address))
    if not (re.fullmatch(r"https?://[^/@\s?#]+/?", address) and is_host):
        raise UserError("--files-url: the address of a server is needed, such as https://s3.example.org")


def given_places(
    context: typer.Context, home: Path | None, store: str | None, files: str | None
) -> tuple[Path, str, str]:
    """The folder, the database and the bucket, whether they are given after the command or before it; what the
    environment says counts where neither is."""
    check_hidden(context, store)
    after = {"home": home, "store": store, "files": files}
    found = dict(zip(after, context.obj, strict=True))
    for name in filter(partial(is_given, context), after):
        assert context.parent is not None
        if is_given(context.parent, name) and found[name] != after[name]:
            raise UserError(
                f"--{name}: one stands before {context.info_name}, another after it; leave one of them out"
            )
        found[name] = after[name]
    return folder(found["home"]), url_of(found["store"]), bucket_of(found["files"])


def folder_of_sqlite(context: typer.Context, home: Path | None) -> Path:
    """UserError where the tables are in PostgreSQL."""
    place, store, files = given_places(context, home, None, None)
    if store or files:
        raise UserError(
            "the studio's tables are in PostgreSQL, and this is for SQLite's: use pg_dump and pg_restore, "
            "and copy the folder after the dump; or leave out --store and INKWASH_STORE"
        )
    return place


def check_hidden(context: typer.Context, store: str | None) -> None:
    """UserError for a password that others on this machine may see."""
    if store and is_given(context, "store") and re.search(r"//[^:/]*:[^@]*@|password=", store):
        raise UserError(
            "--store: others on this machine could see its password; put the address in INKWASH_STORE, "
            "or the password in ~/.pgpass"
        )


def existing_store(home: Path, url: str, bucket: str = "") -> Any:
    """The store in the folder, or in PostgreSQL; None where no studio has been: nothing is made in a folder."""
    from inkwash.studio.sqlite import check_folder
    from inkwash.studio.store import Store

    if url or bucket or os.path.lexists(home / "studio.db"):
        return Store(home, url=url, bucket=bucket)
    check_folder(home)
    return None


def is_given(context: Any, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
