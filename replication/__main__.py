"""``python -m replication`` is ``replicate``."""

from replication.cli import main

main()
