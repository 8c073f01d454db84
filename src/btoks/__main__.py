"""`python -m btoks` is the command `btoks`."""

import sys

from btoks.cli import main

if __name__ == "__main__":
    sys.exit(main())
