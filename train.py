"""Train, validate, test, predict, look at data: `python train.py fit --config configs/quickstart.yaml`."""

from app.cli import main

if __name__ == "__main__":
    main()
