"""Training: the loop as a generator, scores, and checkpoints."""

from xpnet.training.loop import Best, Epoch, TrainState, diverged, epochs, gradient_in_chunks, start
from xpnet.training.scores import Evaluation, evaluate, predict

__all__ = [
    "Best",
    "Epoch",
    "Evaluation",
    "TrainState",
    "diverged",
    "epochs",
    "evaluate",
    "gradient_in_chunks",
    "predict",
    "start",
]
