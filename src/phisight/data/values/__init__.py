"""Values as people write them: numbers, their currencies and units, read by what a whole column shows."""
