"""Pieces of rows share a few vectors."""

import itertools

import pytest
import torch
from torch import Tensor

from contracts.nets import small_mlp
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.cost.count import stored_bits
from paredown.graph.clusters import clustered, lloyd, shared_vectors
from paredown.graph.slots import Grid
from paredown.graph.vectors import VectorCodebook
from paredown.methods.share.kmeans import cluster, first_centroids
from paredown.methods.share.product_quantization import Product, looked_up


class TestProduct(StepContract):
    def part(self) -> Product:
        return Product(4, 8)

    def settings(self) -> list[Product]:
        return [Product(0, 4096), Product(1, 2, "position")]


class TestABookForEachPlace(StepContract):
    def part(self) -> Product:
        return Product(8, 2, "position")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(slot: VectorCodebook, weight: Tensor) -> float:
    return float((slot() - weight).double().square().sum())


def test_of_length_one_it_is_k_means_of_values() -> None:
    """A-S4-26. From one start the two give one answer."""
    weight = draw(20, 30)
    codes, centroids = cluster(weight, 8, "linear")
    start = first_centroids(weight.flatten().double(), 8, "linear", 0)
    mine, table = lloyd(weight.reshape(-1, 1).double(), start[:, None], 300)
    assert torch.equal(table.flatten()[mine].float().view(20, 30), centroids[codes])
    slot = shared_vectors(weight, 1, 8)
    assert slot().unique().numel() == 8


def test_of_whole_rows_it_is_vector_quantization() -> None:
    """A-S4-26."""
    net = small_mlp()
    out = Product(0, 2).apply(net, Work())
    slot, weight = out.slot("2.weight"), net.slot("2.weight")().detach()
    codes, centroids = clustered(weight, 2)
    assert slot.codes.numel() == 16 and torch.equal(slot(), centroids[codes])
    assert stored_bits(slot) == 16 * 1 + 2 * 32 * 32


@pytest.mark.parametrize("books", [1, 4])
def test_more_vectors_are_nearer(books: int) -> None:
    """A-S4-26: the distortion falls with k, and books of one's own are nearer than one for all."""
    weight = draw(64, 16)
    errors = [error(shared_vectors(weight, 4, k, books), weight) for k in (1, 2, 4, 8, 16, 32, 64)]
    assert all(b < a for a, b in itertools.pairwise(errors))
    assert error(shared_vectors(weight, 4, 16, 4), weight) < error(shared_vectors(weight, 4, 16, 1), weight)


@pytest.mark.parametrize("books", [1, 2, 4])
def test_products_by_table_are_those_of_the_decoded_rows(books: int) -> None:
    """A-S4-26: asymmetric distance computation."""
    slot, x = shared_vectors(draw(24, 16), 4, 7, books), draw(5, 16, seed=1)
    with torch.no_grad():
        assert torch.allclose(looked_up(slot, x), x @ slot().T, atol=1e-5)


def test_sixteen_times_smaller() -> None:
    """Gong et al., table 2: rows of 4096 in vectors of 4 with 256 centroids take 2 bits a weight; the tables are the rest."""
    slot = VectorCodebook(torch.zeros(256 * 1024), torch.zeros(1, 256, 4), (256, 4096))
    assert stored_bits(slot) == 256 * 4096 * 2 + 256 * 4 * 32
    assert 32 * 256 * 4096 / stored_bits(slot) == pytest.approx(16, rel=0.02)


def test_layers_that_cannot_be_cut_are_noted() -> None:
    net = small_mlp()
    net.set_slot("2.weight", Grid(torch.ones(16, 32), torch.tensor(0.1), 4))
    work = Work().scoped("share.product", ())
    out = Product(5, 8).apply(net, work)
    assert [(note.layer, note.text.split()[0]) for note in work.notes] == [
        ("2.weight", "it"), ("0.weight", "its"), ("4.weight", "its"),
    ]  # fmt: skip
    assert not [name for name in out.slot_names() if isinstance(out.slot(name), VectorCodebook)]
    with pytest.raises(BadInput, match=r"clusters=4097"):
        Product(4, 4097)
