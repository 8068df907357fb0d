"""Everything worth knowing about phisight on a GPU, in one command: ``make bench-gpu``."""
