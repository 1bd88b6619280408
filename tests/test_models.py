from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from edgeprune.errors import ModelError
from edgeprune.graph import capture
from edgeprune.models import ModelRequest, default_input_shape, load_model, parse_shape
from edgeprune.models.sources import source

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
RESNETS = REPOSITORY / "benchmarks" / "architectures" / "resnet_cifar.py"
SMALL = (1, 3, 32, 32)

FACTORIES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

def ten():
    return Net(10)

def trained():
    net = Net()
    for p in net.parameters():
        nn.init.constant_(p, 0.1)
    return net

def hungry(width, depth=3):
    return Net(width)

def number():
    return 3

def broken():
    raise RuntimeError("no luck today")

def lazily():
    from sibling import WIDTH
    return Net(WIDTH)

ready = Net()
"""


@pytest.fixture
def factories(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(FACTORIES)
    (tmp_path / "sibling.py").write_text("WIDTH = 7\n")
    return path


def outputs(module: nn.Module, shape: tuple[int, ...] = SMALL) -> int:
    with torch.no_grad():
        return int(module(torch.zeros(shape)).shape[1])


# --- shapes ----------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4096), min_size=2, max_size=5))
def test_a_shape_written_out_is_read_back(shape: list[int]) -> None:
    assert parse_shape("x".join(map(str, shape))) == tuple(shape)
    assert parse_shape(", ".join(map(str, shape))) == tuple(shape)


@pytest.mark.parametrize("text", ["", "224", "1x3x0x5", "1x-3x4", "1x3xfour", "1xx3", "1x3x2.5"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="1x3x224x224"):
        parse_shape(text)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("torchvision:resnet18", (1, 3, 224, 224)),
        ("torchvision:inception_v3", (1, 3, 299, 299)),
        ("torchvision:r3d_18", (1, 3, 16, 112, 112)),
        ("file.py:factory", None),
    ],
)
def test_default_input_shapes(spec: str, shape: tuple[int, ...] | None) -> None:
    assert default_input_shape(spec) == shape


# --- torchvision and timm --------------------------------------------------------------------


def test_torchvision_model_with_classes() -> None:
    model = load_model(ModelRequest("torchvision:squeezenet1_1", None, (1, 3, 64, 64), 5))
    assert (model.name, model.input_shape, model.has_weights) == (
        "squeezenet1_1",
        (1, 3, 64, 64),
        False,
    )
    assert not model.module.training
    assert outputs(model.module, (2, 3, 64, 64)) == 5


def test_fresh_weights_follow_the_seed_and_leave_the_generators_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    shape = (1, 3, 64, 64)
    one, same, other = (
        load_model(ModelRequest("torchvision:squeezenet1_1", None, shape, 5, seed)).module
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(3), expected)
    key = "features.0.weight"
    assert torch.equal(one.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("torchvision:resnet81", "did you mean resnet18"),
        ("resnet18", "did you mean torchvision:resnet18"),
        ("nothing_like_it", "a model is torchvision:NAME"),
        ("no_such_package.inside:make", "no module named 'no_such_package'"),
        ("missing.py:make", "no such file"),
        ("missing.pt2", "no such file"),
        ("json:", "names no function"),
    ],
)
def test_no_such_model(spec: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(ModelRequest(spec))
    assert hint in str(caught.value)


def test_a_wrong_input_shape_is_told_with_the_line() -> None:
    request = ModelRequest("torchvision:squeezenet1_1", input_shape=(1, 1, 64, 64))
    with pytest.raises(ModelError, match=r"1x1x64x64.*3 channels.*--input"):
        load_model(request)


def test_auxiliary_heads_are_left_out_of_published_weights(tmp_path: Path) -> None:
    from torchvision.models import googlenet

    published = googlenet(weights=None, aux_logits=True, init_weights=False, num_classes=10)
    file = tmp_path / "googlenet.safetensors"
    save_file(published.state_dict(), file)
    model = load_model(ModelRequest("torchvision:googlenet", file, (1, 3, 64, 64), 10))
    assert "auxiliary" in model.notes[0]
    assert torch.equal(model.module.state_dict()["fc.weight"], published.fc.weight)


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_timm_absent_says_how_to_get_it() -> None:
    with pytest.raises(ModelError, match="pip install timm"):
        load_model(ModelRequest("timm:resnet10t"))


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_timm_model() -> None:
    model = load_model(ModelRequest("timm:resnet10t", classes=7))
    assert model.input_shape == default_input_shape("timm:resnet10t") == (1, 3, 176, 176)
    assert outputs(model.module, model.input_shape) == 7
    with pytest.raises(ModelError, match="did you mean resnet10t"):
        load_model(ModelRequest("timm:resnet10x"))


# --- the user's factories --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "classes", "expected"), [("Net", None, 4), ("Net", 9, 9), ("ten", 9, 10)]
)
def test_factory(factories: Path, factory: str, classes: int | None, expected: int) -> None:
    model = load_model(ModelRequest(f"{factories}:{factory}", None, SMALL, classes))
    assert outputs(model.module) == expected
    assert not model.has_weights
    told = any("takes no num_classes" in note for note in model.notes)
    assert told == (factory == "ten")


def test_a_factory_that_always_makes_the_same_weights_is_trained(factories: Path) -> None:
    model = load_model(ModelRequest(f"{factories}:trained", input_shape=SMALL))
    assert model.has_weights
    assert "taken as trained" in model.notes[0]


def test_a_factory_may_import_its_neighbours(factories: Path) -> None:
    before = list(sys.path)
    model = load_model(ModelRequest(f"{factories}:lazily", input_shape=SMALL))
    assert outputs(model.module) == 7
    assert sys.path == before


def test_a_factory_in_a_package_here(factories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(factories.parent)
    model = load_model(ModelRequest("nets:ten", input_shape=SMALL))
    assert outputs(model.module) == 10


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("tan", "did you mean ten"),
        ("hungry", "needs width"),
        ("number", "made a int"),
        ("broken", "RuntimeError: no luck today (nets.py:"),
        ("ready", "is a module, not a function"),
        ("nn", "not a function or class"),
    ],
)
def test_factories_that_cannot_be_used(factories: Path, factory: str, reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(ModelRequest(f"{factories}:{factory}", input_shape=SMALL))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x = 1 / 0\n", "ZeroDivisionError"), ("def f(:\n", "SyntaxError"), ("import nope_", "nope_")],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ModelError, match=rf"{reason}.*bad\.py:1"):
        load_model(ModelRequest(f"{tmp_path / 'bad.py'}:make"))


def test_a_factory_needs_an_input_shape(factories: Path) -> None:
    with pytest.raises(ModelError, match="--input 1x3x224x224"):
        load_model(ModelRequest(f"{factories}:Net"))


# --- saved programs --------------------------------------------------------------------------


def test_a_saved_program_runs_trains_and_can_be_captured_again(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    x = torch.randn(2, 3, 8, 8)
    file = tmp_path / "net.pt2"
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(net.eval(), (x,), dynamic_shapes=({0: batch},)), file)
    assert default_input_shape(str(file)) == (2, 3, 8, 8)
    model = load_model(ModelRequest(str(file)))
    assert model.has_weights
    with torch.no_grad():
        assert torch.equal(model.module(x), net(x))
        assert model.module(torch.zeros(5, 3, 8, 8)).shape == (5, 2)
    mean = model.module.state_dict()["1.running_mean"].clone()
    model.module.train()
    model.module(x).sum().backward()
    assert not torch.equal(model.module.state_dict()["1.running_mean"], mean)
    model.module.eval()
    graph = capture(model.module, (x,))
    assert set(dict(graph.module().named_parameters())) == set(dict(net.named_parameters()))
    assert graph.dynamic_batch


def test_what_is_no_saved_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "net.pt2"
    file.write_bytes(b"PK not really")
    with pytest.raises(ModelError, match=r"torch\.export\.save"):
        load_model(ModelRequest(str(file)))


# --- weights ---------------------------------------------------------------------------------


@pytest.fixture
def weights(factories: Path) -> dict[str, torch.Tensor]:
    module = load_model(ModelRequest(f"{factories}:Net", input_shape=SMALL, seed=5)).module
    return module.state_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"model_state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"ema": {f"module._orig_mod.{k}": v for k, v in s.items()}},
        lambda s: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in s.items()}},
        lambda s: {k.replace("body.", "body._orig_mod."): v for k, v in s.items()},
    ],
)
def test_wrapped_weights_are_understood(
    factories: Path, weights: dict[str, torch.Tensor], tmp_path: Path, wrap: object
) -> None:
    file = tmp_path / "weights.pt"
    torch.save(wrap(weights), file)  # type: ignore[operator]
    model = load_model(ModelRequest(f"{factories}:Net", file, SMALL))
    assert model.has_weights
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, weights[key])


def test_of_several_state_dicts_the_one_used_is_told(
    factories: Path, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "both.pt"
    torch.save({"ema": weights, "model": weights}, file)
    model = load_model(ModelRequest(f"{factories}:Net", file, SMALL))
    assert "'model' is used" in model.notes[-1]


def test_a_mismatch_lists_the_keys(
    factories: Path, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "other.safetensors"
    other = {f"extra.{i}": torch.zeros(1) for i in range(11)}
    save_file({**other, "body.weight": weights["body.weight"], "body.bias": torch.ones(2)}, file)
    with pytest.raises(ModelError) as caught:
        load_model(ModelRequest(f"{factories}:Net", file, SMALL))
    text = str(caught.value)
    assert "2 missing from the file: head.weight, head.bias" in text
    assert "11 not in the model: extra.0, " in text
    assert "and 3 more" in text
    assert "1 of another shape: body.bias (file 2, model 6)" in text


def test_weights_files_that_cannot_be_used(factories: Path, tmp_path: Path) -> None:
    class Anything:
        pass

    def attempt(name: str) -> str:
        with pytest.raises(ModelError) as caught:
            load_model(ModelRequest(f"{factories}:Net", tmp_path / name, SMALL))
        return str(caught.value)

    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    torch.save(nn.Linear(1, 1), tmp_path / "whole.pt")
    assert "no such weights file" in attempt("missing.pt")
    assert "text.pt" in attempt("text.pt")
    assert "cannot be read as weights" in attempt("text.safetensors")
    assert "empty.pt" in attempt("empty.pt")
    assert "holds no weights" in attempt("none.pt")
    assert "model.state_dict()" in attempt("whole.pt")


@pytest.mark.parametrize(
    ("factory", "file", "parameters"),
    [
        ("resnet20", "resnet20-12fca82f.th", 269_722),
        ("resnet20", "resnet20_cifar10_jpeg.safetensors", 269_722),
        ("resnet56", "resnet56-4bfd9763.th", 853_018),
        ("resnet56", "resnet56_cifar10_jpeg.safetensors", 853_018),
    ],
)
def test_published_cifar_checkpoints_load(factory: str, file: str, parameters: int) -> None:
    path = SHARED / "checkpoints" / file
    if not path.is_file():
        pytest.skip(f"{file} is not in shared/checkpoints beside the repository")
    model = load_model(ModelRequest(f"{RESNETS}:{factory}", path, SMALL))
    assert model.has_weights
    assert sum(p.numel() for p in model.module.parameters()) == parameters
    # trained batch norms have seen data: fresh ones would still have mean 0
    assert model.module.get_buffer("bn1.running_mean").abs().max() > 0.01


def test_the_shortcut_without_parameters_pads_both_sides() -> None:
    block = load_model(ModelRequest(f"{RESNETS}:resnet20", input_shape=SMALL)).module.layer2[0]
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_a_second_source_for_a_scheme_raises() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        source("timm", lambda name: None)(lambda rest, request: load_model(request))
