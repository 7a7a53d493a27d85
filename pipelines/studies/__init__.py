"""The pages and pictures of robustness.py and case_studies.py."""
