"""acceleration."""
