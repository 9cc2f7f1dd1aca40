"""The user's own data, each way it can come, given in one line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paredown.core.task import Task
from paredown.data import tasks

Arrays = tuple[np.ndarray, np.ndarray]
Pictures = Callable[..., Path]


def sizes(task: Task) -> dict[str, int]:
    """Return the number of samples in each role but calib."""
    return {role: len(split) for role, split in task.splits.items() if role != "calib"}


# ---- .npz ---------------------------------------------------------------------------------------------------------


def test_npz_with_its_own_roles(tmp_path: Path, arrays: Arrays) -> None:
    x, y = arrays
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30], x_val=x[30:], y_val=y[30:])
    task = tasks.load(tmp_path / "a.npz")
    assert task.name == "a" and task.shape == (1, 6, 5) and task.scale == 1 / 255 and task.classes == ("0", "1", "2")
    assert sizes(task) == {"train": 60, "test": 30, "val": 30}
    assert task.splits["train"].x.dtype == np.uint8 and np.array_equal(task.splits["train"].x[:, 0], x)


def test_npz_without_roles_or_with_medmnist_names(tmp_path: Path, arrays: Arrays) -> None:
    x, y = arrays
    np.savez(tmp_path / "a.npz", x=x, y=y)
    assert sizes(tasks.load(str(tmp_path / "a.npz"))) == {"train": 36, "test": 12, "val": 12}
    np.savez(tmp_path / "m.npz", train_images=x, train_labels=y[:, None], test_images=x, test_labels=y[:, None], info=1)
    task = tasks.load(tmp_path / "m.npz")
    assert sizes(task)["test"] == 60 and "left alone in m.npz: info" in task.notes


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((60, 7), (7,)),
        ((60, 6, 5), (1, 6, 5)),
        ((60, 6, 5, 3), (3, 6, 5)),
        ((60, 6, 5, 1), (1, 6, 5)),
        ((60, 6, 5, 4), (4, 6, 5)),
        ((60, 3, 6, 5), (3, 6, 5)),
        ((60, 9, 6, 5), (9, 6, 5)),
        ((60, 3, 6, 3), (3, 6, 3)),
    ],
)
def test_layouts(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    task = tasks.load({"train": (x, np.arange(60) % 2), "test": (x, np.arange(60) % 2)})
    assert task.shape == wanted
    doubtful = shape in ((60, 9, 6, 5), (60, 3, 6, 3))
    assert any("were read as channels, height, width" in note for note in task.notes) == doubtful


def test_channels_last_is_turned_not_reshaped() -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    task = tasks.load({"train": (x, np.arange(20) % 2), "test": (x, np.arange(20) % 2), "val": (x, np.arange(20) % 2)})
    assert task.splits["train"].x[7, 2, 3, 4] == x[7, 3, 4, 2]


@pytest.mark.parametrize(
    ("pixels", "dtype", "scale"),
    [
        (np.array([0.0, 1.0]), np.float32, 1.0),
        (np.array([-2.0, 1.5]), np.float32, 1.0),
        (np.array([0.0, 255.0]), np.float32, 1 / 255),
        (np.array([-128.0, 64.0]), np.float32, 1 / 128),
        (np.array([0, 255], np.int64), np.uint8, 1 / 255),
        (np.array([0, 4095], np.uint16), np.float32, 1 / 4095),
        (np.array([False, True]), np.uint8, 1.0),
    ],
)
def test_numbers_and_scale_of_pictures(pixels: np.ndarray, dtype: type, scale: float) -> None:
    x = np.random.default_rng(0).choice(pixels, (40, 4, 4))
    x[:, 0, 0], x[:, 0, 1] = pixels[0], pixels[1]
    task = tasks.load((x, np.arange(40) % 2))
    assert task.splits["train"].x.dtype == dtype and task.scale == pytest.approx(scale)
    assert np.abs(task.inputs("train")).max() <= 2


def test_dark_bytes_are_said_and_vectors_left_as_they_are() -> None:
    x = np.random.default_rng(0).integers(0, 17, (40, 8, 8), dtype=np.uint8)
    assert any("reach only 16 of 255" in note for note in tasks.load((x, np.arange(40) % 2)).notes)
    rows = np.random.default_rng(0).normal(50, 9, (40, 3))
    task = tasks.load((rows, np.arange(40) % 2))
    assert task.scale == 1.0 and task.splits["train"].x.dtype == np.float32 and task.splits["train"].x.mean() > 40


# ---- .csv ---------------------------------------------------------------------------------------------------------


def write(path: Path, *lines: str) -> Path:
    """Write lines to a file; return its path."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


ROWS = [f"{i * 0.5},{-i},{'cat' if i % 2 else 'dog'}" for i in range(20)]


def test_csv_with_and_without_a_header(tmp_path: Path) -> None:
    bare = tasks.load(write(tmp_path / "bare.csv", *ROWS))
    headed = tasks.load(write(tmp_path / "headed.csv", "a,b,kind", "", *ROWS))
    assert bare.classes == headed.classes == ("cat", "dog") and bare.shape == (2,)
    assert np.array_equal(bare.splits["test"].x, headed.splits["test"].x) and sum(sizes(bare).values()) == 20


def test_csv_label_column_by_name_wherever_it_is(tmp_path: Path) -> None:
    rows = [f"{'no' if i % 3 else 'yes'};{i};{i * i}" for i in range(18)]
    task = tasks.load(write(tmp_path / "t.csv", "Target;0;1", *rows))
    assert task.classes == ("no", "yes") and task.splits["train"].x.min() >= 0


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "1", "2"], ("0", "1", "2")),
        (["1", "2", "10"], ("1", "2", "10")),
        (["-1", "1"], ("-1", "1")),
        (["1.0", "2.0"], ("1", "2")),
        (["7", "seven"], ("7", "seven")),
    ],
)
def test_csv_labels(tmp_path: Path, labels: list[str], classes: tuple[str, ...]) -> None:
    rows = [f"{i},{label}" for i, label in enumerate(labels * 6)]
    assert tasks.load(write(tmp_path / "t.csv", *rows)).classes == classes


# ---- folders ------------------------------------------------------------------------------------------------------


def test_folder_with_roles(pictures: Pictures) -> None:
    root = pictures("train/cat", "train/dog", "test/cat", "test/dog", "extra/x")
    task = tasks.load(root)
    assert task.name == "pictures" and task.classes == ("cat", "dog") and task.shape == (3, 6, 5)
    assert sizes(task) == {"train": 12, "test": 16, "val": 4} and task.scale == 1 / 255
    assert "folders left alone, being no role: extra" in task.notes


def test_folder_of_classes_alone_and_their_order(pictures: Pictures) -> None:
    task = tasks.load(str(pictures("10", "9", "2", mode="L")))
    assert task.classes == ("2", "9", "10") and task.shape == (1, 6, 5) and sum(sizes(task).values()) == 24


def test_folder_pixels_are_the_pictures(tmp_path: Path) -> None:
    for name, value in (("a", 10), ("b", 200)):
        for role in ("train", "val", "test"):
            (tmp_path / role / name).mkdir(parents=True)
            Image.fromarray(np.full((4, 3, 3), (value, 1, 2), np.uint8)).save(tmp_path / role / name / "0.png")
    task = tasks.load(tmp_path)
    assert task.splits["test"].x[1, :, 0, 0].tolist() == [200, 1, 2] and task.splits["test"].y.tolist() == [0, 1]
    assert any("in train too" in note for note in task.notes)


def test_folder_of_two_sizes_takes_the_most_common_and_says_so(pictures: Pictures) -> None:
    pictures("a", "b", count=6)
    task = tasks.load(pictures("a", count=2, size=(9, 9), seed=1))
    assert task.shape == (3, 6, 5)
    assert any("2 of 14 pictures had another size and were resized (bilinear) to 6 × 5" in note for note in task.notes)


def test_folder_mixes_grey_and_colour_as_colour(pictures: Pictures) -> None:
    pictures("a", "b", mode="L")
    assert tasks.load(pictures("a", mode="RGB", seed=1)).shape[0] == 3


def test_folder_photographs_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        for role in ("train", "val", "test"):
            (tmp_path / role / name).mkdir(parents=True)
            picture = Image.fromarray(np.full((8, 4), 99, np.uint8))
            picture.save(tmp_path / role / name / "0.jpg", exif=exif)
    assert tasks.load(tmp_path).shape == (1, 4, 8)


def test_folder_of_16_bit_pictures_keeps_the_upper_bits(tmp_path: Path) -> None:
    for name, value in (("a", 0x1234), ("b", 0xFE00)):
        for role in ("train", "val", "test"):
            (tmp_path / role / name).mkdir(parents=True)
            Image.fromarray(np.full((3, 3), value, np.uint16)).save(tmp_path / role / name / "0.png")
    assert tasks.load(tmp_path).splits["train"].x[:, 0, 0, 0].tolist() == [0x12, 0xFE]


# ---- task.yaml ----------------------------------------------------------------------------------------------------


def test_yaml_over_a_folder(pictures: Pictures, tmp_path: Path) -> None:
    pictures("a", "b", count=10)
    path = write(
        tmp_path / "task.yaml",
        "data: pictures",
        "metric: macro_f1",
        "moves: [flip, shift]",
        "size: [4, 4]",
        "test_fraction: 0.5",
        "licence: ours",
        "classes: [b, a]",
    )
    task = tasks.load(path)
    assert task.metric_name == "macro_f1" and task.moves == ("flip", "shift") and task.shape == (3, 4, 4)
    assert sizes(task)["test"] == 10 and task.licence == "ours" and task.classes == ("b", "a")
    assert tasks.load(path, metric="auc").metric_name == "auc"


def test_yaml_folds_rows_into_pictures(tmp_path: Path) -> None:
    rows = [",".join(str((i * j) % 17) for j in range(12)) + f",{i % 2}" for i in range(30)]
    write(tmp_path / "t.csv", *rows)
    task = tasks.load(write(tmp_path / "t.yml", "data: t.csv", "shape: [1, 3, 4]", "scale: 0.0625", "label: 12"))
    assert task.shape == (1, 3, 4) and task.scale == 0.0625 and task.name == "t"


def test_yaml_with_a_table_for_each_role(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x,y,label", *[f"{i},{-i},{'uvw'[i % 3]}" for i in range(30)])
    write(tmp_path / "b.csv", "x,y,label", *[f"{i},{-i},{'uv'[i % 2]}" for i in range(8)])
    task = tasks.load(write(tmp_path / "t.yaml", "data: {train: a.csv, test: b.csv}"))
    assert sizes(task)["test"] == 8 and task.classes == ("u", "v", "w")
    assert any("test has no sample of 1 classes (the first: 'w')" in note for note in task.notes)


def test_yaml_over_a_built_in(tmp_path: Path) -> None:
    task = tasks.load(write(tmp_path / "task.yaml", "data: digits", "metric: log_loss", "moves: []"))
    assert task.metric_name == "log_loss" and task.scale == 1 / 16 and len(task.splits["test"]) == 450
    assert task.moves == ()


# ---- from Python --------------------------------------------------------------------------------------------------


class Tensorish:
    """What `detach`, `cpu` and `numpy` make of a tensor."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape = array.shape

    def detach(self) -> "Tensorish":
        return self

    def cpu(self) -> "Tensorish":
        return self

    def numpy(self) -> np.ndarray:
        return self.array


class Pairs:
    """A map-style Dataset: length and items, and no end of its own."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.x[i % len(self.x)], int(self.y[i % len(self.x)])


class Loader:
    """Batches in another order each time, as a DataLoader that shuffles."""

    def __init__(self, x: np.ndarray, y: np.ndarray, drop_last: bool = False) -> None:
        self.x, self.y, self.drop_last, self.draw = x, y, drop_last, np.random.default_rng(0)

    def __iter__(self) -> Iterator[list[Tensorish]]:
        order = self.draw.permutation(len(self.x))
        for i in range(0, len(order), 7):
            yield [Tensorish(self.x[order[i : i + 7]]), Tensorish(self.y[order[i : i + 7]])]


def test_arrays_lists_and_tensors_give_the_same_task(arrays: Arrays) -> None:
    x, y = arrays
    ways = [(x, y), (Tensorish(x), Tensorish(y)), (x, y.tolist()), Pairs(x, y), list(zip(x, y, strict=True))]
    ways += [{"train": (x, y)}, {"train": Pairs(x, y)}, {"x_train": x, "y_train": y}, {"x": x, "y": Tensorish(y)}]
    assert len({tasks.load(way).digest for way in ways}) == 1


def test_a_loader_that_shuffles_gives_the_same_task_twice(arrays: Arrays) -> None:
    loader = Loader(*arrays)
    assert tasks.load(loader).digest == tasks.load(loader).digest
    task = tasks.load({"train": loader, "test": Loader(*arrays, drop_last=True)})
    assert sizes(task)["test"] == 60 and any("loader of test has drop_last" in note for note in task.notes)


def test_pil_pictures_and_string_labels(arrays: Arrays) -> None:
    x, y = arrays
    items = [(Image.fromarray(picture), ["ant", "bee", "cow"][label]) for picture, label in zip(x, y, strict=True)]
    task = tasks.load(items)
    assert task.classes == ("ant", "bee", "cow") and task.shape == (1, 6, 5)


def test_real_torch_dataset_and_loader(arrays: Arrays) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    x, y = torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])
    dataset = TensorDataset(x, y)
    assert tasks.load(dataset).digest == tasks.load((x, y)).digest
    shuffled = DataLoader(dataset, batch_size=16, shuffle=True)
    assert tasks.load(shuffled).digest == tasks.load(shuffled).digest


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.float64, bool])
def test_labels_of_any_whole_kind(arrays: Arrays, dtype: type) -> None:
    y = (np.arange(60) % 2).astype(dtype)
    task = tasks.load((arrays[0], y))
    assert task.splits["train"].y.dtype == np.int64 and task.classes == ("0", "1")
    assert tasks.load((arrays[0], np.where(y, b"p", b"q"))).classes == ("p", "q")
    assert tasks.load((arrays[0], np.where(y, "p", "q").astype(object))).classes == ("p", "q")
