"""Train, validate, test, predict, look at data: `python train.py fit --config configs/quickstart.yaml`."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read as torch loads: threads that spin starve each other
from app.cli import main

if __name__ == "__main__":
    main()
