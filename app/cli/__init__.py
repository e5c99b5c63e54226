"""The command line: `train.py <command> --config … [--key value …]`."""

from app.cli.application import PolyheadCLI, main

__all__ = ["PolyheadCLI", "main"]
