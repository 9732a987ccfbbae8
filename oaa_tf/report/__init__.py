"""The report page: one HTML file that shows what a run has found out."""
