"""The parts of compare.py and tune.py: plans, their runs, the search, results, the page and the picture."""
