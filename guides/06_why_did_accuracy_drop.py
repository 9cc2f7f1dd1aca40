"""You learn: how to find out why a quantized network is worse than the float one, and what undoing each cause gives.

A network whose first layer has channels of very different size is rounded to eight bits with one step for each tensor:
the small channels vanish. The diagnosis names the layer, the reason, and what was measured when it was undone.
"""

import torch
from torch import nn

import paredown
from paredown.core.catalog import build
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train.data import Data
from paredown.train.fit import fit


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task = paredown.load_task("digits")
    train = Data.of(task, "train")
    layers = [nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)]
    net = paredown.capture(nn.Sequential(*layers), train.x[:2])
    fit(net, train, CrossEntropy(), plan=Plan(epochs=15, lr=0.005))
    with torch.no_grad():  # the same function: what one layer multiplies by, the next one divides by
        scale = torch.logspace(-1.7, 1.7, 12)
        net.slot("0.weight").value.mul_(scale.view(-1, 1, 1, 1))
        net.slot("0.bias").value.mul_(scale)
        net.slot("2.weight").value.div_(scale.view(1, -1, 1, 1))

    step = {"part": "quantize.uniform", "bits": 8, "granularity": "tensor"}
    quantized = build(step).apply(net, Work({"calib": (train.x, train.y)}))
    found = paredown.analyze(quantized, task=task, against=net)["diagnosis"]  # files and runs work the same way
    print(found["verdict"])
    for row in found["layers"]:
        alone, run = (f"{row[key]:.0f} dB" for key in ("local_db", "accumulated_db"))
        print(f"  {row['name']}: {alone} alone, {run} as it runs, channels differ {row['ranges_ratio']:.0f} times")
    for cause in found["causes"]:
        print(f"- {cause['text']}; try {cause['remedy']}")
        for way in cause["undone"]:
            print(f"    {way['what']}: accuracy {way['gain']['accuracy']:+.4f}, {way['bytes']:+,} bytes")

    level = build({"part": "edit.equalize"}).apply(net, Work())  # what it says, done
    mended = build(step).apply(level, Work({"calib": (train.x, train.y)}))
    after = paredown.analyze(mended, task=task, against=net)["diagnosis"]
    assert found["dropped"] and not after["dropped"], after["verdict"]
    first = found["causes"][0]
    gain = first["undone"][first["best"]]["gain"]["accuracy"]
    was = f"{found['float_accuracy']:.4f} -> {found['accuracy']:.4f}"
    print(f"claim: {was}, first cause {first['kind']}, undone {gain:+.4f}, after it {after['accuracy']:.4f}")


if __name__ == "__main__":
    main()
