"""The options of a training run: one field per option of the command line, with its default."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, get_type_hints

from xpnet._typing import Schedule
from xpnet.backends import DTYPES, LIBRARIES, check_contradiction
from xpnet.data.schema import check_table
from xpnet.errors import InputError, choose
from xpnet.maths.initializers import INITIALIZERS
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from xpnet.maths.schedules import SCHEDULES, warm_up

__all__ = ["KEEP", "NEUTRAL", "OPTIMIZERS", "Options", "override", "update_names"]

# Name: (function of the options that makes it, default learning rate).
OPTIMIZERS: dict[str, tuple[Callable[["Options"], Optimizer], float]] = {
    "sgd": (lambda options: SGD(), 0.1),
    "momentum": (lambda options: SGD(_fill(options.momentum, 0.9)), 0.05),
    "nesterov": (lambda options: SGD(_fill(options.momentum, 0.9), nesterov=True), 0.05),
    "adam": (lambda options: Adam(), 0.002),
    "adamw": (lambda options: AdamW(weight_decay=_fill(options.weight_decay, 0.01)), 0.002),
    "rmsprop": (lambda options: RMSprop(), 0.001),
    "adagrad": (lambda options: Adagrad(), 0.01),
}

KEEP = ("best", "last")

MOST = 2**31 - 1  # of anything that is counted

# Options that only apply to one value of another option, and are dropped when that one changes.
DEPENDENTS = {
    "data": ("target",),
    "optimizer": ("momentum", "weight_decay"),
    "schedule": ("drop_after", "drop_factor"),
}

# Options that do not change the results of a run.
NEUTRAL = ("data_dir", "device", "backend", "threads", "out", "checkpoint_every", "quiet")

# Options that may change when a run is resumed: none of them changes a step, but for the end of the schedule.
MAY_CHANGE = ("epochs", *NEUTRAL)

# Names of options in older runs and recipes.
OLD_NAMES = {"early_stopping": "patience"}


@dataclass(frozen=True)
class Options:
    """The options of `xpnet train`; None means the default that the help text names."""

    data: str = "digits"
    target: str | None = None
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
    patience: int | None = None
    keep: str | None = None
    seed: int = 0
    device: str = "auto"
    backend: str | None = None
    dtype: str = "float32"
    threads: int | None = None
    out: str | None = None
    checkpoint_every: int | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        for option, path in (("--data", self.data), ("--data-dir", self.data_dir), ("--out", self.out)):
            if path is not None and (not path or "\0" in path):
                raise InputError(f"{option}: expected a path, got {path!r}")
        # Checked before any data is loaded. The numbers of inputs and outputs, here 1, follow from the data.
        MLP((1, *self.hidden, 1), self.activations, self.loss, self.l2, self.label_smoothing)
        initializer = self.init.removeprefix("legacy_").partition(":")[0]
        choose("initial distribution", initializer, ("auto", *INITIALIZERS))
        choose("optimizer", self.optimizer, OPTIMIZERS)
        choose("schedule", self.schedule, SCHEDULES)
        choose("dtype", self.dtype, DTYPES)
        self._check_device()
        for option, value, owner, taken, takers in (
            ("--momentum", self.momentum, "--optimizer", self.optimizer, ("momentum", "nesterov")),
            ("--weight-decay", self.weight_decay, "--optimizer", self.optimizer, ("adamw",)),
            ("--drop-after", self.drop_after, "--schedule", self.schedule, ("step",)),
            ("--drop-factor", self.drop_factor, "--schedule", self.schedule, ("step",)),
        ):
            if value is not None and taken not in takers:
                raise InputError(f"{option} belongs to {owner} {' or '.join(takers)}, not to {taken}")
        for option, number, least, most in (
            ("--epochs", self.epochs, 0, MOST),
            ("--batch-size", self.batch_size, 1, MOST),
            ("--warm-up", self.warm_up, 0, MOST),
            ("--patience", self.patience, 1, MOST),
            ("--threads", self.threads, 1, MOST),
            ("--checkpoint-every", self.checkpoint_every, 1, MOST),
            ("--seed", self.seed, 0, 2**32 - 1),  # scikit-learn takes no larger one
            *(("--hidden", size, 1, MOST) for size in self.hidden),
            *(("--drop-after", step, 0, MOST) for step in self.drop_after or ()),
        ):
            if number is not None and not least <= number <= most:
                expected = f"at least {least}" if number < least and most == MOST else f"{least} to {most}"
                raise InputError(f"{option}: expected {expected}, got {number}")
        for option, positive in (
            ("--lr", self.lr),
            ("--clip-norm", self.clip_norm),
            ("--drop-factor", self.drop_factor),
        ):
            if positive is not None and not 0.0 < positive < math.inf:
                raise InputError(f"{option}: expected a number above 0, got {positive}")
        for option, fraction in (("--test", self.test), ("--validation", self.validation)):
            if not 0.0 <= fraction < 1.0:
                raise InputError(f"{option}: expected a fraction of at least 0 and below 1, got {fraction}")
        if self.keep is not None:
            choose("value of --keep", self.keep, KEEP)
        for option, is_given in (
            ("--patience", self.patience is not None),
            ("--keep best", self.keep == "best"),
        ):
            if is_given and not self.validation:
                raise InputError(f"{option} needs validation data: give --validation a fraction above 0")

    def _check_device(self) -> None:
        kind = self.device.partition(":")[0]
        if self.backend is None or kind == "gpu":  # a library may have devices of other names
            choose("device", kind, ("auto", "cpu", "cuda", "cuda:N"))
        if self.backend is not None:
            check_contradiction(self.device, choose("backend", self.backend, LIBRARIES), prefix="--")

    @property
    def keeps_best(self) -> bool:
        """Whether the run ends with the parameters of the lowest validation loss, not with the last ones."""
        return self.keep == "best" or (self.keep is None and self.patience is not None)

    @property
    def loss_extras(self) -> list[str]:
        """Names of what is part of the training loss, but not of an evaluation's."""
        extras = {"label smoothing": self.label_smoothing, "L2 penalty": self.l2}
        return [name for name, value in extras.items() if value]

    @property
    def activations(self) -> str | tuple[str, ...]:
        """One name for all hidden layers, or one for each."""
        return self.activation[0] if len(self.activation) == 1 else self.activation

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Options":
        """Return the options in a dictionary, as JSON and TOML hold them: with lists for tuples.

        Raises:
            InputError: an unknown option, or a value of the wrong type or out of range.
        """
        saved = update_names(saved)
        check_table(saved, get_type_hints(Options))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        return cls(**values)

    def override(self, given: dict[str, Any]) -> "Options":
        """Return the options of a run to resume: these, its original ones, overridden by those given now.

        Raises:
            InputError: one of them would change the run; the message lists each with both values.
        """
        if "out" in given:
            raise InputError("--out cannot be combined with --resume: a resumed run stays in its folder")
        original = asdict(self)
        # A run without early stopping has not kept the best of its epochs so far.
        may_change = MAY_CHANGE if self.patience is None else (*MAY_CHANGE, "patience")
        differences = [
            f"--{name.replace('_', '-')}: the run has {_format_value(then)}, you gave {_format_value(now)}"
            for name, now in given.items()
            if name not in may_change and now != (then := original[name])
        ]
        if differences:
            raise InputError(
                "these options differ from those of the run being resumed:\n  " + "\n  ".join(differences)
            )
        return Options(**override(original, given))

    def make_optimizer(self) -> Optimizer:
        """Return the optimizer with its settings."""
        return OPTIMIZERS[self.optimizer][0](self)

    def make_schedule(self, total: int) -> Schedule:
        """Return the learning rate as a function of the step, 1 to total."""
        lr = _fill(self.lr, OPTIMIZERS[self.optimizer][1])
        settings: dict[str, Any] = {"lr": lr, "total": max(1, total - self.warm_up)}
        if self.drop_after is not None:
            settings["after"] = self.drop_after
        if self.drop_factor is not None:
            settings["factor"] = self.drop_factor
        schedule: Schedule = partial(SCHEDULES[self.schedule], **settings)
        return partial(warm_up, schedule=schedule, steps=self.warm_up) if self.warm_up else schedule


def override(original: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the original options with those given in their place.

    Original options that no longer apply are left out: those that depend on one that changes, a backend that
    does not have the device given now, or the other way round.
    """
    changed = {name for name, value in given.items() if value != original.get(name)}
    dropped = {name for owner in changed for name in DEPENDENTS.get(owner, ())}
    if changed & {"device", "backend"}:
        both = {**original, **given}
        device, backend = both.get("device", "auto"), both.get("backend")
        if device.startswith("cuda") or backend not in (None, "numpy"):
            dropped.add("threads")
        try:
            if backend in LIBRARIES:
                check_contradiction(device, backend)
        except InputError:
            dropped |= {"device", "backend"}
    return {name: value for name, value in original.items() if name not in dropped} | given


def update_names(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an older run or recipe under their names of today."""
    return {OLD_NAMES.get(name, name): value for name, value in saved.items()}


def _fill(value: float | None, default: float) -> float:
    return default if value is None else value


def _format_value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
