"""Cross-entropy of a ReLU network of linear layers at several parameter vectors at once.

All points see the same images, so their first layers are one matrix product that is large enough for the machine's full speed.
The derivatives are written out, so activations can be overwritten where autograd would keep them. On MNIST-FC this is 1.4 times
as fast as autograd (benchmarks/lca.py), and it gives the same numbers up to rounding (tests/objective/test_stacked_mlp.py).
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StackedMlp:
    """The evaluator of one network.

    Attributes:
        widths: of the layers from input to output. Parameters lie as weight, bias, weight, bias, ... in the flat vector.

    Example:
        >>> StackedMlp.of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        StackedMlp(widths=(4, 3, 2))
    """

    widths: tuple[int, ...]

    @classmethod
    def of(cls, model: nn.Module) -> "StackedMlp | None":
        """The evaluator of ``model``; None unless it is exactly ``Flatten`` and then ``Linear`` layers with ``ReLU`` between them."""
        if type(model) is not nn.Sequential or len(model) < 2:
            return None
        flat, *layers = model
        if type(flat) is not nn.Flatten or (flat.start_dim, flat.end_dim) != (1, -1):
            return None
        linear = [layer for layer in layers[::2] if type(layer) is nn.Linear and layer.bias is not None]
        if 2 * len(linear) - 1 != len(layers) or any(type(layer) is not nn.ReLU for layer in layers[1::2]):
            return None
        weights = [tensor for layer in linear for tensor in (layer.weight, layer.bias)]
        if [id(parameter) for parameter in model.parameters()] != [id(tensor) for tensor in weights]:  # tied, or in another order
            return None
        return cls((linear[0].weight.shape[1], *(len(layer.weight) for layer in linear)))

    def sums(self, points: Tensor, chunks: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Sums over all examples of the losses ``[n_points]`` and of their gradients ``[n_points, n_parameters]``, float64.

        Args:
            points: ``[n_points, n_parameters]``, in the floating-point type of the arithmetic.
            chunks: images ``[n, ...]`` and class labels ``[n]``.
        """
        weights, biases = self._unpack(points)
        values = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        gradients = torch.zeros(points.shape, dtype=torch.float64, device=points.device)
        for images, labels in chunks:
            inputs = self._forward(images.flatten(1), weights, biases)
            values += _cross_entropy_to_derivative(inputs[-1], labels)
            gradients += self._backward(inputs, weights)
        return values, gradients

    def _unpack(self, points: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Weights ``[n_points, out, in]`` and biases ``[n_points, out]`` of every layer."""
        sizes = [size for width_in, width_out in itertools.pairwise(self.widths) for size in (width_out * width_in, width_out)]
        pieces = points.split(sizes, dim=1)
        shapes = [(len(points), width_out, width_in) for width_in, width_out in itertools.pairwise(self.widths)]
        weights = [piece.reshape(shape).contiguous() for piece, shape in zip(pieces[::2], shapes, strict=True)]
        return weights, [piece.contiguous() for piece in pieces[1::2]]

    def _forward(self, images: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
        """The input of every layer, ``[n, in]`` for the first and ``[n_points, n, in]`` for the others; the last entry is the logits."""
        n_points, last = len(weights[0]), len(weights) - 1
        wide = torch.addmm(biases[0].flatten(), images, weights[0].flatten(0, 1).T)
        inputs = [images, wide.view(len(images), n_points, -1).transpose(0, 1)]
        for number in range(1, last + 1):
            inputs.append(torch.baddbmm(biases[number][:, None], inputs[-1].relu_(), weights[number].transpose(1, 2)))
        return inputs

    def _backward(self, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
        """Gradients ``[n_points, n_parameters]`` of the summed loss; the last of ``inputs`` holds its derivative by the logits."""
        delta, (n_points, n) = inputs[-1], inputs[-1].shape[:2]
        pieces: list[Tensor] = []
        for number in range(len(weights) - 1, 0, -1):
            below = inputs[number]
            pieces = [torch.bmm(delta.transpose(1, 2), below).flatten(1), delta.sum(1), *pieces]
            # memory in which the first layer's derivatives of all points lie side by side, for one matrix product
            spread = torch.empty(n, n_points, below.shape[2], dtype=delta.dtype, device=delta.device).transpose(0, 1)
            torch.bmm(delta, weights[number], out=spread)
            delta = torch.ops.aten.threshold_backward.grad_input(spread, below, 0, grad_input=spread)
        wide = delta.transpose(0, 1).reshape(n, -1)
        return torch.cat([(wide.T @ inputs[0]).view(n_points, -1), wide.sum(0).view(n_points, -1), *pieces], dim=1)


def _cross_entropy_to_derivative(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed loss of every point, float64 ``[n_points]``. Overwrites the logits with the derivative: softmax - one-hot."""
    chosen = labels.expand(len(logits), -1)[..., None]
    log_probabilities = torch.log_softmax(logits, dim=-1)
    total = -log_probabilities.gather(2, chosen).double().sum((1, 2))
    torch.exp(log_probabilities, out=logits)
    logits.scatter_add_(2, chosen, torch.full_like(chosen, -1, dtype=logits.dtype))
    return total
