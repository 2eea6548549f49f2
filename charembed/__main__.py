"""`python -m charembed` is the command `charembed`."""

import sys

from charembed.cli.main import main

sys.exit(main())
