"""Similarity of layers: SVCCA (Raghu et al. 2017, arXiv 1706.05806), PWCCA (Morcos et al. 2018, arXiv 1806.05759), CKA.

- ``canonical``: canonical correlations and directions; ``factor``: one factorisation per layer.
- ``measures``: SVCCA, PWCCA and the symmetric PWCCA distance of a pair; ``cka``: linear CKA; ``table``: all pairs of layers.
- ``fourier``: feature maps frequency by frequency; ``views``: feature maps as matrices.
- ``noise``: the similarity of independent layers; ``reductions``: layers reduced to directions or neurons.
"""

from replication.svcca.canonical import Cca, Directions, cca, held_out, project
from replication.svcca.cka import linear_cka
from replication.svcca.fourier import FourierCca, fourier_cca
from replication.svcca.measures import Pwcca, pwcca, pwcca_distance, svcca
from replication.svcca.noise import noise_floor
from replication.svcca.reductions import (
    Reduction,
    completed,
    double_projection,
    largest_neurons,
    on_directions,
    on_neurons,
    only_neurons,
)
from replication.svcca.table import similarity_matrix
from replication.svcca.views import flattened, folded, spatial_mean

__all__ = [
    "Cca",
    "Directions",
    "FourierCca",
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
    "noise_floor",
    "on_directions",
    "on_neurons",
    "only_neurons",
    "project",
    "pwcca",
    "pwcca_distance",
    "similarity_matrix",
    "spatial_mean",
    "svcca",
]
