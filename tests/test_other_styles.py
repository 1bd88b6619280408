"""Other people's models: every way of writing one is cut in half, exactly, and trains on."""

from __future__ import annotations

from collections.abc import Callable

import networks_sequence as sequence
import networks_vision as vision
import pytest
import torch
from exactness import EXACT, captured
from networks import lively, random_plan
from torch import Tensor, nn
from torch.utils import _pytree

from edgeprune import capture, channel_groups, prune

Make = Callable[[], nn.Module]


def _numbers(*shape: int) -> Tensor:
    return torch.rand(shape)


def _tokens(below: int, *shape: int) -> Tensor:
    return torch.randint(0, below, shape)


MODELS: dict[str, tuple[Make, Callable[[], tuple[Tensor, ...]]]] = {
    "u-net": (vision.UNet, lambda: (_numbers(1, 3, 22, 26),)),
    "3d u-net": (vision.UNet3d, lambda: (_numbers(1, 1, 8, 8, 8),)),
    "segnet": (vision.SegNet, lambda: (_numbers(1, 3, 16, 16),)),
    "yolo": (vision.Yolo, lambda: (_numbers(1, 3, 32, 32),)),
    "ssd": (vision.SSD, lambda: (_numbers(1, 3, 16, 16),)),
    "fpn": (vision.FPN, lambda: (_numbers(1, 3, 32, 32),)),
    "detr": (vision.Detr, lambda: (_numbers(1, 3, 24, 24),)),
    "densenet": (vision.DenseCheckpointed, lambda: (_numbers(1, 3, 16, 16),)),
    "cbam": (vision.CBAM, lambda: (_numbers(1, 3, 12, 12),)),
    "alexnet": (vision.AlexNet, lambda: (_numbers(1, 3, 16, 16),)),
    "spatial transformer": (vision.SpatialTransformer, lambda: (_numbers(1, 1, 16, 16),)),
    "optical flow": (vision.Warped, lambda: (_numbers(1, 3, 12, 12), _numbers(1, 3, 12, 12))),
    "siamese": (vision.Siamese, lambda: (_numbers(1, 1, 14, 14), _numbers(1, 1, 14, 14))),
    "super-resolution": (vision.SuperResolution, lambda: (_numbers(1, 3, 8, 8),)),
    "gan": (vision.Generator, lambda: (_numbers(1, 10),)),
    "conditional gan": (vision.ConditionalGenerator, lambda: (_numbers(1, 10), _tokens(7, 1))),
    "style transfer": (vision.StyleTransfer, lambda: (_numbers(1, 3, 16, 16),)),
    "style gan": (vision.Modulated, lambda: (_numbers(1, 6),)),
    "vae": (vision.VariationalAutoencoder, lambda: (_numbers(1, 1, 16, 16), _numbers(1, 6))),
    "diffusion": (vision.Denoiser, lambda: (_numbers(1, 3, 8, 8), _tokens(9, 1))),
    "gpt": (sequence.Gpt, lambda: (_tokens(11, 1, 8),)),
    "llama": (sequence.Llama, lambda: (_tokens(11, 1, 8),)),
    "bert": (sequence.Bert, lambda: (_tokens(13, 1, 8), _tokens(2, 1, 8))),
    "encoder": (sequence.Encoder, lambda: (_numbers(1, 7, 5), torch.ones(1, 7))),
    "t5": (sequence.T5, lambda: (_tokens(9, 1, 7),)),
    "perceiver": (sequence.Perceiver, lambda: (_numbers(1, 10, 7),)),
    "mixture of experts": (sequence.MixtureOfExperts, lambda: (_numbers(1, 6),)),
    "tcn": (sequence.TemporalNet, lambda: (_numbers(1, 4, 16),)),
    "wavenet": (sequence.WaveNet, lambda: (_numbers(1, 1, 24),)),
    "vocoder": (sequence.Vocoder, lambda: (_numbers(1, 5, 8),)),
    "conformer": (sequence.Conformer, lambda: (_numbers(1, 14, 12),)),
    "crnn": (sequence.Crnn, lambda: (_numbers(1, 1, 8, 16),)),
    "pointnet": (sequence.PointNet, lambda: (_numbers(1, 3, 9),)),
    "graph": (sequence.GraphNet, lambda: (_numbers(1, 6, 5), _numbers(1, 6, 6))),
    "radiance field": (sequence.Radiance, lambda: (_numbers(1, 3),)),
    "recommender": (sequence.Recommender, lambda: (_numbers(1, 4), _tokens(9, 1, 3))),
    "table transformer": (sequence.TableTransformer, lambda: (_numbers(1, 5),)),
}


@pytest.mark.parametrize("name", MODELS)
def test_is_cut_in_half_exactly(name: str) -> None:
    torch.manual_seed(0)
    make, example = MODELS[name]
    inputs = tuple(x.double() if x.is_floating_point() else x for x in example())
    model = lively(make())
    checked = captured(model, *inputs)
    with torch.no_grad():
        made, wanted = checked.graph.module()(*inputs), model(*inputs)
    torch.testing.assert_close(_tensors(made), _tensors(wanted))

    half = random_plan(checked.groups, 1, 0.25, 0.5)
    samples = 2 if checked.graph.dynamic_batch else 1
    batch = tuple(torch.cat([x] * samples) for x in inputs)
    assert checked.error(half, *batch) < EXACT
    assert checked.error(random_plan(checked.groups, 2), *batch) < EXACT

    small = prune(checked.graph, half).module()
    one = _tensors(small(*inputs))  # a batch of one beside the batch of two above
    assert [y.shape for y in one] == [y.shape for y in _tensors(wanted)]
    left = sum(p.numel() for p in small.parameters())
    assert left <= 0.6 * sum(p.numel() for p in model.parameters())
    _steps(small.train(), batch)
    again = capture(small.eval(), inputs)
    assert channel_groups(again).groups


def _steps(small: nn.Module, batch: tuple[Tensor, ...]) -> None:
    """One step of gradient descent moves the loss."""
    optimiser = torch.optim.SGD(small.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        optimiser.zero_grad()
        outputs = [y for y in _tensors(small(*batch)) if y.requires_grad]
        loss = torch.stack([y.square().mean() for y in outputs]).sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[1] != losses[0]
    assert all(bool(p.isfinite().all()) for p in small.parameters())


def _tensors(output: object) -> list[Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
