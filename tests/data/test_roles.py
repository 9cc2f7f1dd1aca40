"""Roles made here: exact, stratified, deterministic; and what is said about the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.core.task import Split
from paredown.data import findings, roles, tasks
from paredown.data.options import Options


def labelled(*counts: int) -> Split:
    """Return a split of distinct vectors with that many samples of each class."""
    y = np.repeat(np.arange(len(counts)), counts)
    return Split(np.arange(len(y), dtype=np.float32)[:, None], y)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.floats(0.05, 0.6), st.integers(0, 5))
def test_a_draw_takes_its_share_of_every_class(counts: list[int], share: float, seed: int) -> None:
    y = labelled(*counts).y
    wanted = max(1, round(share * len(y)))
    taken = roles.draw(y, wanted, seed)
    got = np.bincount(y[taken], minlength=len(counts))
    assert len(set(taken.tolist())) == len(taken) and np.array_equal(taken, roles.draw(y, wanted, seed))
    for have, took in zip(counts, got, strict=True):
        assert took <= have - 1 and (took >= 1 or have == 1)
        assert abs(took - have * wanted / len(y)) <= 1 or took in (1, have - 1) or min(counts) == 1


def test_a_draw_is_exact_where_classes_are_large_enough() -> None:
    assert len(roles.draw(labelled(60, 61, 62).y, 45, 0)) == 45
    assert len(roles.draw(labelled(6000, 5421, 6742).y, 3000, 3)) == 3000


def test_the_draw_never_changes() -> None:
    """A pin of what was first drawn: a test split made here must be the same next year."""
    assert roles.draw(np.array([0, 1] * 10), 5, 0).tolist() == PINNED


PINNED = [4, 7, 8, 11, 16]


def test_all_roles_are_made_apart_and_calib_out_of_train() -> None:
    splits, notes = roles.complete({"train": labelled(700, 500)}, Options(), seed=0)
    ids = {role: set(split.x[:, 0].tolist()) for role, split in splits.items()}
    assert len(ids["test"]) == 240 and len(ids["val"]) == 240 and len(ids["train"]) == 720
    assert not ids["test"] & ids["val"] and not ids["train"] & (ids["val"] | ids["test"])
    assert ids["calib"] < ids["train"] and len(ids["calib"]) == 512
    assert len(notes) == 3 and notes[0].startswith("test was made here: 240 of 1200")


def test_the_shares_of_val() -> None:
    small, _ = roles.complete({"train": labelled(2000, 2000), "test": labelled(2, 2)}, Options(), 0)
    large, _ = roles.complete({"train": labelled(3000, 3000), "test": labelled(2, 2)}, Options(), 0)
    huge, _ = roles.complete({"train": labelled(50_000, 50_000), "test": labelled(2, 2)}, Options(), 0)
    assert (len(small["val"]), len(large["val"]), len(huge["val"])) == (1000, 1000, 10_000)


def test_fractions_asked_for_are_kept() -> None:
    options = Options(test_fraction=0.5, val_fraction=0.1)
    splits, _ = roles.complete({"train": labelled(100, 100)}, options, 0)
    assert (len(splits["test"]), len(splits["val"]), len(splits["train"])) == (100, 10, 90)


def test_a_given_calib_and_val_are_left_alone() -> None:
    given_splits = {"train": labelled(20, 20), "val": labelled(3, 3), "calib": labelled(2, 2), "test": labelled(4, 4)}
    splits, notes = roles.complete(given_splits, Options(), 0)
    assert splits == given_splits and notes == ()


def test_the_seed_of_the_search_does_not_move_a_test_split_made_here() -> None:
    x, y = np.random.default_rng(0).normal(size=(200, 4)), np.arange(200) % 2
    one, two = tasks.load((x, y), seed=0), tasks.load((x, y), seed=9)
    assert np.array_equal(one.splits["test"].x, two.splits["test"].x)
    assert not np.array_equal(one.splits["val"].x, two.splits["val"].x)


def test_duplicates_across_roles_are_counted_not_removed() -> None:
    draw = np.random.default_rng(0)
    train, test, val = (draw.normal(size=(n, 3)) for n in (30, 12, 8))
    test[:3], val[:2] = train[:3], train[3:5]
    y = {"train": np.arange(30) % 2, "test": np.arange(12) % 2, "val": np.arange(8) % 2}
    task = tasks.load({"train": (train, y["train"]), "test": (test, y["test"]), "val": (val, y["val"])})
    said = " | ".join(task.notes)
    assert "3 of 12 test samples are byte for byte in train too" in said
    assert "2 of 8 val samples are byte for byte in train too" in said
    assert len(task.splits["test"]) == 12


def test_the_same_sample_under_two_labels_is_said() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    x[1] = x[0]
    assert any(
        "2 samples occur more than once with different labels" in note
        for note in tasks.load({"train": (x, np.arange(20) % 2), "test": (x + 9, np.arange(20) % 2)}).notes
    )


def test_uneven_classes_are_said_and_macro_f1_named() -> None:
    splits = {"train": labelled(30, 10), "val": labelled(1, 0), "test": labelled(3, 3)}
    notes = findings.of(splits, ("cat", "dog"), calib_was_given=False)
    assert any("30 train samples of 'cat', 10 of 'dog' (3.0 times)" in n and "macro_f1" in n for n in notes)
    assert any("val has no sample of 1 classes (the first: 'dog')" in n for n in notes)
    even = {"train": labelled(14, 10), "val": labelled(1, 1), "test": labelled(3, 3)}
    assert not any("uneven" in n for n in findings.of(even, ("cat", "dog")))


@pytest.mark.parametrize(("counts", "wanted", "keep"), [([1, 1], 1, 1), ([5], 3, 1), ([2, 98], 10, 1), ([3, 3], 6, 0)])
def test_allotments(counts: list[int], wanted: int, keep: int) -> None:
    got = roles.allot(np.array(counts), wanted, keep).tolist()
    assert got == {(1, 1): [0, 0], (5,): [3], (2, 98): [1, 9], (3, 3): [3, 3]}[tuple(counts)]
