"""Scores of a network on a split, and the metric over them."""

import numpy as np
import torch
from torch import nn

from paredown.core.metric import Metric, Quality, quality
from paredown.train.data import Data


@torch.no_grad()
def scores(model: nn.Module, data: Data, batch: int = 2048) -> np.ndarray:
    """Return the model's scores (n × classes, float32) in eval mode, on the data's own device, in batches."""
    training = model.training
    model.eval()
    parts = [model(x).float().cpu() for x in data.x.split(batch)]
    model.train(training)
    return torch.cat(parts).numpy()


def evaluate(model: nn.Module, data: Data, metric: Metric, role: str) -> Quality:
    """Return the metric of the model on one role's data, with its interval."""
    return quality(metric, role, scores(model, data), data.y.cpu().numpy())
