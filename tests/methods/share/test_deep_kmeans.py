"""Kernel rows share a few vectors."""

import pytest
import torch

from contracts.nets import small_conv
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.cost.count import stored_bits
from paredown.graph.clusters import clustered
from paredown.graph.freeze import freeze
from paredown.methods.share.deep_kmeans import DeepKmeans, storage_bits


class TestDeepKmeans(StepContract):
    def part(self) -> DeepKmeans:
        return DeepKmeans(4)

    def settings(self) -> list[DeepKmeans]:
        return [DeepKmeans(4096, 9)]


class TestOfALength(StepContract):
    def part(self) -> DeepKmeans:
        return DeepKmeans(2, 4)


def test_vectors_are_kernel_rows() -> None:
    net = small_conv()
    work = Work().scoped("share.deep_kmeans", ())
    out = DeepKmeans(4).apply(net, work)
    lengths = {name: out.slot(name).centroids.shape[2] for name, _ in out.weighted() if name != "fc.weight"}
    assert lengths == {"stem.weight": 3, "deep.weight": 3, "point.weight": 8, "wide.weight": 3}
    assert [(note.layer, "rows of 12" in note.text) for note in work.notes] == [("fc.weight", True)]
    weight = net.slot("wide.weight")().detach()
    codes, centroids = clustered(weight.reshape(-1, 3), 4)
    assert torch.allclose(out.slot("wide.weight")(), centroids[codes].view(weight.shape))


def test_the_table_and_the_indices_are_all_there_is() -> None:
    """A-S0-22: the codebook reconstructs exactly."""
    net = small_conv()
    few = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.slot("wide.weight").value.copy_(few[torch.arange(288) % 5].view(12, 8, 3, 3))
    out = DeepKmeans(8).apply(net, Work())
    assert torch.equal(out.slot("wide.weight")(), net.slot("wide.weight")())
    held = freeze(out).tensors["wide.weight"]
    assert held.codes.dtype == "uint16" and (held.value == out.slot("wide.weight")().detach().numpy()).all()


@pytest.mark.parametrize("clusters", [2, 4, 16])
def test_storage(clusters: int) -> None:
    """A-S0-22: K·s·32 + N·log2 K."""
    slot = DeepKmeans(clusters).apply(small_conv(), Work()).slot("wide.weight")
    assert stored_bits(slot) == storage_bits(288, clusters, 3) == clusters * 3 * 32 + 288 * (clusters.bit_length() - 1)


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(BadInput, match="clusters"):
        DeepKmeans(1)
