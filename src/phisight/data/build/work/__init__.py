"""Second part of a build: rows staged, images downloaded, decoded and stored, all of it in a journal."""
