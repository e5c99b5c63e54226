"""Lengths of time, in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as `8 s`, `12 min` or `3 h 20 min`; from two minutes on in minutes."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
