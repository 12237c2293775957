"""Results on disk: written atomically, with their provenance beside them, checked when they are read."""
