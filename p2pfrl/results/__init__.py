"""Results: the record, its files, figures and report. Nothing here flows back to agents."""
