"""``python -m scaling_lib``: see ``scaling_lib.cli``."""

import sys

from scaling_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
