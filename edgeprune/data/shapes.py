"""What shape and normalisation images get."""

from __future__ import annotations

from edgeprune.data.images import SMALL, Look, Pool
from edgeprune.errors import DataError

# The statistics of ImageNet's training images, which nearly all published weights expect.
_RGB = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_GREY = ((0.449,), (0.226,))
_LARGE = 224


def image_shape(wanted: tuple[int, ...], *, any_channels: bool = False) -> tuple[int, int, int]:
    """`wanted` as (C, H, W). Raises DataError if images cannot have that shape."""
    show = "x".join(map(str, wanted))
    if len(wanted) != 3:
        raise DataError(
            f"the model wants samples of {show}, but these are images (channels x height x width)"
        )
    if wanted[0] not in (1, 3) and not any_channels:
        raise DataError(
            f"the model wants {wanted[0]} channels, but images have 3 (colour) or 1 (grey): "
            "give other data as file.py:function"
        )
    return wanted[0], wanted[1], wanted[2]


def look_of(pool: Pool, wanted: tuple[int, ...] | None, *, flip: bool = True) -> Look:
    """How the model sees `pool`: in the shape it wants, else in the first image's own size if it
    is small, else in 224 by 224; normalised with ImageNet's statistics."""
    if wanted is None:
        image = pool.read(0, 3)
        small = max(image.size) <= SMALL
        wanted = (3, image.height, image.width) if small else (3, _LARGE, _LARGE)
    shape = image_shape(wanted)
    mean, std = _RGB if shape[0] == 3 else _GREY
    return Look(shape, mean, std, flip=flip)
