"""Cross-entropy of a ReLU network of linear layers at several parameter vectors at once.

All points see the same images, so their first layers are one matrix product, large enough to run near the machine's ceiling;
and with the derivatives written out, activations are overwritten where autograd would keep them. On MNIST-FC four points are
1.4 times as fast as autograd at one (benchmarks/lca.py), which it must equal (tests/test_stacked_mlp.py).
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StackedMlp:
    """Layer widths from input to output; parameters lie as weight, bias, weight, bias, ... in the flat vector."""

    widths: tuple[int, ...]

    @classmethod
    def of(cls, model: nn.Module) -> "StackedMlp | None":
        """The evaluator of ``model``, or None where it is anything else than Flatten and then Linear layers with ReLU between them."""
        if not isinstance(model, nn.Sequential) or not len(model):
            return None
        layers = [layer for layer in model if not isinstance(layer, nn.Flatten)]
        linear = [layer for layer in layers[::2] if isinstance(layer, nn.Linear) and layer.bias is not None]
        if not layers or not isinstance(model[0], nn.Flatten) or len(model) != len(layers) + 1:
            return None
        if 2 * len(linear) - 1 != len(layers) or any(type(layer) is not nn.ReLU for layer in layers[1::2]):
            return None
        if len({id(p) for p in model.parameters()}) != 2 * len(linear):  # shared weights
            return None
        return cls((linear[0].in_features, *(layer.out_features for layer in linear)))

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
        """The input of every layer, ``[n, in]`` for the first and ``[n_points, n, in]`` for the others, and last the logits."""
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
    """Summed loss of every point, float64 ``[n_points]``; overwrites the logits with its derivative by them: softmax - one-hot."""
    chosen = labels.expand(len(logits), -1)[..., None]
    log_probabilities = torch.log_softmax(logits, dim=-1)
    total = -log_probabilities.gather(2, chosen).double().sum((1, 2))
    torch.exp(log_probabilities, out=logits)
    logits.scatter_add_(2, chosen, torch.full_like(chosen, -1, dtype=logits.dtype))
    return total
