"""The activations of a convolutional layer ``[n_examples, channels, height, width]`` as ``[rows, neurons]``, in three ways."""

from torch import Tensor

from replication.errors import ReplicationError


def spatial_mean(x: Tensor) -> Tensor:
    """Mean over space, ``[n_examples, channels]``. Maps of any two sizes compare (the PWCCA paper does so for every convolution).

    Raises:
        ReplicationError: ``x`` has other than four dimensions.

    >>> import torch
    >>> spatial_mean(torch.arange(8.0).reshape(1, 2, 2, 2))
    tensor([[1.5000, 5.5000]])
    """
    return _checked(x).mean((-2, -1))


def folded(x: Tensor) -> Tensor:
    """Positions as examples, ``[n_examples * height * width, channels]`` (SVCCA, section 3: same layer, same input).

    Positions of one image are correlated, so they count for fewer examples than there are rows.

    Raises:
        ReplicationError: ``x`` has other than four dimensions.

    >>> import torch
    >>> folded(torch.arange(4.0).reshape(1, 2, 1, 2))
    tensor([[0., 2.],
            [1., 3.]])
    """
    return _checked(x).movedim(1, -1).reshape(-1, x.shape[1])


def flattened(x: Tensor) -> Tensor:
    """Positions as neurons, ``[n_examples, channels * height * width]`` (SVCCA, section 3: different layers). It needs many examples.

    Raises:
        ReplicationError: ``x`` has other than four dimensions.

    >>> import torch
    >>> flattened(torch.arange(4.0).reshape(1, 2, 1, 2))
    tensor([[0., 1., 2., 3.]])
    """
    return _checked(x).reshape(len(x), -1)


def _checked(x: Tensor) -> Tensor:
    if x.dim() != 4:
        raise ReplicationError(f"The feature maps have shape {tuple(x.shape)}; allowed: [n_examples, channels, height, width].")
    return x
