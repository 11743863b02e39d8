"""The studio without its APIs: it takes jobs, and says what becomes of them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anyio import to_thread
from sqlalchemy import Row

from inkwash.studio import requests, uploads
from inkwash.studio.accounts import User
from inkwash.studio.catalogue import named
from inkwash.studio.errors import APIError, invalid
from inkwash.studio.files import SVG
from inkwash.studio.library import OPEN, NewFile
from inkwash.studio.store import NewJob
from inkwash.studio.supervisor import Progress as Progress
from inkwash.studio.supervisor import Settings as Settings
from inkwash.studio.supervisor import Supervisor
from inkwash.systems import available, system_of, systems
from inkwash.systems.base import File, Plan, Request, System, Verb, narrow, plan
from inkwash.systems.base import seeded as with_seed

POLL = 2.0  # seconds between two looks at a job that is waited for, and at who waits


class Engine(Supervisor):
    """What may be called from any thread, or as it says."""

    def submit(
        self,
        user: User,
        system: str,
        verb: str,
        values: Mapping[str, Any],
        *,
        api: str = "api",
        idempotency_key: str | None = None,
        previews: int = 0,
    ) -> Row[Any]:
        """A new job of the user's, in the table before this returns. APIError for what cannot be asked for."""
        kind = systems()[system].verbs[verb]
        request, folder = self.prepare(user, systems()[system], verb, values)
        request_hash = hashlib.sha256(json.dumps([system, verb, requests.to_json(request)]).encode()).hexdigest()
        request = with_seed(request) if getattr(request, "seed", 0) is None else request
        parts = len(request.subrequests())
        facts, model = requests.to_json(request), getattr(request, "model", None)
        needs = None if self.store.postgresql is None else self.needs_of(system, verb, request)
        planned = self.plan_of(kind, request, folder)._asdict() if kind.plan else None
        new = NewJob(system, verb, facts, parts, model, kind.lasting, planned, previews, request_hash, needs)
        job = self.store.submit(user.id, new, api=api, idempotency_key=idempotency_key)
        if job.request_hash not in (None, request_hash):  # none: of an older studio
            message = "this Idempotency-Key was used for another request; take a new one"
            raise APIError(422, message, "idempotency_conflict")
        self.metrics.accepted.labels(api).inc()
        self._call_soon(self._wake)
        self.notify(job.id, user.id)
        return job

    def prepare(
        self, user: User, system: System, name_of_verb: str, values: Mapping[str, Any]
    ) -> tuple[Request, Path | None]:
        """The request, its files found and made safe, and the folder of its model. APIError for what cannot be asked
        for."""
        verb = system.verbs[name_of_verb]
        if values.get("model"):
            values = {**values, "model": self.catalogue.real_name(values["model"], user.id)}
        request = self.with_uploads(user, requests.parse_request(verb, values))
        name, folder = request.model_name(), None
        with requests.api_errors(verb):
            available(system, name_of_verb)
            request.subrequests()
            if name is not None:
                folder = self.catalogue.folder(name, user.id)
                with named(name, folder):
                    other = system_of(folder).name
                    if other != system.name:
                        raise invalid(f"{name} is a model of {other}, not of {system.name}", "model")
                    narrow(verb, request, folder)
        return request, folder

    def needs_of(self, system: str, verb: str, request: Request) -> str:
        """What a worker elsewhere must have for it, which may be of another version, or have other models."""
        hashes = self.catalogue.hashes_of(requests.model_names(request))
        return json.dumps(requests.Needs(system, verb, requests.chosen(request), hashes)._asdict())

    def plan_of(self, verb: Verb, request: Request, folder: Path | None) -> Plan:
        with requests.api_errors(verb), named(request.model_name(), folder):
            return plan(verb, request, folder, (self.settings.devices or ("cpu",))[0], self.settings.threads)

    def with_uploads(self, user: User, request: Request) -> Request:
        """The request, of whose pictures only the pixels are kept. APIError for a file that the user has not sent, or
        that is not of the option's kind."""
        changes: dict[str, Any] = {}
        for option, files in requests.files_of(request):
            requests.check_names(files, option.name)
            found = self.store.uploads_by_sha256(user.id, {file.sha256 for file in files})
            cleaned_files = []
            for file in files:
                row = found.get(file.sha256)
                if row is None:
                    raise APIError(404, f"{option.name}: there is no such upload", "upload_not_found", option.name)
                if option.media.startswith("image/") and not row.cleaned:
                    file = self.clean_upload(user, row, option.name, SVG in option.media)
                cleaned_files.append(file)
            changes[option.name] = (
                tuple(cleaned_files) if isinstance(getattr(request, option.name), tuple) else cleaned_files[0]
            )
        return replace(request, **changes)

    def clean_upload(self, user: User, row: Any, param: str, svg: bool) -> File:
        """A picture that was sent, as only its pixels. svg: whether it may be one."""
        uploads.check_size(row.bytes, param)
        data = uploads.clean(self.store.files.read(row.sha256, row.suffix), param, svg)
        return self.save_image(user, data, f"{Path(row.name).stem}.png")[0]

    def save_image(self, user: User, data: bytes, name: str) -> tuple[File, bool]:
        """Keeps a picture that `uploads.clean` has made; whether it was not there."""
        with self.store.files.stage(data, ".png") as content:
            (new,) = self.store.add_uploads(user.id, [NewFile(content, name)], cleaned=True)
            return File(content.sha256, name), new

    def change(self, user: User, job: str, how: Callable[[str, str], bool]) -> bool:
        """Cancels, pauses, resumes or stops a job, `how` being the store's; whether it could be."""
        changed = how(job, user.id)
        if changed:
            self._call_soon(self._wake)
            self.notify(job, user.id)
        return changed

    async def finished(self, job: str, seconds: float, gone: Callable[[], Awaitable[bool]]) -> Any:
        """The job as it is when it has ended, or after so many seconds, or when who waits for it has `gone`."""
        end = time.monotonic() + seconds
        with self.subscribe(job) as subscriber:
            while True:
                row = await to_thread.run_sync(self.store.job, job)
                left = end - time.monotonic()
                if row is None or row.status not in OPEN or left <= 0 or self.stopping or await gone():
                    return row
                await subscriber.changes(min(left, POLL))
