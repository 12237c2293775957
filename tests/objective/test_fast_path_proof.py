"""The proof of a faster form: losses and gradients that differ from the plain path's are seen, also in one parameter alone."""

import torch
from conftest import small_mlp
from torch import Tensor, nn

from replication.objective.examination import examine
from replication.objective.example_sets import examples_of
from replication.objective.fast_paths import Proof
from replication.objective.losses import example_loss
from replication.objective.networks import evaluation_copy
from replication.objective.plain import PlainNetwork
from replication.objective.probes import probe_of


def test_a_form_with_other_losses_or_gradients_does_not_agree(examples: tuple[Tensor, Tensor]) -> None:
    own, loss = examples_of(*examples, None, torch.float32), example_loss("cross_entropy")
    model = small_mlp(nn.Tanh)
    module = evaluation_copy(model, batch_norm="running", dtype=torch.float32, device=torch.device("cpu"))
    names = [name for name, _ in module.named_parameters()]
    plain, probe = PlainNetwork(module, names), probe_of(own, None)
    proof = Proof(plain, examine(model, plain, loss, probe, own, None).finest, loss, probe)
    assert proof.agrees(proof.losses, proof.gradient)
    assert not proof.agrees(1.001 * proof.losses, proof.gradient)
    other = proof.gradient.clone()
    other[-1] += 1e-3 * proof.gradient.norm()
    assert not proof.agrees(proof.losses, other)
