"""Similarity of layers: SVCCA (Raghu et al. 2017, arXiv 1706.05806), PWCCA (Morcos et al. 2018, arXiv 1806.05759), CKA.

- ``canonical``: canonical correlations and directions, from one factorisation per layer (``factor``, ``orthonormal``).
- ``measures``: SVCCA, PWCCA and the symmetric PWCCA distance of a pair; ``rotations``: Procrustes.
- ``cka``: linear, Gaussian, debiased and mini-batch CKA, from one centred kernel per layer (``kernels``).
- ``table``: all pairs of layers; ``permutations``: p-values of any measure; ``matrices``: which activations are accepted.
- ``fourier``: feature maps frequency by frequency; ``views``: feature maps as matrices.
- ``noise``: the similarity of independent layers; ``reductions``: layers reduced to directions or neurons.
"""

from replication.svcca.canonical import Cca, Directions, cca, held_out, project
from replication.svcca.cka import linear_cka, minibatch_cka, rbf_cka
from replication.svcca.fourier import FourierCca, fourier_cca
from replication.svcca.measures import Pwcca, pwcca, pwcca_distance, svcca
from replication.svcca.noise import noise_floor
from replication.svcca.permutations import PermutationTest, permutation_test
from replication.svcca.reductions import (
    Reduction,
    completed,
    double_projection,
    largest_neurons,
    on_directions,
    on_neurons,
    only_neurons,
)
from replication.svcca.rotations import Procrustes, procrustes
from replication.svcca.table import similarity_matrix
from replication.svcca.views import flattened, folded, spatial_mean

__all__ = [
    "Cca",
    "Directions",
    "FourierCca",
    "PermutationTest",
    "Procrustes",
    "Pwcca",
    "Reduction",
    "cca",
    "completed",
    "double_projection",
    "flattened",
    "folded",
    "fourier_cca",
    "held_out",
    "largest_neurons",
    "linear_cka",
    "minibatch_cka",
    "noise_floor",
    "on_directions",
    "on_neurons",
    "only_neurons",
    "permutation_test",
    "procrustes",
    "project",
    "pwcca",
    "pwcca_distance",
    "rbf_cka",
    "similarity_matrix",
    "spatial_mean",
    "svcca",
]
