"""``python -m destseg_lib.cli`` is the command ``destseg``."""

import sys

from destseg_lib.cli.main import main

sys.exit(main())
