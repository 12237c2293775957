"""The language of ``paper_configs/*.yaml`` at one scale, as pydantic models: every key, its type and what is allowed.

Unknown keys and contradictions raise errors, and values are not converted. Nothing here imports torch.

- ``base``: what all mappings have in common; ``papers``: one file, a paper with its figures; ``runs``: trainings.
- ``measurements``: what all kinds of measurements have in common; one module for each kind:
  ``lca``, ``svcca``, ``stiffness``, ``landscape``, ``four_views``.
- ``claims``: published values, acceptance regions and controls; ``queue``: what ``replicate record`` works through.
"""
