from __future__ import annotations

import torch

from edgeprune.data.images import KeptImages, Look

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)


def images(n: int = 6, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


def test_normalising_is_pixel_over_255_minus_mean_over_deviation() -> None:
    pixels = images()
    got = Look((3, 8, 8), MEAN, STD).normalise(pixels)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    assert torch.allclose(got, (pixels.float() / 255 - mean) / std, atol=1e-5)


def test_grey_is_repeated_where_the_model_wants_more_channels() -> None:
    got = Look((4, 8, 8), (0.5,), (0.25,)).normalise(images()[:, :1])
    assert got.shape == (6, 4, 8, 8)
    assert torch.equal(got[:, 0], got[:, 3])


def test_without_augmentation_images_come_as_they_are() -> None:
    pixels, look = images(), Look((3, 8, 8), MEAN, STD)
    kept = KeptImages(pixels, torch.arange(6), look, augment=False)
    x, y = kept.__getitems__([(4, 123), (1, 77)])
    assert y.tolist() == [4, 1]
    assert torch.equal(x, look.normalise(pixels[[4, 1]]))


def test_every_augmented_image_is_a_shift_of_the_padded_one_perhaps_mirrored() -> None:
    pad = 2
    pixels, look = images(), Look((3, 8, 8), (0.0,) * 3, (1.0,) * 3, pad=pad)
    kept = KeptImages(pixels, torch.zeros(6, dtype=torch.int64), look, augment=True)
    padded = torch.nn.functional.pad(pixels[3], (pad,) * 4)
    crops = {
        (down, right, mirrored): crop.flip(2) if mirrored else crop
        for down in range(2 * pad + 1)
        for right in range(2 * pad + 1)
        for mirrored in (False, True)
        for crop in [padded[:, down : down + 8, right : right + 8]]
    }
    seen = set()
    for key in range(100):
        (x,), _ = kept.__getitems__([(3, key)])
        back = (x * 255).round().to(torch.uint8)
        found = [which for which, crop in crops.items() if torch.equal(back, crop)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == len(crops), "consecutive keys reach every shift, both ways"


def test_a_samples_augmentation_depends_on_its_key_alone() -> None:
    kept = KeptImages(images(), torch.arange(6), Look((3, 8, 8), MEAN, STD), augment=True)
    together, _ = kept.__getitems__([(0, 5), (1, 6), (2, 7)])
    alone, _ = kept.__getitems__([(1, 6)])
    assert torch.equal(together[1], alone[0])


def test_no_flip_means_no_mirrored_image() -> None:
    ramp = torch.arange(8, dtype=torch.uint8).mul(30).expand(1, 1, 8, 8).contiguous()
    kept = KeptImages(
        ramp,
        torch.zeros(1, dtype=torch.int64),
        Look((1, 8, 8), (0.0,), (1.0,), 0, False),
        augment=True,
    )
    for key in range(40):
        x, _ = kept.__getitems__([(0, key)])
        assert torch.allclose(x * 255, ramp.float(), atol=1e-3)
