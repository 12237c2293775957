"""From configurations to jobs: what the Snakefile asks, and the steps behind its rules.

- ``configs``: reads paper_configs; ``dag``: figures, seeds, parts and dependencies; ``fingerprints``: hashes of code.
- ``steps``: train, measure, gather; ``drawing``: figures; ``judging``: verdicts on a figure's claims.
"""
