"""Losses that the training step is handed; ``interface.py`` says what it asks of one."""
