"""Transformers for text, and a word-level LSTM: BERT, GPT, T5 and Llama in their published sizes, to count and to capture.

They take token ids (batch, length), whole numbers of any type, and are called by hand: they are no models of tasks on samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.zoo.blocks import among, between


@dataclass(frozen=True)
class Size:
    """How large a transformer is. `each`: channels of a head; `shared`: heads that keys and values have (0: all)."""

    vocabulary: int
    width: int
    depth: int
    heads: int
    hidden: int
    context: int = 512
    each: int = 64
    shared: int = 0


BERT = {
    "base": Size(30522, 768, 12, 12, 3072),
    "large": Size(30522, 1024, 24, 16, 4096),
}
GPT = {
    "1": Size(40478, 768, 12, 12, 3072),
    "2": Size(50257, 768, 12, 12, 3072, 1024),
    "2-xl": Size(50257, 1600, 48, 25, 6400, 1024),
    "3": Size(50257, 12288, 96, 96, 49152, 2048, 128),
}
T5 = {
    "small": Size(32128, 512, 6, 8, 2048),
    "base": Size(32128, 768, 12, 12, 3072),
    "large": Size(32128, 1024, 24, 16, 4096),
    "3b": Size(32128, 1024, 24, 32, 16384, each=128),
    "11b": Size(32128, 1024, 24, 128, 65536, each=128),
}
LLAMA = {
    "2-7b": Size(32000, 4096, 32, 32, 11008, 4096, 128),
    "2-70b": Size(32000, 8192, 80, 64, 28672, 4096, 128, 8),
}


class Attention(nn.Module):
    """Multi-head attention of x to `memory`; `bias` is added to the scores, `turn` is applied to queries and keys."""

    def __init__(self, size: Size, bias: bool = True, scaled: bool = True) -> None:
        super().__init__()
        inner, kept = size.heads * size.each, (size.shared or size.heads) * size.each
        self.size, self.scale = size, size.each**-0.5 if scaled else 1.0
        self.query, self.key = nn.Linear(size.width, inner, bias), nn.Linear(size.width, kept, bias)
        self.value, self.project = nn.Linear(size.width, kept, bias), nn.Linear(inner, size.width, bias)

    def forward(
        self, x: Tensor, memory: Tensor, bias: Tensor | None, turn: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        query, key, value = self._heads(self.query(x)), self._heads(self.key(memory)), self._heads(self.value(memory))
        if turn is not None:
            query, key = turn(query), turn(key)
        scores = query @ self._shared(key).transpose(-1, -2) * self.scale
        y = torch.softmax(scores if bias is None else scores + bias, -1) @ self._shared(value)
        return self.project(y.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.size.each)).transpose(1, 2)

    def _shared(self, x: Tensor) -> Tensor:
        times = self.size.heads // (self.size.shared or self.size.heads)
        return x if times == 1 else torch.stack([x] * times, 2).flatten(1, 2)


class _Gated(nn.Module):
    """SwiGLU: SiLU of one linear layer times another, then a third."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, False), nn.Linear(width, hidden, False)
        self.down = nn.Linear(hidden, width, False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


def _forward(size: Size, act: Callable[[], nn.Module], bias: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size.width, size.hidden, bias), act(), nn.Linear(size.hidden, size.width, bias))


class Layer(nn.Module):
    """Attention, attention to a memory where there is one, and a perceptron; norms before each ("pre") or after the sum."""

    def __init__(
        self, attends: list[Attention], perceptron: nn.Module, norm: Callable[[], nn.Module], pre: bool
    ) -> None:
        super().__init__()
        self.attends, self.perceptron, self.pre = nn.ModuleList(attends), perceptron, pre
        self.norms = nn.ModuleList(norm() for _ in range(len(attends) + 1))

    def forward(
        self, x: Tensor, bias: Tensor | None, memory: Tensor | None = None, turn: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:  # fmt: skip
        for at, (norm, attend) in enumerate(zip(self.norms, self.attends, strict=False)):
            y = norm(x) if self.pre else x
            y = attend(y, y, bias, turn) if at == 0 else attend(y, memory, None)
            x = x + y if self.pre else norm(x + y)
        last = self.norms[-1]
        return x + self.perceptron(last(x)) if self.pre else last(x + self.perceptron(x))


def causal(length: int) -> Tensor:
    """Return (length, length): 0 where a place may look, -inf at what comes later."""
    return torch.full((length, length), float("-inf")).triu(1)


class Bert(nn.Module):
    """The hidden states of every token, and the pooled first one."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(size.vocabulary, size.width), nn.Embedding(size.context, size.width)
        self.types, self.norm = nn.Embedding(2, size.width), nn.LayerNorm(size.width)
        self.layers = nn.ModuleList(
            Layer([Attention(size)], _forward(size, nn.GELU, True), lambda: nn.LayerNorm(size.width), False)
            for _ in range(size.depth)
        )
        self.pool = nn.Linear(size.width, size.width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.words(tokens.long()) + self.places.weight[: tokens.shape[1]] + self.types.weight[0])
        for layer in self.layers:
            x = layer(x, None)
        return x, torch.tanh(self.pool(x[:, 0]))


class Gpt(nn.Module):
    """The scores of the next token at every place, with the embedding as the last layer; GPT-1 has its norms after."""

    later: Tensor

    def __init__(self, size: Size, pre: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(size.vocabulary, size.width), nn.Embedding(size.context, size.width)
        self.layers = nn.ModuleList(
            Layer([Attention(size)], _forward(size, nn.GELU, True), lambda: nn.LayerNorm(size.width), pre)
            for _ in range(size.depth)
        )
        self.norm = nn.LayerNorm(size.width) if pre else nn.Identity()
        self.register_buffer("later", causal(size.context), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.words(tokens.long()) + self.places.weight[:length]
        for layer in self.layers:
            x = layer(x, self.later[:length, :length])
        return nn.functional.linear(self.norm(x), self.words.weight)


def buckets(length: int, both: bool, count: int = 32, farthest: int = 128) -> Tensor:
    """Return (length, length): the bucket of key minus query; half exact, then logarithmic up to `farthest`.

    both: whether later keys have half of the buckets (the encoder's), or none (the decoder's).
    """
    ahead = torch.arange(length)[None] - torch.arange(length)[:, None]
    half = count // 2 if both else count
    far = ahead.abs() if both else (-ahead).clamp(min=0)
    exact = half // 2
    grown = (
        exact
        + (torch.log(far.clamp(min=1) / exact) / torch.log(torch.tensor(farthest / exact)) * (half - exact)).long()
    )
    return torch.where(far < exact, far, grown.clamp(max=half - 1)) + (ahead > 0) * (half if both else 0)


class _Stack(nn.Module):
    """T5's encoder or decoder: one table of relative places for all layers, root mean square norms, no biases."""

    near: Tensor
    later: Tensor | None

    def __init__(self, size: Size, decodes: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(32, size.heads)
        attends = 2 if decodes else 1
        self.layers = nn.ModuleList(
            Layer(
                [Attention(size, False, False) for _ in range(attends)],
                _forward(size, nn.ReLU, False),
                lambda: nn.RMSNorm(size.width),
                True,
            )
            for _ in range(size.depth)
        )
        self.norm = nn.RMSNorm(size.width)
        self.register_buffer("near", buckets(size.context, not decodes), persistent=False)
        self.register_buffer("later", causal(size.context) if decodes else None, persistent=False)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        bias = self.table(self.near[:length, :length]).permute(2, 0, 1)
        bias = bias if self.later is None else bias + self.later[:length, :length]
        for layer in self.layers:
            x = layer(x, bias, memory)
        return self.norm(x)


class EncoderDecoder(nn.Module):
    """The scores of the next token at every place of the target, with the embedding as the last layer."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.words, self.scale = nn.Embedding(size.vocabulary, size.width), size.width**-0.5
        self.encoder, self.decoder = _Stack(size, False), _Stack(size, True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        y = self.decoder(self.words(target.long()), self.encoder(self.words(source.long())))
        return nn.functional.linear(y * self.scale, self.words.weight)


def rotation(size: Size) -> Tensor:
    """Return (context, each): the angle by which each place turns each pair of channels, pairs half against half (RoPE)."""
    half = size.each // 2
    pairs = torch.outer(torch.arange(size.context).float(), 10000.0 ** (-torch.arange(half) / half))
    return torch.cat([pairs, pairs], -1)


class Llama(nn.Module):
    """The scores of the next token at every place; queries and keys are turned by their places."""

    later: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.words = nn.Embedding(size.vocabulary, size.width)
        self.layers = nn.ModuleList(
            Layer([Attention(size, False)], _Gated(size.width, size.hidden), lambda: nn.RMSNorm(size.width), True)
            for _ in range(size.depth)
        )
        self.norm, self.scores = nn.RMSNorm(size.width), nn.Linear(size.width, size.vocabulary, False)
        self.register_buffer("later", causal(size.context), persistent=False)
        self.register_buffer("cosine", rotation(size).cos(), persistent=False)
        self.register_buffer("sine", rotation(size).sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        length, half = tokens.shape[1], self.cosine.shape[1] // 2

        def turn(x: Tensor) -> Tensor:
            turned = torch.cat([-x[..., half:], x[..., :half]], -1)
            return x * self.cosine[:length] + turned * self.sine[:length]

        x = self.words(tokens.long())
        for layer in self.layers:
            x = layer(x, self.later[:length, :length], None, turn)
        return self.scores(self.norm(x))


class WordLstm(nn.Module):
    """The scores of the next word at every place: an LSTM, a projection, and the embedding as the last layer."""

    def __init__(self, vocabulary: int, width: int, hidden: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.layer = nn.LSTM(width, hidden, bias=False, batch_first=True)
        self.project = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.linear(self.project(self.layer(self.words(tokens.long()))[0]), self.words.weight)


def bert(size: str = "base") -> Bert:
    """Return BERT with its pooler (Devlin et al. 2019, arXiv 1810.04805); base has 109,482,240 parameters.

    size: base or large (335,141,888). Raises BadInput.
    """
    among("bert", "size", size, BERT)
    return Bert(BERT[size])


def gpt(size: str = "2") -> Gpt:
    """Return a GPT; GPT-2 (Radford et al. 2019) has 124,439,808 parameters.

    size: 1 (116,534,784), 2, 2-xl (1,557,611,200) or 3 (174,604,259,328; arXiv 2005.14165). Raises BadInput.
    """
    among("gpt", "size", size, GPT)
    return Gpt(GPT[size], pre=size != "1")


def t5(size: str = "small") -> EncoderDecoder:
    """Return T5 v1.0 (Raffel et al. 2020, arXiv 1910.10683); small has 60,506,624 parameters.

    size: small, base (222,903,552), large (737,668,096), 3b (2,851,598,336) or 11b (11,307,321,344). Raises BadInput.
    """
    among("t5", "size", size, T5)
    return EncoderDecoder(T5[size])


def llama(size: str = "2-7b") -> Llama:
    """Return Llama 2 (Touvron et al. 2023, arXiv 2307.09288); 7B has 6,738,415,616 parameters.

    size: 2-7b or 2-70b (68,976,648,192, keys and values of 8 heads). Raises BadInput.
    """
    among("llama", "size", size, LLAMA)
    return Llama(LLAMA[size])


def word_lstm(vocabulary: int = 267_735, width: int = 512, hidden: int = 2048) -> WordLstm:
    """Return MicroNet's reference for WikiText-103; 159,100,416 parameters, and as many MACs a word.

    Raises BadInput.
    """
    for name, value in (("vocabulary", vocabulary), ("width", width), ("hidden", hidden)):
        between("word_lstm", name, value, 1, 10_000_000)
    return WordLstm(vocabulary, width, hidden)
