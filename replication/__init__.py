"""Four papers on how neural networks train: their instruments, networks, figures and claims.

The instruments are functions of tensors: ``lca`` on top of ``objective``. See docs/design.md.
"""

__version__ = "0.2.0"
