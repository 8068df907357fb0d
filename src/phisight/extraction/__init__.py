"""Layer 4: images to typed fields with confidence: one image, many, or a whole table."""
