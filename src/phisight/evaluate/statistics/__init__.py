"""Statistics on plain arrays: bootstrap intervals, tests, split-conformal intervals."""
