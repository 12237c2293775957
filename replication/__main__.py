"""``python -m replication`` is ``replicate``."""

from replication.cli import main

if __name__ == "__main__":  # and not in the processes of `replicate record`
    main()
