"""Pure functions from figures to reports."""
