"""A small network through the real XNNPACK lowering: what the program is, and what is refused."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune.errors import LoweringError, OutputError
from edgeprune.graph import capture
from edgeprune.lowering import lower
from edgeprune.lowering.backends import backend
from edgeprune.records import Graph, Target

HOST = Target("host", "this machine", "xnnpack", "local", "fp32", 1, "measured")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.drop = nn.Dropout(0.5)
        self.norm = nn.LayerNorm(8 * 16)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.drop(self.features(x).flatten(1))))


def small_graph() -> Graph:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    module = Small().eval()
    shapes = ({0: torch.export.Dim.AUTO},)
    exported = torch.export.export(module, (x,), dynamic_shapes=shapes)
    return Graph(exported.module(), (x[:1],), "small")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return small_graph()


def test_artifact_describes_the_file(graph: Graph, tmp_path: Path) -> None:
    artifact = lower(graph, HOST, tmp_path / "small.pte")
    assert artifact.path == tmp_path / "small.pte"
    assert artifact.path.read_bytes()[4:6] == b"ET"
    assert artifact.size_bytes == artifact.path.stat().st_size
    assert len(artifact.sha256) == 64
    assert artifact.target == "host"
    # convolution with batch norm, relu, pooling and linear are XNNPACK's; layer_norm is not.
    assert artifact.delegated_nodes >= 4
    assert artifact.other_ops["aten.native_layer_norm"] == 1
    assert "executorch_call_delegate" not in artifact.other_ops
    assert artifact.planned_bytes >= 8 * 16 * 4
    assert artifact.seconds > 0
    assert [p.name for p in tmp_path.iterdir()] == ["small.pte"]


def test_same_graph_same_bytes_also_in_another_process(graph: Graph, tmp_path: Path) -> None:
    here = lower(graph, HOST, tmp_path / "here.pte")
    again = lower(graph, HOST, tmp_path / "again.pte")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_lower import HOST, lower, small_graph\n"
        f"lower(small_graph(), HOST, Path({str(tmp_path / 'there.pte')!r}))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert here.sha256 == again.sha256
    assert (tmp_path / "there.pte").read_bytes() == here.path.read_bytes()
    # What upstream says on standard output must not mix with the command line's result.
    assert done.stdout == ""


def test_no_path_means_a_directory_of_its_own(graph: Graph) -> None:
    artifact = lower(graph, HOST)
    assert artifact.path.name == "model.pte"
    assert artifact.path.is_file()
    artifact.path.unlink()
    artifact.path.parent.rmdir()


def test_a_graph_in_training_is_lowered_for_evaluation_and_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    captured = capture(Small(), (torch.randn(1, 3, 8, 8),))
    evaluated = lower(captured, HOST, tmp_path / "eval.pte")
    captured.program.train()
    before = {k: v.clone() for k, v in captured.program.state_dict().items()}
    code = captured.program.code
    trained = lower(captured, HOST, tmp_path / "train.pte")
    assert trained.sha256 == evaluated.sha256
    assert captured.program.training
    assert captured.program.code == code
    after = captured.program.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.requires_grad for p in captured.program.parameters())


def test_upstream_is_silent_and_logging_is_restored(
    graph: Graph, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lower(graph, HOST, tmp_path / "small.pte")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert logging.root.manager.disable == level


@pytest.mark.parametrize(
    ("change", "names"),
    [({"backend": "abacus"}, "xnnpack"), ({"dtype": "int3"}, "fp32")],
)
def test_unknown_backend_or_dtype_names_those_that_exist(
    graph: Graph, tmp_path: Path, change: dict[str, str], names: str
) -> None:
    target = replace(HOST, source="boards/mine.toml", **change)
    with pytest.raises(LoweringError, match=rf"boards/mine\.toml.*{next(iter(change.values()))}"):
        lower(graph, target, tmp_path / "x.pte")
    with pytest.raises(LoweringError, match=names):
        lower(graph, target, tmp_path / "x.pte")
    assert not list(tmp_path.iterdir())


def test_a_second_registration_raises() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        backend("xnnpack", dtypes=("fp32",))(lambda exported, target: pytest.fail("never called"))


def test_refused_graph_says_what_torch_says(graph: Graph, tmp_path: Path) -> None:
    wrong = Graph(graph.program, (torch.randn(1, 4, 8, 8),), "four channels")
    with pytest.raises(LoweringError) as caught:
        lower(wrong, HOST, tmp_path / "x.pte")
    message = str(caught.value)
    assert "four channels" in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_unwritable_place_is_one_line(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no-such-folder"):
        lower(graph, HOST, tmp_path / "no-such-folder" / "x.pte")
