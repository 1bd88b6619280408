"""Where models come from: a table by scheme of how to build one and what input it wants."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeprune.errors import ModelError
from edgeprune.models.records import LoadedModel, ModelRequest
from edgeprune.randomness import mix, seeded
from edgeprune.usercode import close_matches, find_function

Shape = tuple[int, ...]
FORMS = "torchvision:NAME, timm:NAME, package.module:factory, file.py:factory, or a .pt2 file"


@dataclass(frozen=True)
class Source:
    """How models of one scheme are built, and what input shape a name implies (None: unknown)."""

    build: Callable[[str, ModelRequest], LoadedModel]
    shape: Callable[[str], Shape | None]


SOURCES: dict[str, Source] = {}


def source(
    scheme: str, shape: Callable[[str], Shape | None]
) -> Callable[[Callable[[str, ModelRequest], LoadedModel]], None]:
    """Register the builder of `scheme:...`; a second one for the same scheme raises."""

    def register(build: Callable[[str, ModelRequest], LoadedModel]) -> None:
        if scheme in SOURCES:
            raise ValueError(f"model source {scheme!r} is registered twice")
        SOURCES[scheme] = Source(build, shape)

    return register


def split_spec(spec: str) -> tuple[str, str]:
    """(scheme, rest) of a model spec. Raises ModelError if it has none of the known forms."""
    if spec.endswith(".pt2"):
        return "pt2", spec
    scheme, colon, rest = spec.partition(":")
    if colon and scheme in ("torchvision", "timm"):
        return scheme, rest
    if colon:
        return "factory", spec
    from torchvision import models

    hint = f"; did you mean torchvision:{spec}?" if spec in models.list_models() else ""
    raise ModelError(f"no such model: {spec!r}{hint} (a model is {FORMS})")


# --- torchvision -----------------------------------------------------------------------------

_CLASSIFIER = (1, 3, 224, 224)
_CLIP = (1, 3, 16, 112, 112)
_LARGE_CLIP = (1, 3, 16, 224, 224)
_TORCHVISION_SHAPES: dict[str, Shape] = {
    "inception_v3": (1, 3, 299, 299),
    "quantized_inception_v3": (1, 3, 299, 299),
    "r3d_18": _CLIP,
    "mc3_18": _CLIP,
    "r2plus1d_18": _CLIP,
    "s3d": _LARGE_CLIP,
    "mvit_v1_b": _LARGE_CLIP,
    "mvit_v2_s": _LARGE_CLIP,
    "swin3d_t": _LARGE_CLIP,
    "swin3d_s": _LARGE_CLIP,
    "swin3d_b": _LARGE_CLIP,
}
# Heads that serve training only; in eval mode they never run, so they are left out.
_WITHOUT_AUXILIARY: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def _torchvision_shape(name: str) -> Shape:
    _check_torchvision_name(name)
    return _TORCHVISION_SHAPES.get(name, _CLASSIFIER)


@source("torchvision", _torchvision_shape)
def _torchvision(name: str, request: ModelRequest) -> LoadedModel:
    from torchvision import models

    shape = _torchvision_shape(name)
    options: dict[str, Any] = {"weights": None, **_WITHOUT_AUXILIARY.get(name, {})}
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    if "weights_backbone" in parameters:
        options["weights_backbone"] = None  # its default would download
    if request.classes is not None:
        options["num_classes"] = request.classes
    try:
        module = models.get_model(name, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        given = ", ".join(f"{k}={v}" for k, v in options.items())
        raise ModelError(f"torchvision:{name} cannot be built with {given}: {error}") from error
    return LoadedModel(module, shape, name, has_weights=False)


def _check_torchvision_name(name: str) -> None:
    from torchvision import models

    known = models.list_models()
    if name not in known:
        raise ModelError(
            f"no such model: torchvision has no {name!r}{close_matches(name, known)} "
            "(all names: python -c 'import torchvision; print(torchvision.models.list_models())')"
        )


# --- timm ------------------------------------------------------------------------------------


def _timm_shape(name: str) -> Shape | None:
    timm = _import_timm(name)
    config = timm.get_pretrained_cfg(name)
    return (1, *config.input_size) if config is not None else None


@source("timm", _timm_shape)
def _timm(name: str, request: ModelRequest) -> LoadedModel:
    timm = _import_timm(name)
    options = {} if request.classes is None else {"num_classes": request.classes}
    try:
        module = timm.create_model(name, pretrained=False, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"timm:{name} cannot be built: {error}") from error
    config = getattr(module, "pretrained_cfg", None) or {}
    size = config.get("input_size")
    return LoadedModel(module, (1, *size) if size else (), name, has_weights=False)


def _import_timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f"timm:{name} needs the package timm, which is not installed here: pip install timm"
        ) from error
    if not timm.is_model(name):
        raise ModelError(
            f"no such model: timm has no {name!r}{close_matches(name, timm.list_models())} "
            "(all names: python -c 'import timm; print(timm.list_models())')"
        )
    return timm


# --- the user's factory ----------------------------------------------------------------------


@source("factory", lambda spec: None)
def _factory(spec: str, request: ModelRequest) -> LoadedModel:
    factory = find_function(spec, ModelError)
    if isinstance(factory.function, nn.Module):
        raise ModelError(
            f"{spec} is a module, not a function that makes one: write `def make(): return ...` "
            "and name that"
        )
    notes: tuple[str, ...] = ()
    arguments: dict[str, Any] = {}
    if request.classes is not None and factory.accepts("num_classes"):
        arguments["num_classes"] = request.classes
    elif request.classes is not None:
        notes += (f"{spec} takes no num_classes: it keeps its own number of outputs",)
    module = factory.call(**arguments)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{spec} made a {type(module).__name__}, not a torch.nn.Module")
    trained = False
    if request.weights is None:
        with seeded(mix(request.seed, 1)):
            again = factory.call(**arguments)
        trained = _same_weights(module, again)
        notes += (
            f"{spec} makes the same weights whatever the seed: they are taken as trained"
            if trained
            else f"{spec} makes random weights: they are taken as untrained",
        )
    name = getattr(factory.function, "__name__", spec.rpartition(":")[2])
    return LoadedModel(module, (), name, has_weights=trained, notes=notes)


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules hold equal parameters: two factories' fresh weights never do."""
    first, second = dict(one.named_parameters()), dict(other.named_parameters())
    return (
        bool(first)
        and first.keys() == second.keys()
        and all(
            p.shape == second[k].shape and torch.equal(p.detach(), second[k].detach())
            for k, p in first.items()
        )
    )


# --- a saved program -------------------------------------------------------------------------


def _pt2_shape(path: str) -> Shape | None:
    inputs = _load_pt2(path).example_inputs
    return tuple(inputs[0][0].shape) if inputs else None


@source("pt2", _pt2_shape)
def _pt2(path: str, request: ModelRequest) -> LoadedModel:
    from edgeprune.graph import capture

    program = _load_pt2(path)
    arguments = program.example_inputs[0] if program.example_inputs else ()
    if len(arguments) > 1:
        raise ModelError(f"{path} takes {len(arguments)} inputs; models with one are supported")
    shape = tuple(arguments[0].shape) if arguments else request.input_shape
    if not shape:
        raise ModelError(f"{path} carries no example input: give its shape with --input")
    notes: tuple[str, ...] = ()
    if request.classes is not None:
        notes = (f"{path} keeps its own number of outputs: a saved program cannot change it",)
    # An exported program's own module refuses train() and eval(); a captured one does not.
    example = tuple(arguments) or (torch.zeros(shape),)
    module = capture(program, example).module()
    return LoadedModel(module, shape, Path(path).stem, has_weights=True, notes=notes)


def _load_pt2(path: str) -> torch.export.ExportedProgram:
    if not Path(path).is_file():
        raise ModelError(f"no such file: {path}")
    try:
        return torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path} is no program that this torch ({torch.__version__}) can load: {reason}. "
            "Save it again with torch.export.save"
        ) from error
