"""You learn: what a network costs, counted, as others count it, modelled on a board, and as an official score."""

import paredown
from paredown.zoo.resolve import network

# Counted, exact: one small function per operator, each held to a loop that counts itself (docs/counting.md).
found = paredown.analyze("resnet_8", (3, 32, 32), device="nucleo_l4r5zi-x_cube_ai")
total = found["total"]
print(f"counted: {total['params']:,} parameters, {total['macs']:,} MACs, {total['mults']:,} multiplications")
print(f"memory peaks: {found['memory']['peaks']}")
for name, counts in found["conventions"].items():
    print(f"as {name} counts: {counts}")

# Where it is: what would help most comes first.
for line in found["findings"]:
    print("-", line["text"])

# Modelled: an estimate names its model; the board's is fitted to what MLPerf Tiny published of it.
for estimate in found["estimates"]:
    print(f"modelled: {estimate['what']} = {estimate['value']:,.1f}   ({estimate['model']})")

# An official score, term by term, from the counts alone; its quality clause stays open without a measured accuracy.
score = paredown.score("micronet.cifar100", network({"model": "resnet_8"}, (3, 32, 32), 100))
print(
    f"claim: {total['macs']:,} MACs; MicroNet's score on CIFAR-100 would be {score.total:.5f}, passes: {score.passes}"
)
