"""Loss Change Allocation (Lan et al. 2019, arXiv 1909.01440): the loss change of training, split over parameters and steps.

- ``allocation``: one step, and all steps of a trajectory.
- ``ledger``: what is added up along a trajectory, as tables; ``books`` keeps them.
- ``sampled``: sums of layers from random subsets of the examples, with standard errors.
- ``peaks``: iterations in which layers learn together; ``distributions``: what shares and tails are compared with.
"""

from replication.lca.allocation import Allocation, allocate, along
from replication.lca.ledger import Ledger

__all__ = ["Allocation", "Ledger", "allocate", "along"]
