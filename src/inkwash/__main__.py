"""`python -m inkwash`: the command line."""

import sys

from inkwash.cli import main

sys.exit(main())
