"""Similarity of layers: SVCCA (Raghu et al. 2017, arXiv 1706.05806), PWCCA (Morcos et al. 2018, arXiv 1806.05759), CKA.

- ``measures``: the measures, for one pair of layers and for a table of pairs.
- ``canonical``: canonical correlations and directions; ``factor``: one factorisation per layer.
- ``fourier``: feature maps frequency by frequency; ``views``: feature maps as matrices.
- ``noise``: the similarity of independent noise; ``reductions``: layers reduced to directions or neurons.
"""

from replication.svcca.canonical import Cca, Directions, cca, held_out, project
from replication.svcca.fourier import FourierCca, fourier_cca
from replication.svcca.measures import Pwcca, linear_cka, pwcca, similarity_matrix, svcca
from replication.svcca.noise import noise_floor
from replication.svcca.views import flattened, folded, spatial_mean

__all__ = [
    "Cca",
    "Directions",
    "FourierCca",
    "Pwcca",
    "cca",
    "flattened",
    "folded",
    "fourier_cca",
    "held_out",
    "linear_cka",
    "noise_floor",
    "project",
    "pwcca",
    "similarity_matrix",
    "spatial_mean",
    "svcca",
]
