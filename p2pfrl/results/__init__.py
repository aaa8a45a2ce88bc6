"""Results of runs: the record, its files, figures and report. Agents never read them."""
