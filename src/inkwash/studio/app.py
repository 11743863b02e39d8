"""The APIs and the page together, as one application."""

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import inkwash
from inkwash.studio import a1111, accounts, api, fleet, openai, people, verbs
from inkwash.studio.auth import (
    AT_ONCE,
    LOGINS,
    PER_LOGIN,
    PER_SECOND,
    PER_TRY,
    TRIES,
    Admin,
    CurrentEngine,
    bucket,
    cookie,
    engine_of,
)
from inkwash.studio.engine import Engine, Settings
from inkwash.studio.errors import APIError, DatabaseUnusable, StorageUnusable
from inkwash.studio.middleware import Guard, error_response, inner_path
from inkwash.studio.proxy import BehindProxy

PAGE = Path(__file__).with_name("page")
STATUSES = ("queued", "running", "paused", "done", "failed", "cancelled")
NO_CACHE = "no-cache"  # of the page's own files: asked for each time, sent only if they changed
PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}  # also of routes that give files
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"content": PROBLEM, "description": what}
    for status, what in {
        400: "What was asked for cannot be.",
        401: "Nobody is logged in.",
        403: "It is not allowed.",
        404: "There is no such thing.",
        409: "It was cancelled.",
        413: "The body is too long.",
        415: "The body is of another kind.",
        422: "What was asked for cannot be.",
        429: "Too much, too often; `Retry-After` says when to ask again.",
        503: "The database, or the storage, cannot be used, or is locked: `Retry-After` says when to ask again.",
        504: "It takes too long.",
        507: "The disk is full.",
    }.items()
}


class Health(BaseModel):
    status: str
    workers: int


def create(settings: Settings) -> FastAPI:
    """The application of a studio. Its workers run while its lifespan does."""
    engine = Engine(settings)
    if settings.open:
        accounts.guest_user(engine.store)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine.running():
            yield

    app = FastAPI(
        title="inkwash studio",
        version=inkwash.__version__,
        description="All verbs of inkwash, as jobs. Send a key as `Authorization: Bearer KEY`: `inkwash studio key`.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
    )
    app.state.engine = engine
    app.state.rate = bucket(engine, "rate", PER_SECOND, AT_ONCE)
    app.state.tries = bucket(engine, "tries", 1 / PER_TRY, TRIES)
    app.state.logins = bucket(engine, "logins", 1 / PER_LOGIN, LOGINS)
    app.state.streams, app.state.waits = Counter(), Counter()
    for router in (verbs.router(), api.router, people.router, openai.router):
        app.include_router(router, dependencies=[Depends(check_parameters)])
    for router in (api.public, a1111.router):  # whose addresses others may lengthen, to come past a cache
        app.include_router(router)
    add_page(app)
    add_operations(app)
    app.add_exception_handler(APIError, api_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_middleware(Guard, engine=engine)
    if settings.proxies:
        app.add_middleware(BehindProxy, proxies=settings.proxies)
    return app


async def check_parameters(request: Request) -> None:
    """APIError for a parameter of the query, or a part of a form, that the route does not have: it would change
    nothing."""
    route = request.scope["route"].dependant
    unknown = set(request.query_params) - {field.alias for field in route.query_params}
    if parts := {field.alias for field in route.body_params if isinstance(field.field_info, Form)}:
        unknown |= set(await request.form()) - parts  # as FastAPI has read it
    if unknown:
        name = min(unknown)[:60]
        raise APIError(422, f"unknown parameter '{name}'", "unknown_parameter", name)


def add_operations(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operations"], responses={503: {"model": Health}})
    async def healthz(engine: CurrentEngine, response: Response) -> Health:
        """Whether jobs are taken and worked on."""
        ready = sum(state.ready for state in engine.workers.values())
        status = "busy" if engine.store.is_busy else "ok" if ready or not engine.workers else "starting"
        try:
            await to_thread.run_sync(engine.store.check)  # which may ask the storage
            if not engine.workers:  # they are elsewhere
                ready = len(await to_thread.run_sync(fleet.alive, engine.store))
            status = "disk full" if engine.store.is_full() else status
        except (DatabaseUnusable, StorageUnusable) as error:
            status = error.code.replace("_", " ")
        response.status_code = 200 if status == "ok" else 503
        return Health(status=status, workers=ready)

    @app.get(
        "/metrics", tags=["operations"], response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    def metrics(user: Admin, engine: CurrentEngine) -> Response:
        """Figures for Prometheus."""
        for status in STATUSES:
            engine.metrics.jobs.labels(status).set(0)
        for status, count in engine.store.count().items():
            engine.metrics.jobs.labels(status).set(count)
        found = fleet.alive(engine.store)
        engine.metrics.fleet.set(len(found) or sum(state.ready for state in engine.workers.values()))  # as of SQLite
        engine.metrics.unserved.clear()
        for (name, hash), count in fleet.unserved(engine.store, found).items():
            engine.metrics.unserved.labels(f"{name} {hash[:10]}").set(count)
        return Response(generate_latest(engine.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page(request: Request, engine: CurrentEngine) -> Response:
        """The page. It lets nobody in; of a session that is over it takes the cookie away."""
        response = html("index.html", engine, {"cache-control": NO_CACHE})
        session = request.cookies.get(cookie(engine))
        if session is not None and accounts.holder(engine.store, session, "session") is None:
            people.drop_cookie(response, engine)
        return response

    @app.get("/docs", include_in_schema=False)
    def docs(engine: CurrentEngine) -> Response:
        """The reference of the API."""
        return html("docs.html", engine, {"content-security-policy": DOCS_POLICY})

    app.mount("/static", Static(directory=PAGE))
    app.mount("/static-docs", Static(directory=str(files("fastapi_offline") / "static")))


def html(name: str, engine: Engine, headers: dict[str, str]) -> HTMLResponse:
    """A page, whose addresses are relative to where the studio is."""
    text = (PAGE / name).read_text(encoding="utf-8")
    base = f'<base href="{engine.settings.root_path}/">'
    return HTMLResponse(text.replace('<base href="/">', base, 1), headers=headers)


# Swagger's page writes styles into its elements
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'none'"
)


class Static(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["cache-control"] = NO_CACHE
        return response


def path_of(request: Request) -> str:
    return inner_path(request.scope["path"], engine_of(request).settings.root_path)


async def api_error(request: Request, error: Any) -> Response:
    return error_response(path_of(request), error)


async def validation_error(request: Request, error: Any) -> Response:
    """The first thing that is wrong with the body or the query, in one line."""
    first = error.errors()[0]
    param = ".".join(map(str, first["loc"][1:])) or None
    message, code = f"{param}: {first['msg']}" if param else first["msg"], "invalid_value"
    if first["type"] == "extra_forbidden":
        message, code = f"unknown parameter '{str(param)[:60]}'", "unknown_parameter"
    return error_response(path_of(request), APIError(422, message, code, param))


async def http_error(request: Request, error: Any) -> Response:
    messages = {404: ("there is nothing here", "not_found"), 405: ("this cannot be done here", "method_not_allowed")}
    message, code = messages.get(error.status_code, (str(error.detail), "invalid_request"))
    response = error_response(path_of(request), APIError(error.status_code, message, code))
    response.headers.update(error.headers or {})
    return response


class JSONFormatter(logging.Formatter):
    """A line of JSON for each event."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower()}
        facts |= {"event": record.getMessage(), **getattr(record, "facts", {})}
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False)
