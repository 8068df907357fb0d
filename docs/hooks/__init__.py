"""What the documentation site holds beyond docs/: made of the program when ``make docs`` runs."""
