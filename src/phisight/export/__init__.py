"""A trained model for others: merged weights in the official layout, task file, model card, other engines."""
