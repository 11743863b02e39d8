"""The connections of the studio: how many there are, how long they may wait for their clients, and which heads of
requests are too ambiguous to be read."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT = 10.0  # seconds for a client to send the whole head of its next request
STALL_TIMEOUT = 60.0  # seconds in which it must send something of a body, or read `MIN_READ` bytes of an answer
MIN_READ = 65_536
MAX_CONNECTIONS = 800
BACKLOG = 512  # connections that are accepted in one go
MOST_FILES = 4096  # that the process asks the system to let it open
FRAMING = re.compile(rb"\n(?:content-length|transfer-encoding):([^\r\n]*)", re.IGNORECASE)
FOLD = re.compile(rb"\n[ \t]")


def make_server(app: Any, *, grace: int = 3, leave: Callable[[], None] | None = None) -> uvicorn.Server:
    """A server of the application. grace: seconds that open requests have when it stops. leave: called by a second
    Ctrl-C, while the application ends."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the application sees to them, which must know who it was that asked
        timeout_graceful_shutdown=grace,
        backlog=BACKLOG,
    )
    server = Server(config)
    server.leave = leave
    return server


def raise_file_limit() -> None:
    """Lets the process open more files: systems begin with as few as 256."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_connections() -> int:
    """Fewer where the process may not open so many files."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


class Server(uvicorn.Server):
    leave: Callable[[], None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit and self.leave is not None:
            self.leave()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            for connection in cast("list[Connection]", list(self.server_state.connections)):
                connection.close_if_late()
        return await super().on_tick(counter)


class Connection(H11Protocol):
    """A connection that is closed when its client keeps it waiting. Where there are too many, the newcomer is let in
    and the one is closed that has waited longest, of the address that has most of those that wait: who wants to
    answer is let in beside any number that do nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = Parser(h11.SERVER)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self.mark()
        if len(self.connections) > max_connections():
            waiting = [one for one in cast("set[Connection]", self.connections) if one.is_waiting()]
            count = Counter(one.address for one in waiting)
            late = max(waiting, key=lambda one: (count[one.address], -one.since))
            self.connections.discard(late)
            late.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.is_waiting_for_body():  # a byte of a head changes nothing
            self.mark()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self.mark()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self.mark()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.mark()
        super().resume_writing()

    def mark(self) -> None:
        """From now on it is waited for the client's next step."""
        self.since, self.unread = self.loop.time(), self.transport.get_write_buffer_size()

    def is_waiting_for_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def is_waiting_for_body(self) -> bool:
        return not self.is_waiting_for_head() and self.cycle.more_body and not self.flow.read_paused

    def is_waiting(self) -> bool:
        """Whether it is its client's turn: to send or to read."""
        return self.is_waiting_for_head() or self.is_waiting_for_body() or self.flow.write_paused

    def close_if_late(self) -> None:
        unread = self.transport.get_write_buffer_size()
        if self.unread and unread <= max(0, self.unread - MIN_READ):  # the client has read
            self.mark()
        seconds = HEAD_TIMEOUT if self.is_waiting_for_head() and not unread else STALL_TIMEOUT
        if self.is_waiting() and self.loop.time() - self.since > seconds:
            self.transport.abort()


class Parser(h11.Connection):
    """h11 reads more than it should where others may see another end of the same request: both lengths of a body, a
    length twice, a header that goes on in the next line. Such requests are refused, and their connection closed."""

    def next_event(self) -> Any:
        data, _ = self.trailing_data if self.their_state is h11.IDLE else (b"", False)
        event = super().next_event()
        if isinstance(event, h11.Request):
            head = data[: len(data) - len(self.trailing_data[0])]
            framing = FRAMING.findall(head)
            if FOLD.search(head) or len(framing) > 1 or b"," in b"".join(framing):
                raise h11.RemoteProtocolError("an ambiguous head")
        return event
