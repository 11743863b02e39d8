"""A route for each verb of each system, made from its request: jobs, and what they would take."""

import inspect
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel

from inkwash.studio.auth import CurrentEngine, CurrentUser, same_origin
from inkwash.studio.catalogue import offered_verbs
from inkwash.studio.requests import schema
from inkwash.studio.schemas import Job, Plan
from inkwash.studio.tables import sha256
from inkwash.studio.views import job_of
from inkwash.systems import systems
from inkwash.systems.base import System, Verb

PREVIEWS = 3  # of each result, if it is not said


def router() -> APIRouter:
    found = APIRouter(prefix="/api", tags=["studio"])
    for system in systems().values():
        for name, verb in offered_verbs(system).items():
            path, about = f"{system.name}/{name}", inspect.getdoc(verb.request)
            new_job, plan = endpoints(system, name, verb)
            found.add_api_route(f"/jobs/{path}", new_job, methods=["POST"], status_code=202, description=about)
            found.add_api_route(f"/plans/{path}", plan, methods=["POST"], description=about)
    return found


def endpoints(system: System, name: str, verb: Verb) -> tuple[Any, Any]:
    def new_job(
        form: BaseModel,
        user: CurrentUser,
        engine: CurrentEngine,
        request: Request,
        previews: Annotated[int, Query(ge=0, le=8, description="How often a result is shown on its way.")] = PREVIEWS,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Job:
        key = None if idempotency_key is None else f"key:api:{sha256(idempotency_key)}"
        values = form.model_dump()
        api = "page" if same_origin(request) and "authorization" not in request.headers else "api"
        job = engine.submit(user, system.name, name, values, api=api, idempotency_key=key, previews=previews)
        return job_of(engine, job)

    def plan(form: BaseModel, user: CurrentUser, engine: CurrentEngine) -> Plan:
        request, folder = engine.prepare(user, system, name, form.model_dump())
        return Plan(**engine.plan_of(verb, request, folder)._asdict())

    new_job.__annotations__["form"] = plan.__annotations__["form"] = schema(system, name, verb)
    return new_job, plan
