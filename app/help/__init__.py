"""The first pages of help, as text: they are printed before torch and Lightning are imported."""

from app.help.pages import MAIN, file_of, show

__all__ = ["MAIN", "file_of", "show"]
