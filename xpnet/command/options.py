"""What a training run can be told: one field per option of the command line, with its default."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from xpnet._typing import Schedule
from xpnet.backends import DTYPES, LIBRARIES
from xpnet.errors import InputError, choose
from xpnet.maths.initializers import INITIALIZERS
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from xpnet.maths.schedules import SCHEDULES, warm_up

__all__ = ["DEPENDENTS", "KEEP", "NEUTRAL", "OPTIMIZERS", "Options"]

# Name: (what makes it of the options, its usual learning rate).
OPTIMIZERS: dict[str, tuple[Callable[["Options"], Optimizer], float]] = {
    "sgd": (lambda options: SGD(), 0.1),
    "momentum": (lambda options: SGD(_or(options.momentum, 0.9)), 0.05),
    "nesterov": (lambda options: SGD(_or(options.momentum, 0.9), nesterov=True), 0.05),
    "adam": (lambda options: Adam(), 0.002),
    "adamw": (lambda options: AdamW(weight_decay=_or(options.weight_decay, 0.01)), 0.002),
    "rmsprop": (lambda options: RMSprop(), 0.001),
    "adagrad": (lambda options: Adagrad(), 0.01),
}

KEEP = ("best", "last")

# Options that belong to another one, and go with it when it is changed.
DEPENDENTS = {"optimizer": ("momentum", "weight_decay"), "schedule": ("drop_after", "drop_factor")}

# Options that leave the figures of a run as they are.
NEUTRAL = ("data_dir", "device", "backend", "out", "checkpoint_every", "quiet")

# What a resumed run may be told anew: none of it changes a step, but for the schedule's end.
MAY_CHANGE = ("epochs", *NEUTRAL)


@dataclass(frozen=True)
class Options:
    """The options of `xpnet train`; None means the default that the help text names."""

    data: str = "digits"
    data_dir: str | None = None
    test: float = 0.2
    validation: float = 0.1
    hidden: tuple[int, ...] = (100,)
    activation: tuple[str, ...] = ("relu",)
    init: str = "auto"
    loss: str = "softmax_cross_entropy"
    label_smoothing: float = 0.0
    l2: float = 0.0
    optimizer: str = "adam"
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: str = "cosine"
    drop_after: tuple[int, ...] | None = None
    drop_factor: float | None = None
    warm_up: int = 0
    clip_norm: float | None = None
    batch_size: int | None = 32
    epochs: int = 50
    early_stopping: int | None = None
    keep: str | None = None
    seed: int = 0
    device: str = "auto"
    backend: str | None = None
    dtype: str = "float32"
    out: str | None = None
    checkpoint_every: int | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        # What a network refuses is refused here, before any data is loaded; its ends follow from the data.
        MLP((1, *self.hidden, 1), self.activations, self.loss, self.l2, self.label_smoothing)
        initializer = self.init.removeprefix("legacy_").partition(":")[0]
        choose("initial distribution", initializer, ("auto", *INITIALIZERS))
        choose("optimizer", self.optimizer, OPTIMIZERS)
        choose("schedule", self.schedule, SCHEDULES)
        choose("dtype", self.dtype, DTYPES)
        if self.backend is not None:
            choose("backend", self.backend, LIBRARIES)
        for option, value, owner, taken, takers in (
            ("--momentum", self.momentum, "--optimizer", self.optimizer, ("momentum", "nesterov")),
            ("--weight-decay", self.weight_decay, "--optimizer", self.optimizer, ("adamw",)),
            ("--drop-after", self.drop_after, "--schedule", self.schedule, ("step",)),
            ("--drop-factor", self.drop_factor, "--schedule", self.schedule, ("step",)),
        ):
            if value is not None and taken not in takers:
                raise InputError(f"{option} belongs to {owner} {' or '.join(takers)}, not to {taken}")
        for option, number, least, most in (
            ("--epochs", self.epochs, 0, math.inf),
            ("--batch-size", self.batch_size, 1, math.inf),
            ("--warm-up", self.warm_up, 0, math.inf),
            ("--early-stopping", self.early_stopping, 1, math.inf),
            ("--checkpoint-every", self.checkpoint_every, 1, math.inf),
            ("--seed", self.seed, 0, 2**32 - 1),  # scikit-learn takes no larger one
        ):
            if number is not None and not least <= number <= most:
                expected = f"at least {least}" if most == math.inf else f"{least} to {most}"
                raise InputError(f"{option}: expected {expected}, got {number}")
        for option, positive in (
            ("--lr", self.lr),
            ("--clip-norm", self.clip_norm),
            ("--drop-factor", self.drop_factor),
        ):
            if positive is not None and not 0.0 < positive < math.inf:
                raise InputError(f"{option}: expected a number above 0, got {positive}")
        if not 0.0 <= self.test < 1.0:
            raise InputError(f"--test: expected a fraction of at least 0 and below 1, got {self.test}")
        if self.keep is not None:
            choose("value of --keep", self.keep, KEEP)
        for option, is_given in (
            ("--early-stopping", self.early_stopping is not None),
            ("--keep best", self.keep == "best"),
        ):
            if is_given and not self.validation:
                raise InputError(f"{option} needs validation data: give --validation a fraction above 0")

    @property
    def keeps_best(self) -> bool:
        """Whether the run ends with the parameters of the lowest validation loss, not with the last ones."""
        return self.keep == "best" or (self.keep is None and self.early_stopping is not None)

    @property
    def activations(self) -> str | tuple[str, ...]:
        """One name for all hidden layers, or one for each."""
        return self.activation[0] if len(self.activation) == 1 else self.activation

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Options":
        """Return the options in a dictionary, as JSON and TOML hold them: with lists for tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        return cls(**values)

    def resumed_with(self, given: dict[str, Any]) -> "Options":
        """Return these options of an earlier run with those that the user has given now.

        Raises:
            InputError: one of them would make it another run; the message lists each with both values.
        """
        if "out" in given:
            raise InputError("--out does not go with --resume: the run stays in its folder")
        mine = asdict(self)
        clashes = [
            f"--{name.replace('_', '-')}: the run has {_shown(mine[name])}, you gave {_shown(value)}"
            for name, value in given.items()
            if name not in MAY_CHANGE and value != mine[name]
        ]
        if clashes:
            raise InputError("this is another run than the one to resume:\n  " + "\n  ".join(clashes))
        return Options(**{**mine, **given})

    def make_optimizer(self) -> Optimizer:
        """Return the optimizer that is named, with its settings."""
        return OPTIMIZERS[self.optimizer][0](self)

    def make_schedule(self, total: int) -> Schedule:
        """Return the learning rate as a function of the step 1 ... total."""
        lr = _or(self.lr, OPTIMIZERS[self.optimizer][1])
        settings: dict[str, Any] = {"lr": lr, "total": max(1, total - self.warm_up)}
        if self.drop_after is not None:
            settings["after"] = self.drop_after
        if self.drop_factor is not None:
            settings["factor"] = self.drop_factor
        schedule: Schedule = partial(SCHEDULES[self.schedule], **settings)
        return partial(warm_up, schedule=schedule, steps=self.warm_up) if self.warm_up else schedule


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
