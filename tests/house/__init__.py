"""A toy system, as somebody would add one."""

import os
from pathlib import Path


def path_with_points(site: Path) -> str:
    """The PYTHONPATH with which the toy of tests/house/points is installed, in a folder of its own."""
    (site / "points").symlink_to(Path(__file__).with_name("points"))
    about = site / "points-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: points\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[inkwash.systems]\npoints = points:SYSTEM\n")
    return os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
