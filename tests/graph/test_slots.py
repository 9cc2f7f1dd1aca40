"""What a slot stores survives its description, a state dict and a deep copy."""

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.slots import Codebook, Fixed, Free, Grid, LearnedStep, Masked, short_float, stored


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


CODES = torch.tensor([[-4, 3, 0], [1, -1, 2]])
SLOTS: dict[str, nn.Module] = {
    "free": Free(draw(2, 3)),
    "free scalar": Free(draw()),
    "fixed": Fixed(draw(4)),
    "fixed integers": Fixed(torch.tensor([[1, 2**40]])),
    "fixed bool": Fixed(torch.tensor([True, False])),
    "masked": Masked(draw(2, 3), torch.tensor([[1, 0, 1], [0, 0, 1]])),
    "grid": Grid(CODES, torch.tensor(0.3), 3),
    "grid per channel": Grid(CODES, torch.tensor([[0.3], [2.0]]), 3),
    "grid wide": Grid(CODES * 5000, torch.tensor(0.3), 16),
    "grid 8": Grid(CODES * 32, torch.tensor(0.3), 8),
    "grid 1": Grid(torch.tensor([[-1, 1, 1], [1, -1, -1]]), torch.tensor([[0.3], [2.0]]), 1),
    "codebook": Codebook(CODES.abs(), draw(5)),
    "codebook one": Codebook(torch.zeros(2, 2), draw(1)),
    "codebook most": Codebook(torch.arange(256), draw(256)),
}


@pytest.mark.parametrize("name", SLOTS)
def test_it_comes_back(name: str) -> None:
    slot = SLOTS[name]
    again = stored(json.loads(json.dumps(slot.meta())))
    assert type(again) is type(slot)
    again.load_state_dict(slot.state_dict())
    twin = copy.deepcopy(slot)
    for other in (again, twin):
        assert torch.equal(other(), slot()) and other().dtype == slot().dtype
        assert other.bits == slot.bits and other.form == slot.form and other.meta() == slot.meta()
        assert all(
            a.dtype == b.dtype for a, b in zip(other.state_dict().values(), slot.state_dict().values(), strict=True)
        )
    for mine, its in zip(slot.state_dict().values(), twin.state_dict().values(), strict=True):
        assert mine.data_ptr() != its.data_ptr()


def test_what_they_compute() -> None:
    assert torch.equal(SLOTS["masked"](), draw(2, 3) * torch.tensor([[1, 0, 1], [0, 0, 1]]))
    assert torch.equal(SLOTS["grid per channel"](), CODES * torch.tensor([[0.3], [2.0]]))
    assert torch.equal(SLOTS["codebook"](), draw(5)[CODES.abs()])
    assert [SLOTS[k].bits for k in ("codebook", "codebook one", "codebook most")] == [3, 1, 8]


def test_what_is_trained() -> None:
    trained = {name: [k for k, _ in slot.named_parameters()] for name, slot in SLOTS.items()}
    assert trained["free"] == trained["masked"] == ["value"] and trained["codebook"] == ["centroids"]
    assert trained["fixed"] == trained["grid"] == []


def test_pruned_entries_get_no_gradient_and_shared_ones_its_sum() -> None:
    masked = copy.deepcopy(SLOTS["masked"])
    (masked() * torch.arange(6).view(2, 3)).sum().backward()
    assert masked.value.grad.tolist() == [[0, 0, 2], [0, 0, 5]]
    book = Codebook(torch.tensor([0, 2, 2]), torch.tensor([1.0, 2.0, 3.0]))
    (book() * torch.tensor([5.0, 7.0, 11.0])).sum().backward()
    assert book.centroids.grad.tolist() == [5, 0, 18]  # Deep Compression, equation 3


def test_the_original_tensor_is_left_alone() -> None:
    value = draw(2, 3)
    slot = Free(value)
    with torch.no_grad():
        slot.value.zero_()
    assert torch.equal(value, draw(2, 3))


@pytest.mark.parametrize(("bits", "code"), [(2, 2), (2, -3), (4, 8), (8, 128), (8, -129), (16, 2**15)])
def test_codes_that_do_not_fit_are_refused(bits: int, code: int) -> None:
    with pytest.raises(BadInput, match=f"do not fit {bits} bits"):
        Grid(torch.tensor([0, code]), torch.tensor(1.0), bits)


@pytest.mark.parametrize("code", [0, 2, -2])
def test_one_bit_is_minus_one_or_plus_one(code: int) -> None:
    assert Grid(torch.tensor([-1, 1]), torch.tensor(0.5), 1)().tolist() == [-0.5, 0.5]
    with pytest.raises(BadInput, match="do not fit 1 bits \\(-1 and 1\\)"):
        Grid(torch.tensor([1, code, -1]), torch.tensor(1.0), 1)


def test_a_table_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadInput, match="257"):
        Codebook(torch.zeros(2), torch.zeros(257))


@pytest.mark.parametrize(
    "meta",
    [
        None,
        3,
        [],
        {},
        {"slot": "pickle"},
        {"slot": ["free"]},
        {"slot": "free"},
        {"slot": "free", "shape": "ab"},
        {"slot": "free", "shape": 3},
        {"slot": "free", "shape": [-1]},
        {"slot": "free", "shape": [2**40]},
        {"slot": "free", "shape": [2**70]},
        {"slot": "free", "shape": [2.5]},
        {"slot": "fixed", "shape": [1], "dtype": "torch.load"},
        {"slot": "fixed", "shape": [1], "dtype": "os"},
        {"slot": "fixed", "shape": [1]},
        {"slot": "grid", "shape": [1], "step": [], "bits": "8"},
        {"slot": "grid", "shape": [1], "step": [2**40], "bits": 8},
        {"slot": "grid", "shape": [1], "step": [], "bits": 99},
        {"slot": "grid", "shape": [1], "step": [], "bits": 0},
        {"slot": "codebook", "shape": [1], "size": 10**9},
        {"slot": "codebook", "shape": [1], "size": -1},
        {"slot": "codebook", "shape": [1], "size": 0},
    ],
)
def test_descriptions_that_are_none_are_bad_input(meta: object) -> None:
    with pytest.raises(BadInput) as error:
        stored(meta, most=1000)
    assert "\n" not in str(error.value)


def test_a_step_of_four_significant_bits() -> None:
    values = torch.tensor([1.0, 0.1, 3.14159, 1e-20, 7e10])
    short = short_float(values)
    assert ((short - values).abs() <= values / 16).all()
    assert torch.equal(short, short_float(short))
    mantissa, _ = torch.frexp(short)
    assert torch.equal(mantissa * 16, (mantissa * 16).round())
    slot = LearnedStep(draw(3), 4, torch.tensor(0.1))
    assert torch.equal(slot.step(), short_float(slot.log_step.exp()))
