"""Where the parts are wired together: one file a command, each to be read from top to bottom."""
