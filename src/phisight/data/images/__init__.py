"""Image bytes: decode and check, strip metadata, perceptual hashes, reasons for rejection."""
