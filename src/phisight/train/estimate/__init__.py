"""Estimate of a run before it runs: FLOPs, memory, hours and cost, by card and by setting."""
