"""Several images of a product: in one cell, in several columns, in rows of their own."""
