"""What must be refused, each with one line that names the offending value."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.core.errors import BadInput
from paredown.data import folder, tasks

Refused = Callable[..., str]
Pictures = Callable[..., Path]

X = np.random.default_rng(0).random((40, 6, 5), dtype=np.float32)
Y = np.arange(40) % 4


def changed(array: np.ndarray, **at: Any) -> np.ndarray:
    """Return a copy as float with `value` at `place`."""
    copy = array.astype(np.float64)
    copy[at["place"]] = at["value"]
    return copy


IN_MEMORY: dict[str, tuple[Any, tuple[str, ...]]] = {
    "more samples than labels": ((X, Y[:39]), ("x_train has 40 samples", "y_train has 39")),
    "no samples": ((X[:0], Y[:0]), ("train is empty (0 samples)",)),
    "empty test": ({"train": (X, Y), "test": (X[:0], Y[:0])}, ("test is empty",)),
    "a NaN pixel": ((changed(X, place=(17, 2, 3), value=np.nan), Y), ("has 1 NaN", "[17, 2, 3]")),
    "infinite pixels": ((changed(X, place=slice(5, 7), value=np.inf), Y), ("has 60 NaN or inf", "[5, 0, 0]")),
    "beyond float32": ((changed(X, place=(3, 0, 0), value=1e39), Y), ("has 1 NaN or inf", "[3, 0, 0]")),
    "a NaN in a test vector": (
        {"train": (X[:, 0], Y), "test": (changed(X[:, 0], place=(2, 4), value=np.nan), Y)},
        ("x_test", "[2, 4]"),
    ),
    "one class": ((X, np.zeros(40, int)), ("all 40 labels of train are '0'", "at least two")),
    "one class of strings": ((X, ["cat"] * 40), ("'cat'", "at least two")),
    "a negative label": ((X, Y - 1), ("label -1 at y_train[0]", "allowed: 0 to 2")),
    "a fractional label": ((X, changed(Y, place=9, value=0.5)), ("label 0.5 at y_train[9]", "whole number")),
    "a NaN label": ((X, changed(Y, place=9, value=np.nan)), ("label nan at y_train[9]",)),
    "a label beyond int64": ((X, changed(Y, place=9, value=1e300)), ("beyond 2^53",)),
    "a label far out": ((X, np.where(np.arange(40) == 7, 255, Y)), ("class '4' has no sample in train", "0 to k-1")),
    "labels that begin at 1": ((X, Y + 1), ("class '0' has no sample in train",)),
    "a class that only test has": (
        {"train": (X, Y % 3), "test": (X, Y)},
        ("class '3' has no sample in train but 10 in test", "1 of 4"),
    ),
    "one-hot labels": ((X, np.eye(4)[Y]), ("y_train has shape (40, 4)", "argmax")),
    "complex labels": ((X, Y.astype(complex)), ("y_train has dtype complex128",)),
    "strings against numbers": ({"train": (X, Y), "test": (X, Y.astype(str))}, ("labels of test are strings",)),
    "text for pixels": ((np.full((40, 3), "a"), Y), ("x_train has dtype <U1", "allowed: uint8")),
    "objects for pixels": ((np.full((40, 3), None), Y), ("x_train has dtype object",)),
    "ragged samples": (([[1, 2]] * 39 + [[1]], Y), ("x_train is a list of items of different shapes",)),
    "samples of no axes": ((X[:, 0, 0], Y), ("x_train has shape (40,)", "(n, features)")),
    "samples of four axes": ((X[:, None, None], Y), ("x_train has shape (40, 1, 1, 6, 5)",)),
    "samples of nothing": ((X[:, :, :0], Y), ("x_train has shape (40, 6, 0)",)),
    "a single value": ((np.float32(3), Y), ("train is a single value",)),
    "roles of two shapes": ({"train": (X, Y), "test": (X[:, :5], Y)}, ("of test has shape (5, 5)", "train (6, 5)")),
    "roles in two units": (
        {"train": ((X * 255).astype(np.uint8), Y), "test": (X, Y)},
        ("x_test holds floats but x_train integers",),
    ),
    "an unknown role": ({"train": (X, Y), "dev": (X, Y)}, ("role 'dev' is unknown", "train, calib, val, test")),
    "no train": ({"test": (X, Y)}, ("no train role, only test",)),
    "an empty dict": ({}, ("no train role, only nothing",)),
    "x without y": ({"x_train": X}, ("no y_train", "x_train, y_train, x_test")),
    "x twice": ({"x": X, "x_train": X, "y": Y}, ("x of train twice", "'x_train'")),
    "a bare array": (X, ("train is a ndarray of shape (40, 6, 5)", "allowed")),
    "a tuple of three": ((X, Y, Y), ("train is a tuple of 3",)),
    "a number": (7, ("train is a int, not a task",)),
    "None": (None, ("NoneType",)),
    "an array that is none": ((object(), Y), ("x_train is a object", "an array, a tensor or a list")),
    "items that are no pairs": ([(X[0], 1, 2)], ("item 0 of train is a tuple of 3", "(x, y)")),
    "items that are dicts": ([{"image": X[0]}], ("item 0 of train is a dict",)),
    "an uneven batch": ([(X[:4], Y[:4]), (X[:4], Y[:3])], ("item 1 of train has 4 samples in x but 3 labels",)),
    "samples of two shapes": ([(X[0], 0), (X[1, :4], 1)], ("item 1 of train has samples of shape (4, 5)", "(6, 5)")),
    "an empty loader": (iter([]), ("train is empty (0 samples)",)),
    "one sample a class": ((X[:4], Y[:4]), ("train has 4 samples, one a class: too few to make test",)),
}


@pytest.mark.parametrize("case", IN_MEMORY)
def test_in_memory(case: str, refused: Refused) -> None:
    source, words = IN_MEMORY[case]
    refused(source, *words)


FILES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "an npz that is empty": ("a.npz", b"", ("a.npz", "np.savez")),
    "an npz that is text": ("a.npz", b"hello, world", ("a.npz", "never read")),
    "a pickle called npz": ("a.npz", pickle.dumps({"x": [1]}), ("a.npz", "pickled data is never read")),
    "a csv that is empty": ("a.csv", b"", ("a.csv is empty",)),
    "a csv of blank lines": ("a.csv", b"\n \n\n", ("a.csv is empty",)),
    "a csv of one column": ("a.csv", b"1\n2\n", ("one column ('1')",)),
    "a csv of a header": ("a.csv", b"a,b,label\n", ("a header and no rows",)),
    "a csv with a word in it": ("a.csv", b"a,b,label\n1,2,x\n1,oops,y\n", ("'oops' in row 3, column b",)),
    "a csv with an empty cell": ("a.csv", b"1,2,x\n,2,y\n", ("an empty cell in row 2, column 1",)),
    "a csv with a NaN": ("a.csv", b"1,2,x\n1,nan,y\n", ("'nan' in row 2, column 2",)),
    "a csv beyond float32": ("a.csv", b"1,2,x\n1,1e99,y\n", ("'1e99' in row 2, column 2",)),
    "a csv without a label": ("a.csv", b"a,label\n1,x\n2,\n", ("row 3, column label", "is empty")),
    "a csv with fractions for labels": ("a.csv", b"1,2,0.25\n1,2,0.5\n", ("label '0.25' in row 1", "fraction")),
    "a csv with a short row": ("a.csv", b"1,2,x\n1,y\n", ("row 2", "has 2 cells, the first has 3")),
    "a csv that is no text": ("a.csv", b"1,2,x\n\xff\xfe,2,y\n", ("cannot be read as a table",)),
    "a csv with an open quote": ("a.csv", b'1,2,x\n1,"2,y\n', ("cannot be read as a table",)),
    "an unknown extension": ("a.parquet", b"PAR1", ("unknown extension '.parquet'", ".npz, .csv, .yaml")),
    "no extension": ("data_file", b"?", ("unknown extension 'none'",)),
    "a sound": ("a.wav", b"RIFF", ("a.wav is sound", "audio tasks are not available in this version yet")),
    "a yaml that is none": ("t.yaml", b"a: [1, 2", ("t.yaml is not YAML",)),
    "a yaml that is a list": ("t.yaml", b"- 1\n- 2\n", ("[1, 2]", "data: PATH")),
    "a yaml without data": ("t.yaml", b"metric: auc\n", ("key 'data' is missing",)),
    "a yaml with a key too many": ("t.yaml", b"data: x\naugment: 1\n", ("key 'augment' is unknown", "moves")),
    "a yaml with a strange move": ("t.yaml", b"data: x\nmoves: [jump]\n", ("moves.0='jump'", "'shift'")),
    "a yaml with a negative scale": ("t.yaml", b"data: x\nscale: -1\n", ("scale=-1", "greater than 0")),
    "a yaml with a share of 2": ("t.yaml", b"data: x\nval_fraction: 2\n", ("val_fraction=2", "less than 1")),
    "a yaml with an unknown metric": ("t.yaml", b"data: digits\nmetric: f2\n", ("metric 'f2' is unknown",)),
    "a yaml that points nowhere": ("t.yaml", b"data: nothing.npz\n", ("data='nothing.npz' does not exist",)),
    "a yaml that points to itself": ("t.yaml", b"data: t.yaml\n", ("unknown extension '.yaml'",)),
    "a yaml of roles that are no tables": ("t.yaml", b"data: {train: t.yaml}\n", ("'t.yaml' is not a .csv",)),
    "a yaml with one class": ("t.yaml", b"data: digits\nclasses: [a]\n", ("classes=['a']", "at least two")),
    "a yaml with too few classes": ("t.yaml", b"data: digits\nclasses: [a, b]\n", ("allowed: 0 to 1",)),
    "a yaml that folds wrongly": ("t.yaml", b"data: digits\nshape: [1, 5, 5]\n", ("holds 25 values", "has 64")),
    "a yaml that is no text": ("t.yaml", b"\xff\xfe\x00", ("t.yaml cannot be read",)),
    "a yaml that runs code": ("t.yaml", b"data: !!python/object/apply:os.getcwd []\n", ("t.yaml is not YAML",)),
}


@pytest.mark.parametrize("case", FILES)
def test_files(case: str, tmp_path: Path, refused: Refused) -> None:
    name, data, words = FILES[case]
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, *words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("digit", ("'digit' is neither built in nor a file", "did you mean digits?")),
        ("zebra", ("'zebra'", "cifar10, cifar10-jpeg, cifar100, digits")),
        ("nowhere/", ("'nowhere/' is neither",)),
        ("no/where", ("no/where does not exist",)),
        ("lost.npz", ("lost.npz does not exist",)),
        (Path("digits"), ("digits does not exist",)),
        ("", ("task '' is empty",)),
        ("a" * 5000, ("is not a path",)),
        ("~nobody-of-that-name/x", ("is not a path",)),
    ],
)
def test_names_and_paths(
    source: Any, words: tuple[str, ...], refused: Refused, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(source, *words)


def test_npz_cut_short_anywhere_or_damaged(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x_train=X, y_train=Y)
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        refused(path, "a.npz")
    draw = np.random.default_rng(0)
    for at in draw.integers(0, len(whole), 120):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            # A flipped date or attribute in the zip's directory harms nothing; anything else must be refused.
            assert len(tasks.load(path).splits["train"]) == 24
        except BadInput as error:
            assert "\n" not in str(error)


def test_npz_of_objects_other_names_or_a_single_array(tmp_path: Path, refused: Refused) -> None:
    np.savez(tmp_path / "o.npz", x=np.array([None, {}], dtype=object), y=np.arange(2))
    refused(tmp_path / "o.npz", "'x'", "Python objects", "never unpickled")
    np.savez(tmp_path / "n.npz", pixels=X, answers=Y)
    refused(tmp_path / "n.npz", "pixels, answers", "x_train, y_train")
    with (tmp_path / "s.npz").open("wb") as file:
        np.save(file, X)
    refused(tmp_path / "s.npz", "single array")


def test_size_and_label_where_they_do_not_belong(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,x\n1,2,y\n")
    (tmp_path / "size.yaml").write_text("data: t.csv\nsize: [4, 4]\n")
    refused(tmp_path / "size.yaml", "size=[4, 4] is for folders")
    (tmp_path / "label.yaml").write_text("data: t.csv\nlabel: kind\n")
    refused(tmp_path / "label.yaml", "no column 'kind'", "a, b, c")
    (tmp_path / "at.yaml").write_text("data: t.csv\nlabel: 3\n")
    refused(tmp_path / "at.yaml", "label=3", "0 to 2")
    (tmp_path / "u.csv").write_text("b,a,c\n1,2,x\n1,2,y\n")
    (tmp_path / "two.yaml").write_text("data: {train: t.csv, test: u.csv}\n")
    refused(tmp_path / "two.yaml", "other columns")


def test_folders(pictures: Pictures, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no folders", "<class>")
    refused(pictures("test/a", "val/a"), "test/, val/", "no train/")
    root = pictures("train/a", "train/b", "train/none", count=3)
    for picture in (root / "train" / "none").iterdir():
        picture.unlink()
    refused(root, "train/none holds no pictures", "png")
    (root / "train" / "none" / "x.png").write_bytes(b"not a picture")
    refused(root, "train/none/x.png cannot be read")
    good = next((root / "train" / "a").iterdir()).read_bytes()
    (root / "train" / "none" / "x.png").write_bytes(good[: len(good) // 2])
    refused(root, "train/none/x.png cannot be read")
    (root / "train" / "none" / "x.png").write_bytes(good)
    (root / "valid").mkdir()
    refused(root, "both val", "one role (val)")
    (root / "valid").rmdir()
    monkeypatch.setattr(folder, "MOST_BYTES", 50)
    refused(root, "in memory", "size: [height, width]")


def test_a_class_in_test_alone(pictures: Pictures, refused: Refused) -> None:
    refused(pictures("train/a", "train/b", "test/c"), "class 'c' has no sample in train but 8 in test")


def test_a_folder_of_sound(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "0.wav").write_bytes(b"RIFF")
    refused(tmp_path, "holds sound (.wav)", "audio tasks are not available in this version yet")


def test_auc_needs_every_class_in_test() -> None:
    with pytest.raises(BadInput, match="metric auc needs every class in test, which has no '3'; add some"):
        tasks.load({"train": (X, Y), "test": (X[:9], Y[:9] % 3)}, metric="auc")


def test_classes_of_a_yaml_must_hold_the_folders(pictures: Pictures, tmp_path: Path, refused: Refused) -> None:
    pictures("a", "b")
    (tmp_path / "t.yaml").write_text("data: pictures\nclasses: [a, c]\n")
    refused(tmp_path / "t.yaml", "label 'b' in train is not one of classes", "a, c")


def test_a_gzip_is_not_opened_by_guess(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1,x\n2,y\n"))
    refused(tmp_path / "a.csv.gz", "unknown extension '.gz'")
