"""The table of backends: what each takes, what is said where it cannot be used, what comes out.

A backend whose extra is not installed is skipped with the command that installs it.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from importlib.metadata import metadata
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.doctor import _OPTIONAL
from edgeprune.errors import LoweringError, MeasureError, TargetError
from edgeprune.graph import capture
from edgeprune.lowering import lower, quantise, ready_backend
from edgeprune.lowering.backends import all_backends, how_to_install, is_installed
from edgeprune.lowering.half import half_weights, in_half
from edgeprune.lowering.vendors import VENDORS
from edgeprune.measuring import check_structure, parity
from edgeprune.profile_keys import Backend as BackendNames
from edgeprune.records import Graph, Target
from edgeprune.stages import begin
from edgeprune.targets import list_targets, load_target

BACKENDS = {row.name: row for row in all_backends()}
HALF = Target("half", "", "xnnpack", "local", "fp16", 1, "measured")


class Small(nn.Module):
    """A convolution with batch norm, a depthwise one, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, groups=16, padding=1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    return capture(Small().eval(), (torch.randn(1, 3, 16, 16),), name="small")


def needed(backend: str) -> None:
    needs = BACKENDS[backend].needs
    if needs is not None and not is_installed(needs):
        pytest.skip(f"{needs.module} is not installed here: {how_to_install(needs)}")


def images(n: int = 8) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 3, 16, 16), np.float32)


# --- the table ---------------------------------------------------------------------------------


def test_profiles_may_name_the_backends_that_there_are():
    assert set(get_args(BackendNames)) == set(BACKENDS) | set(VENDORS)


def test_every_shipped_profile_can_be_lowered_for_or_names_a_vendors_sdk():
    for name in list_targets():
        target = load_target(name)
        assert target.backend in VENDORS or target.dtype in BACKENDS[target.backend].dtypes


def test_every_extra_that_a_backend_names_is_one_of_the_package_and_known_to_doctor():
    extras = metadata("edgeprune").get_all("Provides-Extra") or []
    told = " ".join(how for _, how in _OPTIONAL.values())
    wanted = {row.needs.extra for row in BACKENDS.values() if row.needs is not None}
    assert wanted == {"coreml", "openvino", "ethos-u"}
    for extra in wanted:
        assert f"edgeprune[{extra}]" in told
        if len(extras) > 2:  # an installation older than these extras does not list them
            assert extra in extras


@pytest.mark.parametrize(
    ("backend", "variable"),
    [
        ("qnn", "QNN_SDK_ROOT"),
        ("mediatek", "NEURON_BUFFER_ALLOCATOR_LIB"),
        ("samsung", "EXYNOS_AI_LITECORE_ROOT"),
        ("nxp", "eiq_neutron_sdk"),
    ],
)
def test_a_vendors_backend_names_its_sdk_and_what_to_set(backend, variable):
    target = replace(HALF, name="phone", backend=backend)
    with pytest.raises(LoweringError) as caught:
        ready_backend(target)
    message = str(caught.value)
    assert message.startswith("target 'phone'")
    assert VENDORS[backend].sdk in message
    assert variable in message
    assert "model.pt2" in message


def test_what_is_not_installed_is_said_with_the_command_before_anything_is_exported(
    graph, monkeypatch
):
    monkeypatch.setattr("edgeprune.lowering.backends.find_spec", lambda name: None)
    monkeypatch.setattr(torch.export, "export", lambda *args, **kwargs: pytest.fail("exported"))
    for backend, dtype in (("openvino", "fp32"), ("coreml", "fp16"), ("ethos-u", "int8")):
        with pytest.raises(LoweringError, match=rf"needs .*edgeprune\[{backend}\]"):
            lower(graph, replace(HALF, backend=backend, dtype=dtype))


def test_fit_asks_for_the_backend_before_the_model_is_captured():
    class Options:
        target = replace(HALF, backend="samsung")

    with pytest.raises(LoweringError, match="Exynos"):
        begin(None, None, Options(), lambda *said: pytest.fail("it went on"))


# --- XNNPACK in fp16 ---------------------------------------------------------------------------


def test_fp16_keeps_the_interface_and_halves_the_weights(tmp_path):
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3))
    wide = capture(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 16, 16),), name="wide")
    made = lower(wide, HALF, tmp_path / "half.pte")
    weights = 64 * 3 * 9 + 64 * 64 * 9
    assert 2 * weights < made.size_bytes < 2.2 * weights
    assert made.other_ops == {"dim_order_ops._to_dim_order_copy": 2}
    found = parity(wide, made, [images()])
    assert 0 < found.max_rel < 5e-3


def test_upstreams_writer_of_convolutions_is_put_back():
    from executorch.backends.xnnpack.operators import node_visitor

    before = dict(node_visitor._node_visitor_dict)
    with half_weights():
        assert node_visitor._node_visitor_dict != before
    assert node_visitor._node_visitor_dict == before


def test_batch_norm_goes_into_its_convolution_before_anything_is_rounded(graph):
    network = copy.deepcopy(graph.program)
    network.body._modules["1"].running_var.fill_(1e-8)  # nothing in fp16
    program = torch.export.export(network, graph.example_inputs)
    x = torch.from_numpy(images(1))
    with torch.no_grad():
        wanted = network(x)
    halved = in_half(program)
    assert not [n for n in halved.graph.nodes if "batch_norm" in str(n.target)]
    with torch.no_grad():
        got = halved.module()(x)
    assert all(t.dtype == torch.float32 for t in program.state_dict.values() if t.numel() > 1)
    assert got.dtype == torch.float32
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 5e-3


def test_weights_beyond_fp16_are_named(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with torch.no_grad():
        network[0].weight[0, 0] = 1e6
    wide = capture(network.eval(), (torch.randn(1, 3, 8, 8),), name="loud")
    with pytest.raises(LoweringError, match=r"65504.*0\.weight.*fp32"):
        lower(wide, HALF, tmp_path / "loud.pte")


# --- the others --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        ("openvino", "fp32"),
        ("coreml", "fp16"),
        ("cortex-m", "int8"),
        # minutes-long where a runtime's tables are made; the table program has them all
        *(pytest.param("coreml", d, marks=pytest.mark.slow) for d in ("fp32", "int8")),
        *(pytest.param("vulkan", d, marks=pytest.mark.slow) for d in ("fp16", "fp32", "int8")),
    ],
)
def test_a_small_network_is_wholly_delegated_and_checked(graph, tmp_path, backend, dtype):
    needed(backend)
    target = replace(HALF, backend=backend, dtype=dtype, core="cortex-m55")
    if dtype == "int8":
        graph = quantise(graph, target, [torch.from_numpy(images())])
    made = lower(graph, target, tmp_path / "small.pte")
    assert made.delegated_nodes >= 5
    assert set(made.other_ops) <= {"aten.view_copy"}
    check_structure(graph, made)
    if backend == "coreml":
        assert lower(graph, target, tmp_path / "again.pte").sha256 == made.sha256
    if BACKENDS[backend].programs.run_here:
        found = parity(graph, made, [images()])
        assert found.max_rel < 1e-2  # OpenVINO computes in bf16 on processors that have it


def test_a_cortex_m_target_needs_a_core_that_upstream_knows(graph, tmp_path):
    with pytest.raises(TargetError, match="core: missing"):
        load_target("cortex-m55", core=None)
    needed("cortex-m")
    target = replace(load_target("cortex-m55"), core="cortex-m99")
    made = quantise(graph, target, [torch.from_numpy(images())])
    with pytest.raises(TargetError, match="cortex-m99"):
        lower(made, target, tmp_path / "x.pte")


def test_structure_tells_another_networks_program_apart(graph, tmp_path):
    made = lower(graph, replace(HALF, dtype="fp32"), tmp_path / "small.pte")
    check_structure(graph, made)
    other = capture(nn.Conv2d(3, 4, 1).eval(), (torch.randn(1, 3, 16, 16),), name="other")
    with pytest.raises(MeasureError, match=r"small\.pte is not 'other'.*\[1, 10\]"):
        check_structure(other, made)


def test_openvinos_package_is_left_as_it_was(graph, tmp_path):
    import sys

    needed("openvino")
    lower(graph, replace(HALF, backend="openvino", dtype="fp32"), tmp_path / "small.pte")
    assert "executorch.backends.openvino" not in sys.modules
    assert Path(tmp_path / "small.pte").is_file()


def test_vulkan_has_linear_layers_round_only_their_weights(graph):
    made = quantise(
        graph, replace(HALF, backend="vulkan", dtype="int8"), [torch.from_numpy(images())]
    )
    aten = torch.ops.aten
    layers = [
        n
        for n in made.program.graph.nodes
        if n.target in (aten.conv2d.default, aten.linear.default)
    ]
    assert {n.target for n in layers} == {aten.conv2d.default, aten.linear.default}
    for node in layers:
        rounded = ["dequantize" in str(getattr(arg, "target", "")) for arg in node.args[:2]]
        assert rounded == [node.target is aten.conv2d.default, True], node
