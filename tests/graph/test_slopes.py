"""Gradients and products with the Hessian."""

import torch

from contracts.nets import small_mlp
from paredown.graph.masks import mask_
from paredown.graph.slopes import bent, slopes


def test_slopes_reach_masked_weights_and_untouched_ones_are_zero() -> None:
    net = small_mlp()
    mask_(net, "0.weight", torch.rand(32, 64) < 0.5)
    at, found = slopes(net, ["0.weight", "4.weight"], lambda held: held.slot("0.weight").value.square().sum())
    assert torch.equal(found[0], 2 * at[0]) and torch.equal(at[0], net.slot("0.weight")())
    assert (found[1] == 0).all() and slopes(net, [], lambda held: held.slot("0.bias").value.sum()) == ([], [])


def test_products_with_a_known_hessian_across_tensors() -> None:
    """L = (Σ a)(Σ b): H v is Σ v_b on a and Σ v_a on b; of a linear loss it is zero."""
    a, b = torch.rand(3, requires_grad=True), torch.rand(4, requires_grad=True)
    found = torch.autograd.grad(a.sum() * b.sum(), [a, b], create_graph=True)
    v = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 1.0, 2.0])]
    assert [product.tolist() for product in bent(found, [a, b], v)] == [[5.0] * 3, [6.0] * 4]
    flat = torch.autograd.grad(a.sum(), [a], create_graph=True)
    assert (bent(flat, [a], v[:1])[0] == 0).all()
