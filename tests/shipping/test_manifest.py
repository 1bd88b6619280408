"""The manifest beside a program: what it says, and what is refused on reading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgeprune.errors import MeasureError, OutputError
from edgeprune.graph import capture
from edgeprune.lowering import lower
from edgeprune.lowering.bundling import bundle
from edgeprune.measuring.checking import failing_cases
from edgeprune.records import Graph, Target
from edgeprune.shipping import Told, describe, manifest_path, read_manifest, write_manifest
from edgeprune.travelling import CASES, Parcel, describe_made, noise

HOST = Target("host", "this machine", "xnnpack", "local", "fp32", 1, "measured", requires="Linux")


class Two(nn.Module):
    """An image and a channels-last one; scores and features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, photo: torch.Tensor, hint: torch.Tensor) -> Any:
        features = self.norm((self.conv(photo) + self.conv(hint)).relu().mean((2, 3)))
        return self.head(features), features


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Parcel:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 8)
    inputs = (x, torch.randn(1, 3, 8, 8).to(memory_format=torch.channels_last))
    graph = capture(Two().eval(), inputs, name="two")
    return Parcel(graph, lower(graph, HOST, tmp_path_factory.mktemp("two") / "two.pte"), HOST)


def data(**told: Any) -> Any:
    known = {"normalisation": "pixels 0..1", "mean": (0.5,), "std": (0.25,), "labels": ()}
    return SimpleNamespace(**{**known, **told})


def test_it_says_what_the_program_takes_and_gives(made: Parcel) -> None:
    labels = ("ant", "bee", "cat", "dog")
    manifest = describe_made(made, data(labels=labels), None)
    assert read_manifest(made.artifact.path) == manifest
    assert (manifest.file, manifest.sha256) == ("two.pte", made.artifact.sha256)
    assert (manifest.target, manifest.requires) == ("host", "Linux")
    assert manifest.runtime == manifest.oldest_runtime == "executorch " + version()
    first, second = manifest.inputs
    assert (first.name, first.shape, first.dtype, first.layout) == (
        "photo",
        (1, 3, 8, 8),
        "float32",
        "NCHW",
    )
    assert second.name == "hint"
    assert second.layout == layout_of(made, 1)
    assert first.normalisation is not None
    assert (first.normalisation.mean, first.normalisation.std) == ((0.5,), (0.25,))
    assert second.normalisation is None
    assert [port.shape for port in manifest.outputs] == [(1, 4), (1, 8)]
    assert manifest.labels == labels
    assert manifest.outside == dict(made.artifact.other_ops)
    assert "aten.native_layer_norm" in manifest.outside


def version() -> str:
    from importlib.metadata import version

    return version("executorch")


def layout_of(made: Parcel, number: int) -> str:
    """What the runtime itself says of an input."""
    from executorch.extension.pybindings import _C as runtime

    meta = runtime._load_program(str(made.artifact.path)).method_meta("forward")
    assert tuple(meta.input_tensor_meta(number).sizes()) == (1, 3, 8, 8)
    example = made.graph.example_inputs[number]
    last = example.is_contiguous(memory_format=torch.channels_last)
    return "NHWC" if last else "NCHW"


def test_what_nobody_told_is_not_made_up(made: Parcel) -> None:
    manifest = describe(made.artifact.path, HOST, Told("two", labels=("only", "two")))
    assert manifest.labels == ()  # of four outputs
    assert [port.name for port in manifest.inputs] == ["input0", "input1"]
    assert manifest.inputs[0].normalisation is not None
    assert "not known" in manifest.inputs[0].normalisation.text


def test_same_program_same_bytes(made: Parcel) -> None:
    describe_made(made, data(), None)
    once = manifest_path(made.artifact.path).read_bytes()
    describe_made(made, data(), None)
    assert manifest_path(made.artifact.path).read_bytes() == once


def test_a_damaged_manifest_lists_what_is_wrong(made: Parcel, tmp_path: Path) -> None:
    program = tmp_path / "two.pte"
    program.write_bytes(made.artifact.path.read_bytes())
    assert read_manifest(program) is None
    manifest = describe(program, HOST, Told("two"))
    path = write_manifest(manifest, program)
    document = json.loads(path.read_text())
    del document["backend"]
    document["inputs"][0]["shape"] = "big"
    path.write_text(json.dumps(document))
    with pytest.raises(OutputError, match=r"backend: .*inputs.0.shape: "):
        read_manifest(program)
    path.write_text(json.dumps({"format": "edgeprune-program/9"}))
    with pytest.raises(OutputError, match="edgeprune-program/9"):
        read_manifest(program)
    path.write_text("{")
    with pytest.raises(OutputError, match="JSON"):
        read_manifest(program)
    write_manifest(replace(manifest, sha256="0" * 64), program)
    with pytest.raises(OutputError, match="another program"):
        read_manifest(program)


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.pte").write_text("this is no program, whatever its name is")
    with pytest.raises(MeasureError, match="not a program"):
        describe(tmp_path / "notes.pte", HOST, Told("notes"))


# --- bundled programs ------------------------------------------------------------------------


def test_a_bundle_carries_eagers_outputs_and_is_checked(made: Parcel) -> None:
    manifest = describe_made(made, None, noise(made.graph))
    found = manifest.bundle
    assert found is not None
    assert (found.file, found.cases, found.checked) == ("two.bpte", CASES, True)
    path = made.artifact.path.with_name(found.file)
    assert failing_cases(path, found.cases, found.rtol, found.atol) == []
    assert read_manifest(made.artifact.path) == manifest
    once = path.read_bytes()
    describe_made(made, None, noise(made.graph))
    assert path.read_bytes() == once


def test_outputs_that_are_not_the_programs_are_found(made: Parcel, tmp_path: Path) -> None:
    x = [torch.from_numpy(y[:1].copy()) for y in noise(made.graph)]
    right = [torch.zeros(1, 4), torch.zeros(1, 8)]
    path = tmp_path / "wrong.bpte"
    bundle(made.artifact.path, [(x, right), (x, right)], path)
    assert failing_cases(path, 2, 1e-3, 1e-3) == [0, 1]
    with pytest.raises(MeasureError, match="cannot run"):
        failing_cases(path, 3, 1e-3, 1e-3)  # there is no third


def test_a_program_of_other_weights_is_not_bundled(made: Parcel, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other: Graph = capture(Two().eval(), made.graph.example_inputs, name="other")
    mixed = Parcel(other, replace(made.artifact, path=tmp_path / "two.pte"), HOST)
    mixed.artifact.path.write_bytes(made.artifact.path.read_bytes())
    with pytest.raises(MeasureError, match="other outputs than eager"):
        describe_made(mixed, None, noise(other))
    assert [path.name for path in tmp_path.iterdir()] == ["two.pte"]
