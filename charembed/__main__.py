"""`python -m charembed` is the command `charembed`."""

import sys

from charembed.cli import main

sys.exit(main())
