"""Uses of randomness have streams of their own, which stay the same for ever."""

import pytest
import torch

from replication.errors import ReplicationError
from replication.seeds import derived_seed, generator, numpy_stream


def test_recorded_results_rest_on_these_seeds() -> None:
    assert derived_seed(0, "initialisation") == 1952974914541233639
    assert derived_seed(3, "order", 2) == 5395776396005811069
    assert numpy_stream(0).permutation(6).tolist() == [5, 2, 1, 3, 0, 4]


def test_words_and_seeds_give_different_streams() -> None:
    seeds = [derived_seed(seed, word, step) for seed in (0, 1) for word in ("order", "augmentation") for step in (0, 1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert torch.equal(
        torch.rand(3, generator=generator(0, "a")), torch.rand(3, generator=torch.Generator().manual_seed(derived_seed(0, "a")))
    )


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_one_sentence(seed: int) -> None:
    with pytest.raises(ReplicationError, match=f"seed is {seed}; allowed are 0 to 4294967295: change it."):
        numpy_stream(seed)
