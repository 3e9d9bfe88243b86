"""What a run found, as one page that needs nothing beside itself (`python -m filo.report RUN`)."""

from filo.report.page import write_report

__all__ = ["write_report"]
