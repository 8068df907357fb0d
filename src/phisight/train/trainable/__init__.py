"""trainable."""
