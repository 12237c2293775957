"""Results on disk: written atomically, with their provenance beside them, checked when they are read.

- ``atomic``: files and folders that appear complete or not at all; JSON; checksums.
- ``provenance``: what made a result, and the sha256 of its files.
- ``tables``: tidy tables as CSV.
"""
