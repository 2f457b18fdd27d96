#!/usr/bin/env python3
"""Train V2: 10% linear warm-up, cosine decay to 0, weight decay 0.01; then print its laws and draw them.

Usage: python run_scaling_experiments_enhanced.py [--mode MODE] [--max-steps N] [further options]

  --mode quick      2M to 50M parameters, 3,000 steps: a night on two cores, minutes on a GPU (the default)
  --mode standard   5M to 200M parameters, 5,000 steps: one GPU
  --mode full       5M to 500M parameters, 8,000 steps: one or more GPUs, and a large text (--corpus hub:ID)
  --max-steps N     another number of steps
  --dry-run         show the runs, their FLOPs, memory and expected time, and train nothing

Records go to runs/MODE, beside those of V1 (run_scaling_experiments.py): python compare_quick_vs_real.py runs/quick
sets the two side by side. What has been trained is kept; the same command goes on where it was interrupted.
Further options are those of "python -m scaling_lib run": its --help lists them.
"""

import sys

from scaling_lib.cli import script

if __name__ == "__main__":
    sys.exit(script(__doc__, "run", "--mode", "quick", "--recipe", "v2"))
