"""`python -m p2pfrl`."""

import sys

from p2pfrl.cli import main

if __name__ == "__main__":
    sys.exit(main())
