"""Batch-norm folding as a step."""

from dataclasses import dataclass

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net


@part("edit.fold_batchnorm", Card(title="Fold batch norms into the layers before them", paper="arxiv:1712.05877", year=2018,
                                  authors="Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko",
                                  source="Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, section 3.2",
                                  changes={"params"}, forbids={"shared"}, gives={"folded"}))  # fmt: skip
@dataclass(frozen=True)
class FoldBatchnorm:
    """Make one layer of each convolution or linear layer and the batch norm after it. The function stays the same.

    Weights that are integers times a step keep their codes and take a step for each channel.
    """

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` without the batch norms that could be folded."""
        folded, left = fold_batchnorm(net)
        for layer, why in left:
            work.skip(layer, why)
        return folded
