"""Squares by `Spread.map` on the cluster of an address; the process that comes to the seventh dies, so many times."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from inkwash.cli.cluster import Spread
from inkwash.cli.verbs import OPTIONAL

address, deaths = sys.argv[1], int(sys.argv[2])
died = Path(tempfile.mkdtemp())


def square(number):
    if number == 7 and len(os.listdir(died)) < deaths:
        (died / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2, os.getpid()


context = Spread(address, Path(), dict.fromkeys(OPTIONAL[1:]))
squares, processes = zip(*context.map(square, range(40)), strict=True)
print(list(squares) == [number**2 for number in range(40)], os.getpid() in processes)
