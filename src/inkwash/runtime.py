"""How many threads torch may use: the one place where that is decided for anything but a training run."""

import os

MOST = 4  # more do not help networks of this size


def set_threads(count: int | None = None) -> int:
    """Sets torch's threads and returns how many: `count`, or by how busy the machine is.

    Two threads wait for each other by spinning, and beside one other busy process that can cost a factor of forty;
    so only cores that nobody used in the last minute are taken, and one where the machine may be shared.
    """
    import torch

    if count is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        idle = cores - round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 1
        count = int(os.environ.get("OMP_NUM_THREADS") or min(MOST, max(1, idle)))
    torch.set_num_threads(count)
    return count
