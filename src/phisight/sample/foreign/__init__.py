"""Images that show nothing of a task: surfaces, sights and documents of several kinds."""
