import pytest
import torch

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import FeatureDropout, set_dropout_seed, set_dropout_step
from spcnn_lightning.nn.pointwise import kept_features


@pytest.mark.parametrize(
    ("features", "p", "kept"),
    [
        (600, 0.5 * 5 / 6, 350),  # floor(600 * (1 - p)) is 349 in floats
        (100, 0.1, 90),
        (100, 0.3, 70),
        (300, 0.5 * 2 / 5, 240),
        (7, 0.5, 3),
        (3, 0.0, 3),
        (2, 0.9, 1),  # never none
    ],
)
def test_exactly_so_many_features_are_kept_and_scaled(features, p, kept):
    assert kept_features(features, p) == kept
    mask = FeatureDropout(p, seed=1).mask(features)
    assert int((mask > 0).sum()) == kept
    assert set(mask.tolist()) <= {0.0, float(torch.tensor(features / kept))}


def test_all_sites_and_the_ground_state_share_one_mask():
    batch = SparseBatch.from_dense(torch.rand(3, 20, 5, 4) + 1, torch.ones(20))
    out = FeatureDropout(0.5, seed=3)(batch)
    dropped = out.ground_state == 0
    assert int(dropped.sum()) == 10
    assert bool((out.features[:, dropped] == 0).all())
    assert bool((out.features[:, ~dropped] == 2 * batch.features[:, ~dropped]).all())
    assert bool((out.ground_state[~dropped] == 2).all())


def test_the_mask_is_a_function_of_seed_step_and_layer():
    masks = {}
    for seed, step, layer in [(1, 0, 0), (1, 1, 0), (1, 0, 1), (2, 0, 0), (0, 1, 1)]:
        for state in (0, 99):
            torch.manual_seed(state)
            dropout = FeatureDropout(0.5, layer, seed)
            dropout.step = step
            masks.setdefault((seed, step, layer), []).append(tuple(dropout.mask(64).tolist()))
    assert all(first == second for first, second in masks.values())
    assert len({first for first, _ in masks.values()}) == len(masks)


def test_drawing_a_mask_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    FeatureDropout(0.5, seed=1).mask(64)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_steps_count_training_passes_alone_and_can_be_set():
    network = torch.nn.Sequential(FeatureDropout(0.5, 0), FeatureDropout(0.5, 1))
    batch = SparseBatch.from_dense(torch.ones(1, 8, 2, 2))
    assert network.eval()(batch) is batch
    assert [layer.step for layer in network] == [0, 0]
    first = network.train()(batch)
    assert [layer.step for layer in network] == [1, 1]
    set_dropout_step(network, 0)
    assert torch.equal(network(batch).features, first.features)
    set_dropout_seed(network, 17)
    assert [layer.seed for layer in network] == [17, 17]


def test_the_default_seed_is_that_of_torch():
    torch.manual_seed(123)
    assert FeatureDropout(0.5).seed == 123


@pytest.mark.parametrize("p", [-0.1, 1.0, 2])
def test_a_probability_out_of_range_is_refused(p):
    with pytest.raises(ValueError, match=f"dropout probability is {p}, expected 0 <= p < 1"):
        FeatureDropout(p)


def test_nothing_of_the_layer_is_saved():
    assert not FeatureDropout(0.5).state_dict()
