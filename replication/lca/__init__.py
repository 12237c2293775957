"""Loss Change Allocation (Lan et al. 2019, arXiv 1909.01440): the loss change of training, split over parameters and steps.

- ``allocation``: one step; ``trajectory``: all steps of a training; ``path``: a trajectory in any of the
  forms it is kept in.
- ``ledger``: what is added up along a trajectory, as tables; ``span_sums``: its base, whose spans merge.
- ``sampled``: sums over layers from random subsets of the examples, with standard errors.
- ``peaks``: iterations in which layers learn together, and what chance gives.
- ``distributions``: Weibull, binomial and concentration, which shares and tails are compared with.
"""

from replication.lca.allocation import Allocation, allocate
from replication.lca.ledger import Ledger
from replication.lca.path import path_of
from replication.lca.trajectory import along

__all__ = ["Allocation", "Ledger", "allocate", "along", "path_of"]
