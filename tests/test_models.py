import pytest
import torch

from replication import models
from replication.errors import ReplicationError
from replication.objective import layout_of

PUBLISHED_PARAMETERS = {"mnist_fc": 84_060, "lenet": 808_970}  # LCA specification, section 2.2


@pytest.mark.parametrize("name", models.names())
def test_parameters_are_as_many_as_published(name: str) -> None:
    model = models.build(name, classes=10, channels=1, seed=0)
    assert layout_of(model)[-1].stop == PUBLISHED_PARAMETERS[name]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("name", models.names())
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = models.build(name, classes=10, channels=1, seed=7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = (models.build(name, classes=10, channels=1, seed=seed).state_dict() for seed in (7, 8))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", models.names())
def test_kernels_are_truncated_he_normal_and_biases_zero(name: str) -> None:
    """Realised standard deviation sqrt(2 / fan_in), cut at two standard deviations of the wider normal it is drawn from."""
    for parameter_name, parameter in models.build(name, classes=10, channels=1, seed=0).named_parameters():
        if parameter_name.endswith("bias"):
            assert (parameter == 0).all()
            continue
        expected = (2 / parameter[0].numel()) ** 0.5
        assert parameter.std().item() == pytest.approx(expected, rel=4 / parameter.numel() ** 0.5)
        assert parameter.abs().max().item() <= 2 * expected / 0.8796 * 1.0001
        assert parameter.abs().max().item() > 1.5 * expected


def test_lenet_trains_without_dropout_unless_asked() -> None:
    """As released: the definition lists dropout, the code never switches it on (LCA specification, trap 1)."""
    from replication.models.lenet import LeNet

    images = torch.randn(4, 1, 28, 28)
    plain, dropped = LeNet().train(), LeNet(dropout=True).train()
    assert torch.equal(plain(images), plain(images))
    assert not torch.equal(dropped(images), dropped(images))


def test_an_unknown_name_is_one_sentence() -> None:
    with pytest.raises(ReplicationError, match="no model 'resnet'; allowed: mnist_fc, lenet"):
        models.build("resnet", classes=10, channels=1, seed=0)
