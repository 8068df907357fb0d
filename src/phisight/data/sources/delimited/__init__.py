"""CSV and its relatives: encoding, dialect, header, rows."""
