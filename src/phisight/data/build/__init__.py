"""Build a data set folder from a source: plan, work, finish."""
