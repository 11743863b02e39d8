"""The APIs and the page together, as one application."""

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import inkwash
from inkwash.studio import a1111, accounts, api, openai, people, verbs
from inkwash.studio.auth import AT_ONCE, LOGINS, PER_LOGIN, PER_SECOND, PER_TRY, TRIES, Admin, Bucket, CurrentEngine
from inkwash.studio.engine import Engine, Settings
from inkwash.studio.errors import APIError
from inkwash.studio.middleware import Guard, error_response

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
    app.state.rate = Bucket(PER_SECOND, AT_ONCE)
    app.state.tries, app.state.logins = Bucket(1 / PER_TRY, TRIES), Bucket(1 / PER_LOGIN, LOGINS)
    app.state.streams, app.state.waits = Counter(), Counter()
    for router in (verbs.router(), api.router, people.router, openai.router):
        app.include_router(router, dependencies=[Depends(check_query)])
    for router in (api.public, a1111.router):  # whose addresses others may lengthen, to come past a cache
        app.include_router(router)
    add_page(app)
    add_operations(app)
    app.add_exception_handler(APIError, api_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_middleware(Guard, engine=engine)
    return app


def check_query(request: Request) -> None:
    """APIError for a query's parameter that the route does not have: it would change nothing."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    if unknown := [name for name in request.query_params if name not in known]:
        raise APIError(422, f"unknown parameter '{unknown[0][:60]}'", "unknown_parameter", unknown[0][:60])


def add_operations(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operations"], responses={503: {"model": Health}})
    def healthz(engine: CurrentEngine, response: Response) -> Health:
        """Whether jobs are taken and worked on."""
        ready = sum(state.ready for state in engine.workers.values())
        status = "disk full" if engine.store.is_full() else "ok" if ready else "starting"
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
        return Response(generate_latest(engine.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page(request: Request, engine: CurrentEngine, token: str = "") -> Response:
        """The page; with a one-time link's token, first a session for its user."""
        if not token:
            return HTMLResponse((PAGE / "index.html").read_bytes(), headers={"cache-control": NO_CACHE})
        user = accounts.redeem(engine.store, token[:200])
        response = RedirectResponse("/" if user else "/?used=1", status_code=303)
        if user is not None:
            people.begin_session(request, response, engine, user)
        return response

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        """The reference of the API."""
        policy = {"content-security-policy": DOCS_POLICY}
        return HTMLResponse((PAGE / "docs.html").read_bytes(), headers=policy)

    app.mount("/static", Static(directory=PAGE))
    app.mount("/static-docs", Static(directory=str(files("fastapi_offline") / "static")))


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


async def api_error(request: Request, error: Any) -> Response:
    return error_response(request.url.path, error)


async def validation_error(request: Request, error: Any) -> Response:
    """The first thing that is wrong with the body or the query, in one line."""
    first = error.errors()[0]
    param = ".".join(map(str, first["loc"][1:])) or None
    message, code = f"{param}: {first['msg']}" if param else first["msg"], "invalid_value"
    if first["type"] == "extra_forbidden":
        message, code = f"unknown parameter '{str(param)[:60]}'", "unknown_parameter"
    return error_response(request.url.path, APIError(422, message, code, param))


async def http_error(request: Request, error: Any) -> Response:
    messages = {404: ("there is nothing here", "not_found"), 405: ("this cannot be done here", "method_not_allowed")}
    message, code = messages.get(error.status_code, (str(error.detail), "invalid_request"))
    response = error_response(request.url.path, APIError(error.status_code, message, code))
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
