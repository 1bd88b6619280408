"""How a model and its data settle the sizes that the command line leaves open."""

from __future__ import annotations

import pytest

from edgeprune.cli.loading import DataChoice, ModelChoice, _fresh_shape, load_both

NET = """
import torch

def make(num_classes=7):
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, num_classes),
    )
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return f"{path}:make"


@pytest.mark.parametrize(
    ("own", "implied", "shape"),
    [
        ((1, 32, 32), (3, 224, 224), (3, 32, 32)),  # digits for an RGB network
        ((3, 224, 224), (3, 299, 299), (3, 299, 299)),  # photographs for inception_v3
        ((3, 64, 48), (3, 224, 224), (3, 64, 48)),
        ((20, 50), (3, 224, 224), (20, 50)),  # not images: the user's own loaders
    ],
)
def test_the_shape_that_a_fresh_network_is_trained_on(own, implied, shape):
    assert _fresh_shape(own, implied) == shape


def test_a_fresh_network_takes_classes_and_shape_from_the_data(net):
    model, data = load_both(ModelChoice(net), DataChoice("digits"))
    assert model.input_shape == (1, 1, 32, 32)
    assert data.sample_shape == (1, 32, 32)
    assert model.module[-1].out_features == 10


def test_digits_for_a_torchvision_network_are_small_and_have_three_channels():
    model, data = load_both(ModelChoice("torchvision:squeezenet1_1"), DataChoice("digits"))
    assert model.input_shape == (1, 3, 32, 32)
    assert data.sample_shape == (3, 32, 32)


def test_the_input_option_wins(net):
    model, data = load_both(ModelChoice(net, shape="1x1x16x16"), DataChoice("digits"))
    assert model.input_shape == (1, 1, 16, 16)
    assert data.sample_shape == (1, 16, 16)


def test_trained_weights_keep_the_networks_own_outputs(net, tmp_path):
    from safetensors.torch import save_file

    fresh, _ = load_both(ModelChoice(net, shape="1x1x16x16"), DataChoice())
    save_file(fresh.module.state_dict(), tmp_path / "net.safetensors")
    choice = ModelChoice(net, weights=tmp_path / "net.safetensors")
    model, data = load_both(choice, DataChoice("digits"))
    assert model.has_weights
    assert model.module[-1].out_features == 7
    assert model.input_shape == (1, *data.sample_shape)


def test_without_data_there_is_none(net):
    model, data = load_both(ModelChoice(net, shape="1x1x8x8"), DataChoice())
    assert data is None
    assert model.input_shape == (1, 1, 8, 8)
