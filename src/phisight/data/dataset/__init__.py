"""A finished data set folder: open, inspect, check for leaks, export, push."""
