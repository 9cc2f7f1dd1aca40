"""Transformers for text and the word LSTM: the papers' parameters, captured small forms, and what a place may see."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from paredown.core.errors import BadInput
from paredown.cost.count import count
from paredown.graph.capture import capture
from paredown.zoo import language
from paredown.zoo.language import BERT, GPT, LLAMA, T5, Bert, EncoderDecoder, Gpt, Llama, buckets

PARAMS = [
    ("bert", "base", 109_482_240),
    ("bert", "large", 335_141_888),
    ("gpt", "1", 116_534_784),
    ("gpt", "2", 124_439_808),
    ("gpt", "2-xl", 1_557_611_200),
    ("gpt", "3", 174_604_259_328),
    ("t5", "small", 60_506_624),
    ("t5", "base", 222_903_552),
    ("t5", "large", 737_668_096),
    ("t5", "3b", 2_851_598_336),
    ("t5", "11b", 11_307_321_344),
    ("llama", "2-7b", 6_738_415_616),
    ("llama", "2-70b", 68_976_648_192),
]


@pytest.mark.parametrize(("name", "size", "params"), PARAMS)
def test_parameters_are_the_papers(name: str, size: str, params: int) -> None:
    function = getattr(language, name)
    with torch.device("meta"):
        assert sum(p.numel() for p in function(size).parameters()) == params
    assert f"{params:,}" in function.__doc__
    with pytest.raises(BadInput, match="not 'huge'"):
        function("huge")


TINY: dict[str, Any] = {"vocabulary": 50, "width": 16, "depth": 2, "heads": 4, "hidden": 24, "context": 12, "each": 4}
NETS: dict[str, nn.Module] = {
    "bert": Bert(replace(BERT["base"], **TINY)),
    "gpt-1": Gpt(replace(GPT["1"], **TINY), False),
    "gpt-2": Gpt(replace(GPT["2"], **TINY), True),
    "t5": EncoderDecoder(replace(T5["small"], **TINY)),
    "llama": Llama(replace(LLAMA["2-7b"], **TINY)),
    "llama, shared": Llama(replace(LLAMA["2-70b"], **TINY, shared=2)),
    "lstm": language.word_lstm(50, 8, 16),
}


@pytest.mark.parametrize("name", NETS)
def test_small_forms_are_captured(name: str) -> None:
    tokens = torch.randint(0, 50, (2, 9)).float()
    inputs = (tokens, tokens.flip(1)) if name == "t5" else (tokens,)
    net = capture(NETS[name], inputs)
    assert count(net).params == sum(p.numel() for p in NETS[name].parameters())
    more = tuple(torch.cat([x, x, x]) for x in inputs)
    torch.testing.assert_close(net.eval()(*more), NETS[name].eval()(*more))


@pytest.mark.parametrize("name", [n for n in NETS if n != "bert"])
@torch.no_grad()
def test_no_place_sees_what_comes_later(name: str) -> None:
    torch.manual_seed(0)
    net, tokens = NETS[name].eval(), torch.randint(0, 50, (1, 9))
    other = tokens.clone()
    other[0, 6] = (other[0, 6] + 1) % 50
    before, after = (net(tokens, x) if name == "t5" else net(x) for x in (tokens, other))
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@torch.no_grad()
def test_turns_keep_only_the_distance() -> None:
    """Llama's scores do not change when all tokens stand later (no place is learned)."""
    net = NETS["llama"].eval()
    query, key = torch.randn(4, dtype=torch.double), torch.randn(4, dtype=torch.double)

    def turned(x: torch.Tensor, at: int) -> torch.Tensor:
        other = torch.cat([-x[2:], x[:2]])
        return x * net.cosine[at] + other * net.sine[at]

    scores = [float(turned(query, at + 3) @ turned(key, at)) for at in range(9)]
    assert max(scores) - min(scores) < 1e-6


def test_buckets_are_t5s() -> None:
    both, one = buckets(200, True), buckets(200, False)
    assert both[0, 0] == one[0, 0] == 0 and one.max() == both.max() == 31
    assert one[5, 9] == 0 and one[9, 5] == 4 and one[15, 0] == 15 and one[16, 0] == 16 and one[199, 0] == 31
    assert both[9, 5] == 4 and both[5, 9] == 16 + 4 and both[7, 0] == 7 and both[8, 0] == 8 and both[0, 199] == 31
    assert (one.diff(dim=0)[:, 0] >= 0).all()


def test_the_word_lstm_has_micronets_reference_numbers() -> None:
    with torch.device("meta"):
        net = language.word_lstm()
    params = sum(p.numel() for p in net.parameters())
    assert params == 267_735 * 512 + 4 * 2048 * (512 + 2048) + 2048 * 512 == 159_100_416
    small = count(capture(language.word_lstm(50, 8, 16), torch.randint(0, 50, (2, 1)).float()))
    assert small.macs == small.params == 50 * 8 + 4 * 16 * (8 + 16) + 16 * 8
