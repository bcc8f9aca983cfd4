"""Records become something to look at: the status page and the text of a failure."""

from __future__ import annotations

from pytest_ductaflow.report.page import generate_status_report, is_current

__all__ = ["generate_status_report", "is_current"]
