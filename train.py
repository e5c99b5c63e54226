"""Train, validate, test, predict, look at data: `python train.py fit --config configs/quickstart.yaml`."""

import os

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():  # read as torch loads
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000"}  # threads that spin for long starve others
from app.cli import main

if __name__ == "__main__":
    main()
