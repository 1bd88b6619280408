"""From options to a loaded model, its data and its graph. The first thing here that is slow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.choices import AUTO, CRITERIA
from edgeprune.cli.progress import say
from edgeprune.errors import EdgepruneError
from edgeprune.records import Progress, silent

if TYPE_CHECKING:
    from edgeprune.data import Data
    from edgeprune.models import LoadedModel
    from edgeprune.records import Graph


@dataclass(frozen=True)
class ModelChoice:
    """Which network, as the options say it."""

    spec: str
    weights: Path | None = None
    shape: str | None = None
    seed: int = 0

    @property
    def brings_weights(self) -> bool:
        """Whether its sizes are settled: trained weights fit the network that they come from."""
        return self.weights is not None or self.spec.endswith(".pt2")


@dataclass(frozen=True)
class DataChoice:
    """Which data, as the options say it; no data at all where `spec` is None."""

    spec: str | None = None
    batch_size: int = 128
    seed: int = 0
    download: bool = False


def load_both(
    model: ModelChoice, data: DataChoice, progress: Progress = silent
) -> tuple[LoadedModel, Data | None]:
    """The model and its data, each told by the other what it leaves open.

    The data come first. A model without weights takes its number of classes from them, and its
    input shape where `--input` is not given; one that brings weights keeps what it was made for.
    """
    from edgeprune.models import ModelRequest, load_model, parse_shape

    shape = None if model.shape is None else parse_shape(model.shape)
    progress("load", 0, 0, model.spec)
    if data.spec is None:
        loaded = load_model(ModelRequest(model.spec, model.weights, shape, seed=model.seed))
        _tell(loaded.notes)
        return loaded, None

    loaded_data = _load_data(model, data, shape, progress)
    classes = loaded_data.classes if model.weights is None else None
    request = ModelRequest(
        model.spec,
        model.weights,
        shape or (1, *loaded_data.sample_shape),
        classes=classes,
        seed=model.seed,
    )
    loaded = load_model(request)
    _tell((*loaded_data.notes, *loaded.notes))
    return loaded, loaded_data


def _tell(notes: tuple[str, ...]) -> None:
    for note in notes:
        say(f"note: {note}")


def _load_data(
    model: ModelChoice, data: DataChoice, shape: tuple[int, ...] | None, progress: Progress
) -> Data:
    """The data in the input shape asked for, or else in the one that fits the model best."""
    from edgeprune.data import DataRequest, load_data
    from edgeprune.data.sources import SOURCES
    from edgeprune.models import default_input_shape

    assert data.spec is not None
    request = DataRequest(
        data.spec,
        None if shape is None else shape[1:],
        batch_size=data.batch_size,
        seed=data.seed,
        download=data.download,
    )
    implied = default_input_shape(model.spec)
    if shape is not None or implied is None:
        return load_data(request, progress)
    if model.brings_weights:
        return load_data(replace(request, sample_shape=implied[1:]), progress)
    own = load_data(request, progress)
    wanted = _fresh_shape(own.sample_shape, implied[1:])
    users_loaders = data.spec.partition(":")[0] not in SOURCES  # they give what they give
    if users_loaders or wanted == own.sample_shape:
        return own
    return load_data(replace(request, sample_shape=wanted), progress)


def _fresh_shape(own: tuple[int, ...], implied: tuple[int, ...]) -> tuple[int, ...]:
    """The (C, H, W) to train a fresh network on: the model's channels, and the data's own size if
    it is smaller than the model's, because small images gain nothing from being blown up."""
    from edgeprune.data.images import SMALL

    if len(own) != 3 or len(implied) != 3:
        return own
    small = max(own[1:]) <= SMALL
    return (implied[0], *(own[1:] if small else implied[1:]))


def check_criterion(name: str | None, data: str | None, *, auto: bool = False) -> None:
    """Raise for a criterion that does not exist or lacks its data, before anything is trained;
    `auto` is whether "auto" is one."""
    if name is None:
        return
    if name == AUTO and not auto:
        raise EdgepruneError("--criterion auto tries whole plans on data: only fit does that")
    words = (*CRITERIA, AUTO) if auto else tuple(CRITERIA)
    if name not in words:
        close = get_close_matches(name, words, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise EdgepruneError(f"--criterion {name} is not one of {', '.join(words)}{hint}")
    if data is None and (name == AUTO or CRITERIA[name].needs_data):
        raise EdgepruneError(f"--criterion {name} needs --data; l1 and l2 read weights only")


def load_graph(
    model: ModelChoice, data: DataChoice, progress: Progress = silent
) -> tuple[Graph, Data | None]:
    """The captured model and its data."""
    import torch

    from edgeprune.graph import capture

    loaded, loaded_data = load_both(model, data, progress)
    progress("capture", 0, 0, loaded.name)
    example = torch.zeros(loaded.input_shape)
    return capture(loaded.module, (example,), name=loaded.name), loaded_data
