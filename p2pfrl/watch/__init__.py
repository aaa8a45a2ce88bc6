"""Watching a run: a local web page that reads what the run writes, and never the run itself.

`sources.py` chooses what reads a run: `simulated.py` for a simulation or a record, `deployed.py`
for processes over TCP, `remote.py` for the pages of other hosts. Each returns sections, plain JSON
values; `board.py` keeps the newest of each, and `server.py` sends those that have changed to every
browser. The files of the page are in `page/`; uPlot, which draws its curves, is one of them.
"""
