#!/usr/bin/env python3
"""Train, validate, test, predict, look at data: `python train.py fit --config configs/quickstart.yaml`."""

import os
import sys

from app.help import show

if __name__ == "__main__":
    show(sys.argv[1:])  # a first page needs nothing of what follows
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():  # read as torch loads
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000"}  # threads that spin for long starve others
try:
    from app.cli import main
except KeyboardInterrupt:  # torch and what uses it take seconds to load
    sys.stderr.write("error: interrupted before the first step\n")
    sys.exit(130)

if __name__ == "__main__":
    main()
