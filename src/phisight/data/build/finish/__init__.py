"""Third part of a build: findings, the table, the card."""
