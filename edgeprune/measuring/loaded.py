"""A program in ExecuTorch's runtime. Only worker processes import this: a bad program can crash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# The extension itself: `portable_lib`, its Python face, imports all of executorch's compilers,
# which takes seconds and a few hundred megabytes in every process. Needs torch imported first.
from executorch.extension.pybindings import _C as runtime

# ScalarType codes of the format (runtime/core/portable_type/scalar_type.h).
_DTYPES = {
    0: torch.uint8,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    7: torch.float64,
    11: torch.bool,
    15: torch.bfloat16,
}

# What the runtime says where it ran a bundled case and got other outputs.
_MISMATCH = "Result verification failed"


class CannotLoad(Exception):
    """The runtime refuses a program, or this process cannot set it up as asked."""


@dataclass(frozen=True)
class Loaded:
    """One method of a loaded program, with inputs that stay alive as long as it does.

    `program` is held because upstream's method does not keep it alive (executorch #10725).
    """

    program: Any
    method: Any
    inputs: tuple[torch.Tensor, ...]
    planned_inputs: bool

    def execute(self) -> object:
        """Run once on `self.inputs`; no Python object is made for outputs.

        Inputs in the caller's memory were set once, at loading, and are read in place. Planned
        inputs live in the arena, where the run overwrites them, so they are copied in anew.
        """
        if self.planned_inputs:
            return self.method.call(self.inputs, clone_outputs=False)
        return self.method.execute()

    def call(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run once on other inputs of the same shapes; the outputs are the caller's own."""
        return [torch.as_tensor(y) for y in self.method.call(inputs, clone_outputs=True)]


def use_threads(threads: int) -> None:
    """Set the runtime's thread pool, before anything is loaded; raises CannotLoad if it refuses."""
    runtime._unsafe_reset_threadpool(threads)
    got = runtime._threadpool_get_thread_count()
    if got != threads:
        raise CannotLoad(f"the runtime's thread pool has {got} threads where {threads} were asked")


def load(path: Path, seed: int) -> Loaded:
    """The program's `forward` (or only) method with random inputs of the shapes it declares."""
    try:
        program, name = _opened(path)
        method = program.load_method(name)
        meta = program.method_meta(name)
        generator = torch.Generator().manual_seed(seed)
        infos = [meta.input_tensor_meta(i) for i in range(meta.num_inputs())]
        inputs = tuple(_random(info, generator) for info in infos)
        # Set for `execute`, and tried: shapes or layouts the runtime wants otherwise fail here.
        method.set_inputs(inputs)
        planned = any(info.is_memory_planned() for info in infos)
        loaded = Loaded(program, method, inputs, planned)
        loaded.execute()
    except (RuntimeError, IndexError) as error:
        raise CannotLoad(f"the runtime cannot run {path}: {error}") from error
    return loaded


def shapes(path: Path) -> dict[str, list[list[int]]]:
    """The shapes of the program's inputs and outputs, as it declares them; nothing is loaded."""
    try:
        program, name = _opened(path)
        meta = program.method_meta(name)
        ins = [meta.input_tensor_meta(i) for i in range(meta.num_inputs())]
        outs = [meta.output_tensor_meta(i) for i in range(meta.num_outputs())]
    except (RuntimeError, IndexError) as error:
        raise CannotLoad(f"the runtime cannot read {path}: {error}") from error
    return {"inputs": [list(x.sizes()) for x in ins], "outputs": [list(y.sizes()) for y in outs]}


def _opened(path: Path) -> tuple[Any, str]:
    """The program, and the name of its `forward` (or only) method."""
    # Full verification costs a pass over the file's tables and turns most damage into an
    # error instead of a crash.
    program = runtime._load_program(
        str(path), program_verification=runtime.Verification.InternalConsistency
    )
    names = [program.get_method_name(i) for i in range(program.num_methods())]
    return program, "forward" if "forward" in names else names[0]


def failing(path: Path, cases: int, rtol: float, atol: float) -> list[int]:
    """The cases of the bundled program at `path` whose outputs are not the expected ones."""
    bundled = runtime._load_bundled_program_from_buffer(path.read_bytes())
    return [case for case in range(cases) if not _gives(bundled, path, case, (rtol, atol))]


def _gives(bundled: Any, path: Path, case: int, within: tuple[float, float]) -> bool:
    try:
        bundled.verify_result_with_bundled_expected_output("forward", case, *within)
    except RuntimeError as error:
        if _MISMATCH in str(error):
            return False
        raise CannotLoad(f"the runtime cannot run {path}: {error}") from error
    return True


def _random(info: Any, generator: torch.Generator) -> torch.Tensor:
    shape, dtype = tuple(info.sizes()), _DTYPES.get(info.dtype())
    if dtype is None:
        raise CannotLoad(f"an input has scalar type {info.dtype()}, which edgeprune cannot make")
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    # 0 and 1 are valid whatever integers mean: tokens, indices, masks, pixels.
    return torch.randint(0, 2, shape, generator=generator).to(dtype)
