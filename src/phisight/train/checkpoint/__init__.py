"""Checkpoints on disk: atomic folders with hashes, and the training state in them."""
