"""Row 0: what every part shares. Nothing here imports torch."""
