"""``replicate``: the command line, for people and for the rules of the Snakefile.

- ``program``: arguments and exit statuses; ``listing``: commands in groups, and their help; ``actions``: what each command does.

A user's mistake ends with one sentence and status 2, without a traceback. Torch and pandas are loaded only where they are used, so that
``--help`` and mistakes answer at once.
"""

from replication.cli.program import main

__all__ = ["main"]
