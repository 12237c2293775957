"""The three views of feature maps."""

import pytest
import torch

from replication import svcca
from replication.errors import ReplicationError


def test_views_of_maps() -> None:
    x = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert torch.equal(svcca.spatial_mean(x), x.mean((2, 3)))
    assert torch.equal(svcca.folded(x)[1 * 20 + 2 * 5 + 3], x[1, :, 2, 3])
    assert torch.equal(svcca.flattened(x)[1, 2 * 20 + 2 * 5 + 3], x[1, 2, 2, 3])


def test_other_shapes_are_no_feature_maps() -> None:
    for view in (svcca.spatial_mean, svcca.folded, svcca.flattened):
        with pytest.raises(ReplicationError, match=r"feature maps have shape \(3, 3\)"):
            view(torch.zeros(3, 3))
