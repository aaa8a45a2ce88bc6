"""`python -m p2pfrl`."""

import sys

from p2pfrl.cli import main

sys.exit(main())
