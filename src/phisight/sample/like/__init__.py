"""A real table in, its structure learned, a new table of its kind out; no real row goes through."""
