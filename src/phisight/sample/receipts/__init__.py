"""Drawn receipts: a sample with a field of every kind, each of them printed on the image."""
