"""What a user's data is, before anyone trains on it."""

from app.data_report.report import report_data

__all__ = ["report_data"]
