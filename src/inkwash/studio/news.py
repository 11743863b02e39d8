"""What servers that share a database tell each other of their workers; that a job has changed, the database says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from sqlalchemy.exc import DBAPIError

from inkwash.studio.database import new_id
from inkwash.studio.errors import APIError

if TYPE_CHECKING:  # it needs what not everyone has installed
    from inkwash.studio.postgresql import PostgreSQL

PACE = 0.1  # seconds between two rounds of messages: of what came meanwhile only the newest is sent
MAX_TEXT = 1000  # characters of how it goes


class News:
    """Progress and previews, of this server's workers for the others, and of theirs for this one."""

    def __init__(self, postgresql: PostgreSQL) -> None:
        self.postgresql, self.id, self.event = postgresql, new_id(), asyncio.Event()
        self.waiting: dict[tuple[str, str], dict[str, Any]] = {}  # to be sent, by job and kind

    def tell(self, message: dict[str, Any]) -> None:
        if message["event"] in ("progress", "preview"):
            self.waiting[message["job"], message["event"]] = message
            self.event.set()

    async def send(self) -> None:
        while True:
            await self.event.wait()
            self.event.clear()
            messages, self.waiting = list(self.waiting.values()), {}
            for message in messages:
                facts = {name: value for name, value in message.items() if name != "picture"} | {"from": self.id}
                facts["text"] = message.get("text", "")[:MAX_TEXT]
                with suppress(APIError, DBAPIError):  # the next message says more
                    await to_thread.run_sync(self.postgresql.tell, facts, message.get("picture", ""))
            await asyncio.sleep(PACE)

    async def listen(self) -> AsyncIterator[dict[str, Any] | None]:
        """What is told by others, without end; None where something may have been missed."""
        async for message in self.postgresql.news():
            if message is not None and message.get("from") == self.id:
                continue
            if message is not None and message["event"] == "preview":
                message["picture"] = None
                with suppress(APIError, DBAPIError):
                    message["picture"] = await to_thread.run_sync(self.postgresql.preview, message["job"])
                if message["picture"] is None:  # its job has just ended
                    continue
            yield message
