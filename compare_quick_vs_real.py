#!/usr/bin/env python3
"""Compare a quick look with a real sweep, or V1 with V2: two tables and a figure.

Usage: python compare_quick_vs_real.py [FOLDER [FOLDER]] [further options]

  no folder     the demo and the largest sweep in runs/, else the committed ones in results/; and V1 with V2 in each
  one folder    its recipes, such as V1 and V2 in runs/quick
  two folders   a quick look and a real sweep, such as runs/demo runs/quick

Losses are compared within one text and vocabulary only, exponents always. The figure goes to figures/.
Further options are those of "python -m scaling_lib compare": its --help lists them.
"""

import sys

from scaling_lib.cli import script

if __name__ == "__main__":
    sys.exit(script(__doc__, "compare"))
