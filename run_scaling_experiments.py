#!/usr/bin/env python3
"""Train V1, the baseline: a constant learning rate, no weight decay, few steps; then print its laws and draw them.

Usage: python run_scaling_experiments.py [--mode MODE] [--max-steps N] [further options]

  --mode quick      2M to 50M parameters, 1,000 steps (the default)
  --mode standard   5M to 200M parameters, 1,000 steps: one GPU
  --mode full       5M to 500M parameters, 2,000 steps: one or more GPUs, and a large text (--corpus hub:ID)
  --max-steps N     another number of steps
  --dry-run         show the runs, their FLOPs, memory and expected time, and train nothing

Records go to runs/MODE, beside those of V2 (run_scaling_experiments_enhanced.py):
python compare_quick_vs_real.py runs/quick sets the two side by side. What has been trained is kept; the same command
goes on where it was interrupted. Further options are those of "python -m scaling_lib run": its --help lists them.
"""

import sys

from scaling_lib.cli import script

if __name__ == "__main__":
    sys.exit(script(__doc__, "run", "--mode", "quick", "--recipe", "v1"))
