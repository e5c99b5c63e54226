"""Trained networks as files that need none of this program."""

from app.exports.exporting import ENDINGS, export

__all__ = ["ENDINGS", "export"]
