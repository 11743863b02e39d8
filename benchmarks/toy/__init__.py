"""A toy system for benchmarks/kills.py: a picture is a moment's sleep, and each try makes another file. In a worker
it marks where that is with its job, so that one can be killed there: a byte of the file `$MARKS/PID`."""

import mmap
import os
import secrets
import sys
import time
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from inkwash.systems.base import Help, Progress, Request, Result, System, Verb

PHASES = ("idle", "claim", "draw", "upload", "row", "acknowledge")


@dataclass(frozen=True, kw_only=True)
class Draw(Request):
    """Draw squares, each in the colour of its seed."""

    model: Annotated[str, Help("A model.")] = "toy"
    n: Annotated[int, Ge(1), Le(100), Help("How many.")] = 1
    seed: Annotated[int, Ge(0), Le(2**24 - 1), Help("The first of them.")] = 0
    ms: Annotated[int, Ge(0), Help("How long one takes.")] = 20

    def subrequests(self):
        return [replace(self, n=1, seed=self.seed + place) for place in range(self.n)]


class Toy:
    @classmethod
    def load(cls, folder, *options):
        return cls()


def draw(requests, context):
    for of, request in enumerate(requests):
        context.model(request.model)
        context.tell(Progress(0, 1))
        time.sleep(request.ms / 1000)
        file, try_ = context.folder / "square.png", PngInfo()
        try_.add_text("try", secrets.token_hex(8))  # as on devices that never draw the same bytes twice
        Image.new("RGB", (8, 8), tuple(request.seed.to_bytes(3, "big"))).save(file, pnginfo=try_)
        yield Result(of, 0, {".png": file}, {"pid": os.getpid()}, {"seed": request.seed})


def seed_of(data):
    """Of a picture that was drawn here."""
    return int.from_bytes(bytes(Image.open(BytesIO(data)).getpixel((0, 0))), "big")


def mark_phases(folder):
    """Says from now on in which phase this process is: `claim` begins when a job's row is locked, `draw` with a part
    of it, `upload` when the file is drawn, `row` when it is in the bucket, `acknowledge` when its row is written; and
    then the next part is drawn, or the job is left."""
    from inkwash.studio import store
    from inkwash.studio.buckets import Bucket
    from inkwash.studio.context import JobContext

    file = folder / str(os.getpid())
    file.write_bytes(b"\0")
    with file.open("rb+") as opened:
        byte = mmap.mmap(opened.fileno(), 1)

    def marked(owner, name, phase, after=False):
        inner = getattr(owner, name)

        def outer(*arguments, **options):
            if not after:
                byte[0] = PHASES.index(phase)
            found = inner(*arguments, **options)
            if after and found is not None:
                byte[0] = PHASES.index(phase)
            return found

        setattr(owner, name, outer)

    marked(store, "_lock_next", "claim", after=True)
    marked(JobContext, "next_part", "draw")
    marked(Bucket, "stage", "upload")
    marked(store.Store, "add", "row")
    marked(store.Store, "advance", "acknowledge")
    marked(JobContext, "close", "idle")


SYSTEM = System(name="toy", help="A toy.", verbs={"draw": Verb(Draw, "toy:draw")}, load="toy:Toy.load")
if getattr(sys.modules["__main__"].__spec__, "name", "") == "inkwash.studio.worker":
    mark_phases(Path(os.environ["MARKS"]))
