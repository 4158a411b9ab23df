"""``python -m sfusion``."""

import sys

from sfusion.cli import main

sys.exit(main())
