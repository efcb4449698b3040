"""Figures of the data, a training run and what the network believes (they need matplotlib)."""

from xpnet.plots.pictures import examples, mistakes, prediction, weights
from xpnet.plots.scores import confusion, curves

__all__ = ["confusion", "curves", "examples", "mistakes", "prediction", "weights"]
