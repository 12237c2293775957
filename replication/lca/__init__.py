"""Loss Change Allocation (Lan et al. 2019, arXiv 1909.01440): the loss change of training, split over parameters and steps.

- ``allocation``: one step; ``trajectory``: all steps of a training; ``path``: a trajectory in any of the
  forms it is kept in.
- ``ledger``: the sums along a trajectory, as tables; ``span_sums``: its base class; the sums of several spans merge.
- ``sampled``: sums over layers from random subsets of the examples, with standard errors.
- ``peaks``: iterations in which layers learn together, and how often chance gives the same.
- ``distributions``: Weibull, binomial and concentration, for comparison with shares and tails.
"""

from replication.lca.allocation import Allocation, allocate
from replication.lca.ledger import Ledger
from replication.lca.path import path_of
from replication.lca.trajectory import along

__all__ = ["Allocation", "Ledger", "allocate", "along", "path_of"]
