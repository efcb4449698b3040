"""Training: the loop as a generator, validation around it, scores, and checkpoints."""

from xpnet.training.loop import TrainState, epochs, start
from xpnet.training.scores import evaluate, predict
from xpnet.training.validation import keep_best, restore_best, stop_early, validate

__all__ = [
    "TrainState",
    "epochs",
    "evaluate",
    "keep_best",
    "predict",
    "restore_best",
    "start",
    "stop_early",
    "validate",
]
