"""What a user's data is, before anyone trains on it."""

from app.reports.data.report import report_data

__all__ = ["report_data"]
