from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from edgeprune.data import Data, DataRequest, load_data
from edgeprune.data.images import KeptImages, ReadImages
from edgeprune.errors import DataError


def problem(spec: str, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load_data(DataRequest(spec, **options))  # type: ignore[arg-type]
    return str(caught.value)


def sizes(data: Data) -> tuple[int, int, int]:
    assert data.test is not None
    return tuple(len(loader.dataset) for loader in (data.train, data.validation, data.test))  # type: ignore[arg-type,return-value]


# --- the table -------------------------------------------------------------------------------


def test_unknown_data_is_named_with_what_is_close() -> None:
    assert "did you mean digits?" in problem("digit")
    assert "imagefolder:DIR" in problem("something")


def test_all_problems_of_a_request_come_at_once() -> None:
    text = problem("digits", batch_size=0, val_fraction=1.5)
    assert "batch size is 0" in text
    assert "val_fraction is 1.5" in text


# --- digits ----------------------------------------------------------------------------------


def test_digits_are_split_resized_and_normalised() -> None:
    data = load_data(DataRequest("digits", (3, 28, 20), batch_size=50))
    train, validation, test = sizes(data)
    assert train + validation + test == 1797
    assert abs(test - 0.2 * 1797) < 6
    assert abs(validation - 0.1 * (train + validation)) < 6
    assert (data.classes, data.sample_shape, data.metric_name) == (10, (3, 28, 20), "top1")
    xs = torch.cat([x for x, _ in data.train_plain])
    assert xs.shape == (train, 3, 28, 20)
    assert torch.equal(xs[:, 0], xs[:, 2])
    assert abs(float(xs.mean())) < 1e-3
    assert abs(float(xs.std()) - 1) < 1e-3
    first_labels = next(iter(data.train_plain))[1]
    assert len(first_labels.unique()) == 10, "the first batch stands for all classes"


def test_digits_default_shape_and_fixed_split() -> None:
    one, other = (load_data(DataRequest("digits", seed=seed)) for seed in (0, 1))
    assert one.sample_shape == (1, 32, 32)
    labels = [torch.cat([y for _, y in d.validation]).sort().values for d in (one, other)]
    assert torch.equal(*labels)
    sums = [
        torch.cat([x.sum((1, 2, 3)) for x, _ in d.validation]).sort().values for d in (one, other)
    ]
    assert torch.equal(*sums)


def test_digits_refuse_other_than_images() -> None:
    assert "16" in problem("digits", sample_shape=(16,))
    assert "takes nothing" in problem("digits:here")


# --- folders ---------------------------------------------------------------------------------


def make_folder(root: Path, counts: dict[str, dict[str, int]], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for part, classes in counts.items():
        for shade, (name, count) in enumerate(classes.items()):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8) + 90 * shade
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")


TWO = {"cat": 10, "dog": 20}
HALF = {"cat": 4, "dog": 6}


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_folder_with_one_other_part_holds_validation_out_of_train(
    tmp_path: Path, part: str
) -> None:
    make_folder(tmp_path, {"train": TWO, part: HALF}, (12, 10))
    data = load_data(DataRequest(f"imagefolder:{tmp_path}", None, batch_size=8))
    assert sizes(data) == (27, 3, 10)
    assert (data.classes, data.sample_shape) == (2, (3, 10, 12))
    validation = torch.cat([y for _, y in data.validation])
    assert sorted(validation.tolist()) == [0, 1, 1]
    held = {tuple(x.flatten()[:50].tolist()) for xs, _ in data.validation for x in xs}
    trained = {tuple(x.flatten()[:50].tolist()) for xs, _ in data.train_plain for x in xs}
    assert len(held) == 3
    assert not held & trained


def test_a_folder_with_both_parts_uses_them_as_they_are(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": TWO, "val": HALF, "test": {"cat": 1, "dog": 2}}, (8, 8))
    data = load_data(DataRequest(f"imagefolder:{tmp_path}", (1, 16, 16)))
    assert sizes(data) == (30, 10, 3)
    x, _ = next(iter(data.validation))
    assert x.shape == (10, 1, 16, 16)


def test_labels_stay_with_their_images(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": TWO, "val": HALF}, (8, 8))
    data = load_data(DataRequest(f"imagefolder:{tmp_path}", (3, 8, 8)))
    assert data.test is not None
    for loader in (data.train_plain, data.validation, data.test):
        for x, y in loader:
            bright = x.mean((1, 2, 3))
            assert torch.equal(bright > bright.mean(), y.bool())


def test_large_images_are_read_when_needed_and_reproducibly(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": TWO, "val": HALF}, (120, 90))
    data = load_data(DataRequest(f"imagefolder:{tmp_path}", (3, 72, 72), batch_size=9, workers=1))
    assert isinstance(data.train.dataset, ReadImages)
    first, second = (torch.cat([x for x, _ in data.train]) for _ in range(2))
    assert first.shape == (27, 3, 72, 72)
    assert torch.equal(first, second)
    data.train.batch_sampler.begin(0, 1)  # type: ignore[union-attr]
    assert not torch.equal(torch.cat([x for x, _ in data.train]), first)


def test_small_images_stay_in_memory(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": TWO, "val": HALF}, (120, 90))
    data = load_data(DataRequest(f"imagefolder:{tmp_path}", (3, 64, 64)))
    assert isinstance(data.train.dataset, KeptImages)
    assert data.train.dataset.pixels.shape == (27, 3, 64, 64)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    assert "needs a folder" in problem("imagefolder:")
    assert "no such folder" in problem(f"imagefolder:{tmp_path / 'nowhere'}")
    assert "it holds no folders" in problem(f"imagefolder:{tmp_path}")
    (tmp_path / "train").mkdir()
    assert "it holds train/" in problem(f"imagefolder:{tmp_path}")
    (tmp_path / "val").mkdir()
    assert "train is empty" in problem(f"imagefolder:{tmp_path}")
    (tmp_path / "train" / "cat").mkdir()
    assert "cat" in problem(f"imagefolder:{tmp_path}")


def test_classes_must_agree(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": TWO, "val": {"cat": 2, "fox": 2}}, (8, 8))
    text = problem(f"imagefolder:{tmp_path}")
    assert "missing: dog" in text
    assert "not in train/: fox" in text


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": TWO, "val": HALF}, (8, 8))
    (tmp_path / "train" / "dog" / "7.png").write_bytes(b"no image")
    assert "7.png" in problem(f"imagefolder:{tmp_path}", sample_shape=(3, 8, 8))


def test_images_have_one_or_three_channels(tmp_path: Path) -> None:
    make_folder(tmp_path, {"train": TWO, "val": HALF}, (8, 8))
    text = problem(f"imagefolder:{tmp_path}", sample_shape=(5, 8, 8))
    assert "5 channels" in text
    assert "16" in problem(f"imagefolder:{tmp_path}", sample_shape=(3, 16, 8, 8))


# --- torchvision -----------------------------------------------------------------------------


def write_mnist(root: Path, train: int, test: int) -> None:
    """The four files of MNIST (http format: big-endian sizes, then bytes)."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, n in (("train", train), ("t10k", test)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = struct.pack(">IIII", 2051, n, 28, 28) + pixels.tobytes()
        digits = struct.pack(">II", 2049, n) + labels.tobytes()
        for name, content in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", digits)):
            (raw / f"{prefix}-{name}").write_bytes(content)
            (raw / f"{prefix}-{name}.gz").write_bytes(gzip.compress(content))


def test_a_torchvision_set_chosen_by_train(tmp_path: Path) -> None:
    write_mnist(tmp_path, 100, 20)
    data = load_data(DataRequest(f"torchvision:MNIST:{tmp_path}", (1, 28, 28)))
    assert sizes(data) == (90, 10, 20)
    assert data.classes == 10
    assert isinstance(data.train.dataset, KeptImages)
    assert not data.train.dataset.look.flip
    source = datasets.MNIST(str(tmp_path), train=False)
    assert data.test is not None
    assert isinstance(data.test.dataset, KeptImages)
    assert torch.equal(data.test.dataset.pixels[:, 0], source.data)
    assert torch.equal(data.test.dataset.labels, source.targets)


class Splits:
    """A data set in torchvision's manner, with splits of its own."""

    sizes: ClassVar[dict[str, int]] = {"train": 40, "val": 8, "test": 12}

    def __init__(self, root: str, split: str = "train") -> None:
        if split not in self.sizes:
            raise ValueError(f"Unknown value '{split}' for argument split.")
        self.n = self.sizes[split]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        if i >= self.n:
            raise IndexError
        return Image.new("RGB", (8, 8), (i, 0, 0)), i % 4


class Partial(Splits):
    sizes: ClassVar[dict[str, int]] = {"trainval": 40, "test": 12}


class Pathless:
    def __init__(self, root: str) -> None: ...


@pytest.mark.parametrize(("kind", "expected"), [(Splits, (40, 8, 12)), (Partial, (36, 4, 12))])
def test_a_torchvision_set_chosen_by_split(
    monkeypatch: pytest.MonkeyPatch, kind: type[Splits], expected: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(datasets, "Toys", kind, raising=False)
    data = load_data(DataRequest("torchvision:Toys:anywhere", (3, 8, 8)))
    assert sizes(data) == expected
    assert data.classes == 4


def test_torchvision_sets_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--download" in problem(f"torchvision:CIFAR10:{tmp_path}")
    assert "did you mean" in problem(f"torchvision:CIFAR11:{tmp_path}")
    assert "no data set ''" in problem("torchvision:")
    assert "torchvision:CIFAR10:ROOT" in problem("torchvision:CIFAR10")
    monkeypatch.setattr(datasets, "Toys", Pathless, raising=False)
    assert "no train= or split=" in problem("torchvision:Toys:anywhere")


# --- the user's loaders ----------------------------------------------------------------------

GOOD = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def part(n):
    return DataLoader(TensorDataset(torch.randn(n, 5), torch.randn(n, 1)), batch_size=4)

def mae(output, target):
    return (output - target).abs().mean()

def loaders(batch_size, seed=1):
    assert batch_size == 16
    return {
        "train": part(16), "val": part(8), "loss": torch.nn.functional.mse_loss,
        "metric": mae, "higher_is_better": False,
    }

class Bunch:
    train, val, test = part(16), part(8), part(4)
    loss, metric, metric_name = staticmethod(mae), staticmethod(mae), "error"

def bunch():
    return Bunch()

def wrong():
    return {
        "train": [1, 2], "val": DataLoader([1, 2, 3]), "metrik": mae, "loss": 3, "classes": 1,
    }

def fails():
    raise OSError("disk is gone")
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def test_a_users_mapping(user: Path) -> None:
    data = load_data(DataRequest(f"{user}:loaders", batch_size=16))
    assert (data.metric_name, data.higher_is_better, data.test) == ("mae", False, None)
    assert (data.classes, data.sample_shape) == (None, (5,))
    assert data.train_plain is data.train


def test_a_users_object(user: Path) -> None:
    data = load_data(DataRequest(f"{user}:bunch"))
    assert data.metric_name == "error"
    assert data.test is not None
    assert len(data.test.dataset) == 4  # type: ignore[arg-type]


def test_every_problem_of_a_users_loaders_at_once(user: Path) -> None:
    text = problem(f"{user}:wrong")
    for part in (
        "did you mean metric",
        "'metric' is missing",
        "'train' is a list",
        "'val' does not yield (inputs, targets)",
        "'loss' is not callable",
        "'classes' is 1",
    ):
        assert part in text


def test_a_users_function_that_fails_is_told_with_its_line(user: Path) -> None:
    text = problem(f"{user}:fails")
    assert "OSError: disk is gone" in text
    assert "mine.py:" in text
    assert "did you mean loaders" in problem(f"{user}:loader")


def test_a_users_samples_must_be_what_the_model_wants(user: Path) -> None:
    text = problem(f"{user}:loaders", batch_size=16, sample_shape=(3, 8, 8))
    assert "samples of 5, but the model wants 3x8x8" in text
