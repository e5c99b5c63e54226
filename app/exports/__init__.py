"""Trained networks as files that need none of this program."""

from app.exports.exporting import ENDINGS, export, files_of

__all__ = ["ENDINGS", "export", "files_of"]
