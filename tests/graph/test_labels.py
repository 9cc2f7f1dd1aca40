"""Label sets, and values whose labels must lie in whole slices."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.graph.labels import Labels, Track, gathered


def test_ties_join_and_reasons_travel() -> None:
    labels = Labels()
    a, b = labels.fresh(3), labels.fresh(3)
    labels.freeze(b[2:], "stays")
    labels.tie(a, b)
    assert labels.find(int(a[0])) == labels.find(int(b[0])) != labels.find(int(a[1]))
    assert labels.reasons(int(a[2])) == ("stays",) and labels.reasons(int(a[0])) == ()
    labels.tie_all(a)
    assert labels.reasons(int(b[0])) == ("stays",)


def test_a_channel_dimension_is_found_wherever_it_moves() -> None:
    labels = Labels()
    track = Track((1, 4, 2, 3), 1, labels.fresh(4))
    assert gathered(track.spread().permute(0, 2, 3, 1).contiguous(), labels).dim == 3
    flat = gathered(track.spread().flatten(1), labels)
    assert flat.dim == 1 and flat.labels.tolist() == np.repeat(track.labels, 6).tolist()
    assert gathered(flat.spread().view(1, 4, 2, 3), labels).labels.tolist() == track.labels.tolist()


def test_a_shuffle_ties_the_same_place_in_each_group() -> None:
    labels = Labels()
    track = Track((1, 6), 1, labels.fresh(6))
    made = gathered(track.spread().view(1, 2, 3), labels)
    assert made.dim == 2
    roots = labels.roots(track.labels)
    assert roots[:3].tolist() == roots[3:].tolist() and len(set(roots.tolist())) == 3


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 6), st.integers(0, 10**6), st.booleans())
def test_after_gathering_any_sets_can_be_removed_as_slices(
    shape: list[int], kinds: int, seed: int, frozen: bool
) -> None:
    labels = Labels()
    ids = labels.fresh(kinds)
    if frozen:
        labels.freeze(ids[:1], "stays")
    spread = torch.from_numpy(np.random.default_rng(seed).integers(0, kinds, shape))
    track = gathered(spread, labels)
    roots = labels.roots(spread.numpy())
    assert labels.roots(track.spread().numpy()).tolist() == roots.tolist()
    gone = {int(r) for r in np.unique(roots) if not labels.reasons(int(r))} - {int(roots.flat[0])}
    keep = ~np.isin(roots, list(gone))
    sizes = list(shape)
    if track.dim is not None:
        sizes[track.dim] = int(keep.any(axis=tuple(d for d in range(len(shape)) if d != track.dim)).sum())
    assert keep.sum() == np.prod(sizes)
