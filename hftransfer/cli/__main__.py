"""python -m hftransfer.cli: the command line."""

import sys

from hftransfer.cli import main

sys.exit(main())
