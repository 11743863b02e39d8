"""One thread for every test: two spinning threads beside another busy process can cost a factor of forty."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
