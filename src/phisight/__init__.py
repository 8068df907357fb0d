"""Fine-tune Phi-3-Vision on a table of images and fields."""

__version__ = "0.1.0"
