"""First part of a build: options, columns and task, groups and splits."""
