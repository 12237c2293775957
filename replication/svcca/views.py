"""A convolutional layer's activations ``[n_examples, channels, height, width]`` as ``[rows, neurons]``: three views, named as such."""

from torch import Tensor

from replication.errors import ReplicationError


def spatial_mean(x: Tensor) -> Tensor:
    """Mean over space, ``[n_examples, channels]``: any two map sizes compare (PWCCA paper, all its convolutional layers)."""
    return _checked(x).mean((-2, -1))


def folded(x: Tensor) -> Tensor:
    """Positions as examples, ``[n_examples * height * width, channels]`` (SVCCA, section 3: same layer, same input).

    Positions of one image are correlated, so they count for fewer examples than there are rows.
    """
    return _checked(x).movedim(1, -1).reshape(-1, x.shape[1])


def flattened(x: Tensor) -> Tensor:
    """Positions as neurons, ``[n_examples, channels * height * width]`` (SVCCA, section 3: different layers); wants many examples."""
    return _checked(x).reshape(len(x), -1)


def _checked(x: Tensor) -> Tensor:
    if x.dim() != 4:
        raise ReplicationError(f"The feature maps have shape {tuple(x.shape)}; allowed: [n_examples, channels, height, width].")
    return x
