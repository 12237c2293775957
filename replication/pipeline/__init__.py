"""From configurations to jobs: what the Snakefile asks, and the steps behind its rules.

- ``configs``: reads paper_configs; ``dag``: figures, seeds, parts and dependencies; ``fingerprints``: hashes of code.
- ``request``: what one call of Snakemake asks for; ``terminal``: what it prints meanwhile.
- ``steps``: train, measure, gather; ``kept_weights``: final weights in place of a training; ``drawing``: figures;
  ``judging``: verdicts on a figure's claims; ``crate``: all of these as a Workflow Run RO-Crate.
- ``planning``: how many seeds the claims need.
"""
