"""You learn: what really happens when channels are removed, and that it can be checked to the last bit of a double.

Layers whose channels are added to each other must lose the same ones: they are a group. Setting the channels of a group
to zero (masking) changes no shape and saves nothing; removing them does, and must compute the same. Here both are done
to a residual network, compared, and the smaller one is trained on.
"""

import torch

import paredown
from paredown.core.plan import Plan
from paredown.graph.groups import filters, groups
from paredown.graph.shrink import mask_channels, remove_channels
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train.data import Data
from paredown.train.evaluate import evaluate
from paredown.train.fit import fit
from paredown.zoo.resnet import resnet_small


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task = paredown.load_task("digits")
    train, val = Data.of(task, "train"), Data.of(task, "val")
    net = paredown.capture(resnet_small(task.shape, 10, depth=8, width=8), train.x[:2])
    fit(net, train, CrossEntropy(), plan=Plan(epochs=8, lr=0.01))
    full = evaluate(net, val, task.metric, "val").value

    masked, chosen = net, {}
    for group in groups(net):
        norms = [float(weights.detach().norm()) for weights in filters(net, group)]  # one for each channel that can go
        chosen[group] = group.lowest(norms, len(group) // 3)
        masked = mask_channels(masked, group, chosen[group])
        made_by = ", ".join(slot for slot, _ in group.makers)  # the last layer's outputs are the classes: none can go
        print(f"{len(chosen[group])} of {len(group)} channels go, made by {made_by}")
    thin, left = remove_channels(net, chosen)
    assert not left, left  # groups that could not be vouched for would be left alone, and named here

    x = val.x.double()
    with torch.no_grad():
        gap = float((masked.double().eval()(x) - thin.copy().double().eval()(x)).abs().max())
    assert gap < 1e-9
    cut = evaluate(thin, val, task.metric, "val").value
    fit(thin, train, CrossEntropy(), plan=Plan(epochs=8, lr=0.005))
    mended = evaluate(thin, val, task.metric, "val").value
    before, after = (paredown.analyze(n)["total"]["params"] for n in (net, thin))
    print(f"validation accuracy: {full:.4f} whole, {cut:.4f} cut, {mended:.4f} after training on")
    assert mended > cut and after < before
    print(f"claim: {before} -> {after} parameters, masked and shrunk networks differ by {gap:.1e}")


if __name__ == "__main__":
    main()
