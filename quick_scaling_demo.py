#!/usr/bin/env python3
"""The demo: V1 beside V2 at five sizes, V2 at five lengths, and a first scaling law, in minutes on two cores.

Usage: python quick_scaling_demo.py [further options]

  --corpus text:my_book.txt   read your own text instead of Python's standard library
  --max-steps N               another number of steps
  --dry-run                   show the runs, their FLOPs, memory and expected time, and train nothing

Records and the figure go to runs/demo. Further options are those of "python -m scaling_lib run": its --help lists them.
"""

import sys

from scaling_lib.cli import script

if __name__ == "__main__":
    sys.exit(script(__doc__, "run", "--mode", "demo"))
