"""Pairs of a run's own answers: sampled, compared with the truth or with each other, written for training."""
