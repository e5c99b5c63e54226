"""Hyper-parameters by cross-validation."""

from app.search.command import run_search
from app.search.config import CrossValidation, Dimension, SearchConfig, add_search_options

__all__ = ["CrossValidation", "Dimension", "SearchConfig", "add_search_options", "run_search"]
