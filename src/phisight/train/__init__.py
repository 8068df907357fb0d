"""From examples to a trained model: the training step is in ``loop.py``, all else is called from there or before it."""
