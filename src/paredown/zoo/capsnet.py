"""The capsule network (Sabour, Frosst, Hinton 2017, arXiv 1710.09829)."""

import torch
from torch import Tensor, nn

from paredown.zoo.blocks import between, pictures

SIZE, OUT = 8, 16
"""Values of a primary capsule and of a class's."""


def squash(x: Tensor) -> Tensor:
    """Return vectors (…, d) of the same direction, shorter than 1 (equation 1)."""
    square = (x * x).sum(-1, keepdim=True)
    return x * (square / (1 + square) / torch.sqrt(square + 1e-9))


class _Routing(nn.Module):
    """The length of a capsule for each class, to which the capsules (n, count, 8) are routed by agreement (procedure 1)."""

    def __init__(self, count: int, classes: int, rounds: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(count, OUT * classes, SIZE))
        self.rounds = rounds

    def forward(self, x: Tensor) -> Tensor:
        votes = (self.weight @ x.unsqueeze(-1)).view(-1, x.shape[1], self.weight.shape[1] // OUT, OUT)
        out = squash(votes.mean(1, keepdim=True) * (votes.shape[1] / votes.shape[2]))
        agreed = (votes * out).sum(-1, keepdim=True)
        for _ in range(self.rounds - 1):
            out = squash((torch.softmax(agreed, 2) * votes).sum(1, keepdim=True))
            agreed = agreed + (votes * out).sum(-1, keepdim=True)
        return torch.sqrt((out * out).sum(-1) + 1e-9).squeeze(1)


class _Primary(nn.Module):
    """A 9 x 9 convolution of stride 2 whose channels, eight by eight, are capsules."""

    def __init__(self, inside: int, capsules: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, SIZE * capsules, 9, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return squash(y.view(-1, y.shape[1] // SIZE, SIZE, y.shape[2] * y.shape[3]).transpose(2, 3).flatten(1, 2))


def capsnet(
    shape: tuple[int, ...], classes: int, width: int = 256, capsules: int = 32, rounds: int = 3
) -> nn.Sequential:
    """Return the capsule network without its decoder; 6,804,224 parameters on 1 x 28 x 28 (the decoder has 1,411,344 more).

    width: channels of the first convolution. capsules: at each place. rounds: of routing. Scores are the lengths of the
    classes' capsules. Raises BadInput.
    """
    between("capsnet", "width", width, 1, 4096)
    between("capsnet", "capsules", capsules, 1, 4096)
    between("capsnet", "rounds", rounds, 1, 100)
    channels = pictures("capsnet", shape, 17)
    count = capsules * ((shape[1] - 17) // 2 + 1) * ((shape[2] - 17) // 2 + 1)
    first = nn.Sequential(nn.Conv2d(channels, width, 9), nn.ReLU())
    return nn.Sequential(first, _Primary(width, capsules), _Routing(count, classes, rounds))
