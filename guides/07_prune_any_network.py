"""You learn: to make a network of your own smaller, whatever it is made of, and what zeros are worth afterwards.

A transformer with sizes written into its forward pass is captured as it is; a head, channels, two of four weights go.
"""

from torch import Tensor, manual_seed, nn

import paredown
from paredown.core.work import Work
from paredown.graph.freeze import freeze
from paredown.graph.groups import filters, groups, head_groups
from paredown.graph.shrink import mask_channels
from paredown.targets.container import write
from paredown.train.data import Data
from paredown.train.fit import fit


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = ((8, 32), (32, 96), (32, 32), (32, 64), (64, 32), (256, 10))
        self.embed, self.qkv, self.out, self.up, self.down, self.classes = (nn.Linear(a, b) for a, b in sizes)
        self.first, self.second = nn.LayerNorm(32), nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.view(-1, 8, 8))  # a picture's rows are its words
        q, k, v = self.qkv(self.first(x)).view(-1, 8, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)  # four heads of eight
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 8, 32))
        return self.classes((x + self.down(nn.functional.gelu(self.up(self.second(x))))).reshape(-1, 256))


def main() -> None:
    manual_seed(0)
    task, tune = paredown.load_task("digits"), {"part": "train.finetune", "plan": {"epochs": 15, "lr": 0.005}}
    train, val = Data.of(task, "train"), Data.of(task, "val")
    work = Work({"calib": (train.x, train.y), "fit": lambda net, **asked: fit(net, train, **asked)})

    def after(net, *steps):  # (the network after these steps, its parameters, its packed file's bytes, its accuracy)
        for step in paredown.Recipe.of_json(list(steps)):
            net = step.apply(net, work)
        right = float((net.eval()(val.x).argmax(1) == val.y).float().mean())
        return net, paredown.analyze(net)["total"]["params"], len(write(freeze(net))[0]), right

    net, params, _, full = after(paredown.capture(Reader(), train.x[:2]), tune)
    for group in [*groups(net), heads := head_groups(net)[0]]:  # a unit of the last one is a head
        print(f"{len(group)} units of {group.width()} channels of {group.name} can go {dict(group.frozen) or ''}")
    weakest = heads.lowest([weights.detach().norm() for weights in filters(net, heads)], 1)
    masked, cut = mask_channels(net, heads, weakest, heads=True), after(net, {"part": "prune.heads", "ratio": 0.25})[0]
    gap = float((masked.double()(val.x.double()) - cut.copy().double()(val.x.double())).detach().abs().max())
    bare, mended = (after(cut, {"part": "prune.channels", "ratio": 0.4, "repair": repair}) for repair in (False, True))
    small, few, dense, now = after(mended[0], tune)
    *_, sparse, last = after(small, {"part": "prune.weights", "structure": {"part": "structure.n_m"}}, tune)
    print(f"{full:.4f}, channels cut {bare[-1]:.4f}, what reads them refitted {mended[-1]:.4f}, trained {now:.4f}")
    assert gap < 1e-9 and mended[-1] > bare[-1] and few < params / 2 and sparse < 0.65 * dense and last > 0.95
    print(f"claim: {params} -> {few} parameters, {full:.3f} -> {now:.3f}; 2:4 {dense} -> {sparse} bytes, {last:.3f}")


if __name__ == "__main__":
    main()
