"""Networks whose channels are hard to follow, one trait each."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(i: int, o: int, k: int = 3, **kw) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2, bias=False, **kw), nn.BatchNorm2d(o), nn.ReLU())


class Head(nn.Module):
    """A body, global pooling and a linear layer."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body, self.fc = body, nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.body(x), 1).flatten(1))


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.MaxPool2d(2), conv(8, 12), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(12 * 4, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (
            conv(3, 8),
            conv(8, 6),
            nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)),
        )
        self.c, self.down = conv(8, 10, stride=2), nn.Conv2d(8, 10, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.b(self.a(x)) + x)
        return self.c(x) + self.down(x)


class PadShortcut(nn.Module):
    """CIFAR ResNet, option A: the shortcut gets zero channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a = conv(3, 4), conv(4, 8, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return F.relu(self.a(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(6 + 4 * i), nn.ReLU(), nn.Conv2d(6 + 4 * i, 4, 3, padding=1)) for i in range(3)
        )
        self.down = nn.Conv2d(18, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return self.down(torch.cat(found, 1))


class Shuffle(nn.Module):
    """ShuffleNet: grouped pointwise, shuffle by view, depthwise, grouped pointwise, residual."""

    def __init__(self, groups: int = 2, channels: int = 16) -> None:
        super().__init__()
        self.groups, self.stem = groups, conv(3, channels)
        self.a, self.dw = conv(channels, channels, 1, groups=groups), conv(channels, channels, groups=channels)
        self.b = conv(channels, channels, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.a(x)
        n, c, h, w = y.shape
        y = y.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)
        return x + self.b(self.dw(y))


class ShuffleV2(nn.Module):
    def __init__(self, op: bool = False) -> None:
        super().__init__()
        self.stem, self.op = conv(3, 16), op
        self.branch = nn.Sequential(conv(8, 8, 1), conv(8, 8, groups=8), conv(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, 1)
        x = torch.cat([a, self.branch(b)], 1)
        if self.op:
            return F.channel_shuffle(x, 2)
        return x.view(-1, 2, 8, 8, 8).transpose(1, 2).reshape(-1, 16, 8, 8)


class Split(nn.Module):
    """Uneven split, slice and narrow, each piece with a life of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(3, 12), conv(3, 4), conv(4, 4), conv(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        p, q, r = torch.split(x, [3, 4, 5], 1)
        out = self.a(p) + self.b(q) + self.c(r)
        return torch.cat([out, x[:, 2:5], x.narrow(1, 7, 4)], 1)


class HardView(nn.Module):
    """Sizes written as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 6), conv(6, 8, stride=2), nn.Linear(8 * 16, 12)
        self.d = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x)).view(-1, 8 * 4 * 4)
        return self.d(F.relu(self.c(x)))


class Twice(nn.Module):
    """One module called twice, and batch norms of its own for each call."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.same, self.n1, self.n2 = (
            conv(3, 8),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.BatchNorm2d(8),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return F.relu(self.n2(self.same(F.relu(self.n1(self.same(x))))))


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder's weight, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(20, 12), nn.Linear(12, 6)
        self.shift = nn.Parameter(torch.randn(12))

    def forward(self, x: Tensor) -> Tensor:
        code = F.relu(self.b(F.relu(self.a(x))))
        return F.linear(F.relu(F.linear(code, self.b.weight.t(), self.shift)), self.a.weight.t())


class Functional(nn.Module):
    """Weights as plain parameters, a matmul, a layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 3, 3, 3) / 5)
        self.scale = nn.Parameter(torch.rand(6, 1, 1))
        self.matrix, self.bias, self.last = (
            nn.Parameter(torch.randn(6, 9) / 3),
            nn.Parameter(torch.randn(9)),
            nn.Linear(9, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, padding=1) * self.scale
        x = x.mean((2, 3)) @ self.matrix + self.bias
        return self.last(torch.sigmoid(x))


class Transposed(nn.Module):
    """An hourglass with plain, grouped and depthwise transposed convolutions, and padding."""

    def __init__(self) -> None:
        super().__init__()
        self.a = conv(3, 8, stride=2)
        self.b = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.c = nn.ConvTranspose2d(6, 6, 3, padding=1, groups=6)
        self.d = nn.ConvTranspose2d(6, 8, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.relu(self.b(self.a(x))), (1, 1, 1, 1), mode="reflect")
        return F.interpolate(self.d(F.relu(self.c(x))), scale_factor=2, mode="nearest")


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.up, self.out = conv(3, 8), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), conv(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.out(x * gate)


class ManyOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.kept = conv(3, 8), conv(8, 6), nn.Linear(6, 5), conv(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        x = self.stem(x)
        return {"scores": self.b(self.a(x).mean((2, 3))), "maps": (self.kept(x), x.mean(1))}


class Grouped(nn.Module):
    """ResNeXt: many narrow groups; then few wide ones; a convolution in several groups with fewer outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 16), conv(16, 16, groups=8), conv(16, 12, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)))


class Norms(nn.Module):
    """Group norm, instance norm, PReLU per channel, channels last with a layer norm inside, pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.g, self.p = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.PReLU(8)
        self.b, self.i = nn.Conv2d(8, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.ln, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(24, 8)
        self.d, self.e = nn.Conv2d(8, 16, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.i(self.b(self.p(self.g(self.a(x)))))
        x = x + self.down(F.gelu(self.up(self.ln(x.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)
        return self.e(F.pixel_shuffle(self.d(x), 2))


class Attention(nn.Module):
    """A transformer block with fused queries, keys and values in four heads."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(6, 16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.n1, self.n2, self.up, self.down = nn.LayerNorm(16), nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, t, d = x.shape
        q, k, v = self.qkv(self.n1(x)).reshape(n, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
        x = x + self.out(y)
        return (x + self.down(F.gelu(self.up(self.n2(x))))).mean(1)


class Biased(nn.Module):
    """Attention by products of matrices, one key for all heads' queries, a table of biases looked up by distance."""

    distance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.q, self.kv, self.out = nn.Linear(6, 12), nn.Linear(12, 16), nn.Linear(12, 8), nn.Linear(16, 12)
        self.table, self.norm = nn.Parameter(torch.randn(9, 4)), nn.LayerNorm(12)
        self.register_buffer("distance", torch.arange(5)[:, None] - torch.arange(5) + 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        n, t, _ = x.shape
        q = self.q(x).view(n, t, 4, 4).transpose(1, 2)
        k, v = self.kv(x).view(n, t, 1, 8).transpose(1, 2).split([4, 4], -1)
        bias = self.table[self.distance.flatten()].view(t, t, 4).permute(2, 0, 1)
        y = ((q * 0.5) @ k.transpose(-2, -1) + bias).softmax(-1) @ v
        return (x + self.out(y.transpose(1, 2).reshape(n, t, -1))).mean(1)[:, :5]


class Positioned(Biased):
    """The same with four heads of eight channels in one operator, which adds the biases."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(12, 32), nn.Linear(12, 64), nn.Linear(32, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        n, t, _ = x.shape
        q = self.q(x).view(n, t, 4, 8).transpose(1, 2)
        k, v = self.kv(x).view(n, t, 4, 16).transpose(1, 2).split([8, 8], -1)
        bias = self.table[self.distance.flatten()].view(t, t, 4).permute(2, 0, 1)[None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.contiguous())
        return (x + self.out(y.transpose(1, 2).reshape(n, t, -1))).mean(1)[:, :5]


class Mixer(nn.Module):
    """Layers over positions between layers over channels, and a gate of one by the other."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.n1, self.n2 = nn.Linear(6, 12), nn.LayerNorm(12), nn.LayerNorm(6)
        self.t1, self.t2, self.up, self.gate = nn.Linear(5, 7), nn.Linear(7, 5), nn.Linear(12, 12), nn.Linear(5, 5)
        self.down = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.t2(F.gelu(self.t1(self.n1(x).transpose(1, 2)))).transpose(1, 2)
        u, v = F.gelu(self.up(x)).chunk(2, -1)
        return self.down(u * self.gate(self.n2(v).transpose(1, 2)).transpose(1, 2)).mean(1)


class Responses(nn.Module):
    """ConvNeXt V2: each channel's energy over the mean of all channels' energies; a norm over all of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.down = conv(3, 6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.weight, self.bias, self.all = (
            nn.Parameter(torch.rand(12)),
            nn.Parameter(torch.rand(12)),
            nn.GroupNorm(1, 6),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.gelu(self.up(x.permute(0, 2, 3, 1)))
        energy = y.norm(p=2, dim=(1, 2), keepdim=True)
        y = torch.addcmul(self.bias, self.weight, y * (energy / (energy.mean(-1, keepdim=True) + 1e-6))) + y
        return self.all(x + self.down(y).permute(0, 3, 1, 2))


class Recurrent(nn.Module):
    """Two layers both ways, then a gated unit whose last state is read, then a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.b, self.c = nn.GRU(10, 6), nn.RNN(6, 4, batch_first=True, bias=False)
        self.d = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, _ = self.a(x)
        b, last = self.b(a.transpose(0, 1))
        c, _ = self.c(b.transpose(0, 1))
        return self.d(torch.cat([c[:, -1], last[0]], 1))


class Summed(nn.Module):
    """What torch takes apart: sums over indices, a gated linear unit; and a block that only turns autocast off."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 12), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            scores = torch.einsum("nti,nsi->nts", self.a(x), self.b(x))
        y = torch.einsum("nts,nsj->ntj", scores.softmax(-1), F.glu(self.c(x), -1))
        return self.d(y).sum(1).expand_as(x[:, 0, :5])


class One(nn.Module):
    """One-dimensional and three-dimensional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Conv1d(4, 8, 3, padding="same"), nn.BatchNorm1d(8), nn.Conv1d(8, 6, 3)
        self.c, self.d = nn.Conv3d(6, 6, (1, 1, 3), groups=6), nn.Conv3d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool1d(F.leaky_relu(self.n(self.a(x))), 2)
        x = self.b(x)[:, :, None, None]
        return F.softmax(self.d(self.c(x)).squeeze(2).squeeze(2), dim=-1)


class Unet(nn.Module):
    """Skips joined by concatenation after a transposed convolution; every pixel gets scores."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.up = conv(3, 6), conv(6, 8), nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.c, self.out = conv(12, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        return self.out(self.c(torch.cat([a, self.up(b)], 1)))


class Gated(nn.Module):
    """A gated linear unit, a depthwise convolution that makes two channels of one, and a stack of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.wide, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.Conv2d(16, 6, 1)
        self.c, self.d = nn.Conv2d(16, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, gate = self.a(x).chunk(2, 1)
        x = self.wide(a * torch.sigmoid(gate))
        return self.d(torch.stack([self.b(x), torch.tanh(self.c(x))]).amax(0))


class Heads(nn.Module):
    """Detection heads: maps turned channels last, flattened by rows, and joined along the boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.one, self.two = conv(3, 8), conv(8, 6, stride=2), nn.Conv2d(8, 4, 1), nn.Conv2d(6, 4, 1)
        self.mix = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        maps = [self.one(a), self.two(self.b(a))]
        boxes = torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, 2) for m in maps], 1)
        return self.mix(boxes.relu())


class Sampled(nn.Module):
    """A spatial transformer: features resized, and read at places that the features give."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.where, self.place, self.out = conv(3, 8), conv(8, 6, stride=2), nn.Linear(6, 6), conv(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.stem(x), size=(11, 9), mode="bicubic")
        maps = self.place(self.where(x).mean((2, 3))).view(-1, 2, 3)
        grid = F.affine_grid(maps, list(x.shape), align_corners=False)
        return self.out(F.grid_sample(x, grid, padding_mode="border", align_corners=False))


IMAGE = (1, 3, 8, 8)
torch.manual_seed(0)
NETS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "vgg": (Vgg(), IMAGE),
    "resnet": (Head(Residual(), 10), IMAGE),
    "resnet_pad": (Head(PadShortcut(), 8), IMAGE),
    "densenet": (Head(Dense(), 9), IMAGE),
    "shuffle": (Head(Shuffle(), 16), IMAGE),
    "shuffle_uneven": (Head(Shuffle(3, 12), 12), IMAGE),
    "shuffle_v2": (Head(ShuffleV2(), 16), IMAGE),
    "shuffle_op": (Head(ShuffleV2(op=True), 16), IMAGE),
    "split": (Head(Split(), 11), IMAGE),
    "hard_view": (HardView(), IMAGE),
    "twice": (Head(Twice(), 8), IMAGE),
    "tied": (Tied(), (1, 20)),
    "functional": (Functional(), IMAGE),
    "transposed": (Head(Transposed(), 8), IMAGE),
    "squeeze_excite": (Head(SqueezeExcite(), 6), IMAGE),
    "many_outputs": (ManyOutputs(), IMAGE),
    "grouped": (Head(Grouped(), 12), IMAGE),
    "norms": (Norms(), IMAGE),
    "biased": (Biased(), (2, 5, 6)),
    "positioned": (Positioned(), (2, 5, 6)),
    "mixer": (Mixer(), (2, 5, 6)),
    "responses": (Head(Responses(), 6), IMAGE),
    "recurrent": (Recurrent(), (2, 5, 6)),
    "summed": (Summed(), (2, 5, 6)),
    "attention": (Attention(), (1, 7, 6)),
    "one": (One(), (1, 4, 12)),
    "unet": (Unet(), IMAGE),
    "gated": (Head(Gated(), 4), IMAGE),
    "heads": (Heads(), IMAGE),
    "sampled": (Head(Sampled(), 7), IMAGE),
}
"""Name to (module, input shape)."""
