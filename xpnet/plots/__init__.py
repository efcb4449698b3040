"""Figures of the data, a training run and what the network predicts (they need matplotlib)."""

from xpnet.plots.history import curves
from xpnet.plots.pictures import examples, mistakes, prediction
from xpnet.plots.scores import confusion, regression
from xpnet.plots.units import weights

__all__ = ["confusion", "curves", "examples", "mistakes", "prediction", "regression", "weights"]
