"""``python -m sfusion``."""

import sys

from sfusion.cli import main

if __name__ == "__main__":
    sys.exit(main())
