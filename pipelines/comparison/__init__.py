"""The parts of pipelines/compare.py: the plan, its runs, their results, the page and the picture of them."""
