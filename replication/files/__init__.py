"""Results on disk: written atomically, with their provenance beside them, and checked when they are read.

- ``atomic``: files and folders that appear complete or not at all (``atomic.atomic``); JSON; checksums.
- ``provenance``: what made a result (configuration, versions, commit), and the sha256 of its files.
- ``tables``: tidy tables as CSV.
"""

from replication.files.atomic import canonical_json, read_json, sha256, write_json
from replication.files.provenance import PROVENANCE, collect_provenance, provenance_file, read_provenance, write_provenance
from replication.files.tables import read_tables, write_tables

__all__ = [
    "PROVENANCE",
    "canonical_json",
    "collect_provenance",
    "provenance_file",
    "read_json",
    "read_provenance",
    "read_tables",
    "sha256",
    "write_json",
    "write_provenance",
    "write_tables",
]
