"""What every layer shares: task, recipe, errors, folder names, HD geometry. Nothing here imports torch."""
