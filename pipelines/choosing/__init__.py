"""A recipe that is found for a log: what is tried, round by round, within a budget of time."""
