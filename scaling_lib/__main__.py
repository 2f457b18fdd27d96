"""``python -m scaling_lib``: see ``scaling_lib.cli``."""

import sys

if __name__ == "__main__":
    try:
        from scaling_lib.cli import main

        sys.exit(main())
    except KeyboardInterrupt:  # while the command was still being read
        sys.exit(130)
