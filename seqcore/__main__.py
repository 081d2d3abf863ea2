"""Lets `python -m seqcore` be the command `seqcore`."""

import sys

from seqcore.cli import main

sys.exit(main())
