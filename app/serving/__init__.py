"""A trained network behind HTTP."""

from app.serving.service import Limits, service

__all__ = ["Limits", "service"]
