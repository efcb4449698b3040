"""The results an article prints, compared with those of a run of its recipe."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.command.formats import escape
from xpnet.command.parts import Parts
from xpnet.command.recipes import Recipe, format_result
from xpnet.command.report import History
from xpnet.maths.mlp import MLP
from xpnet.training import TrainState
from xpnet.training.scores import evaluate, predict

__all__ = ["Article", "compare", "measure"]


class Article:
    """Records what the article prints at the same steps of a run of its recipe.

    The records are kept in `printed.jsonl` in the run's folder, and in its checkpoint.

    Args:
        content: of that file, from the checkpoint of a resumed run.
    """

    def __init__(self, recipe: Recipe, folder: Path, content: bytes) -> None:
        self.recipe, self.printed = recipe, recipe.printed
        self.lines = None if self.printed is None else History(folder / "printed.jsonl", content)

    def record(self, state: TrainState, mlp: MLP, parts: Parts, backend: Backend) -> None:
        """Record the line before the next step, if the article prints one there."""
        if self.printed is None or self.lines is None:
            return
        line, rest = divmod(state.step, self.printed.every)
        if rest == 0 and line == len(self.lines.records) < len(self.printed.lines):
            self.lines.append(
                {"step": state.step, **measure(mlp, state.theta, *parts.train, backend=backend)}
            )

    def compare(self, metrics: dict[str, Any], *, quiet: bool) -> bool:
        """Print the table "article / here" (quiet: only the differences); return whether they agree."""
        if self.printed is None and not self.recipe.expected:  # a recipe from no article
            return True
        table, agrees = compare(self.recipe, [] if self.lines is None else self.lines.records, metrics)
        if not quiet:
            print(f"\n{table}")
        elif not agrees:
            print(table.splitlines()[-1], file=sys.stderr)
        return agrees


def measure(mlp: MLP, theta: Array, X: Array, Y: Array, *, backend: Backend) -> dict[str, float]:
    """Return what the articles print for rows X (n, inputs) and one-hot Y (n, classes).

    `cost` is defined as in the articles: -mean(Y log(p + 1e-8)) over all n · classes entries, for ten
    classes a tenth of the cross-entropy. `accuracy` is in percent, `cross_entropy` the mean over rows.
    """
    p, targets = predict(mlp, theta, X, backend=backend), backend.to_numpy(Y)
    if mlp.classifies and targets.shape[1] == 1:  # one logistic output stands for two classes
        targets = np.hstack([1.0 - targets, targets])
    plain = evaluate(mlp, theta, X, Y, backend=backend)
    cost = -np.mean(targets * np.log(p + 1e-8))
    return {"cost": float(cost), "accuracy": 100 * plain.score, "cross_entropy": plain.loss}


def compare(recipe: Recipe, lines: list[dict[str, float]], metrics: dict[str, Any]) -> tuple[str, bool]:
    """Return a table "article / here", with the differences or the tolerances, and whether they agree.

    Args:
        lines: `measure` of each step that the article prints, with its `step`.
        metrics: of the finished run.
    """
    lines_of_note = [escape(line) for line in recipe.note.splitlines()]
    text, differences = [f'The article: "{escape(recipe.title)}"', *lines_of_note, ""], []
    tolerances = []
    if recipe.printed is not None:
        d = recipe.printed.decimals
        c, a = max(d + 6, 11), max(d + 8, 13)  # as wide as the headings, at least
        row = f"{{:>6}}  {{:>{c}}}{{:>{c}}}  {{:>{a}}}{{:>{a}}}  {{:>14}}"
        text += [
            row.format("", "cost", "cost", "accuracy, %", "accuracy, %", "cross-entropy"),
            row.format("step", "article", "here", "article", "here", "here"),
        ]
        for i, (cost, accuracy) in enumerate(recipe.printed.lines):
            step, ours = i * recipe.printed.every, ["-"] * 3
            if i < len(lines):
                ours = [f"{lines[i][name]:.{d}f}" for name in ("cost", "accuracy", "cross_entropy")]
            theirs = [f"{cost:.{d}f}", f"{accuracy:.{d}f}"]
            text.append(row.format(step, theirs[0], ours[0], theirs[1], ours[1], ours[2]))
            if ours[:2] != theirs:
                differences.append(f"step {step}")
        text.append("")
        tolerances.append(f"printed lines to {d} decimals")
    for name, expected in recipe.expected.items():
        value, title = metrics.get(name), name.replace("_", " ")
        article, here = (
            "-" if number is None else format_result(number, name) for number in (expected.article, value)
        )
        text.append(f"{title:<20}article {article:<12}here {here}")
        if expected.has_tolerance:
            tolerances.append(f"{title} {expected.describe(name)}")
        if value is None:
            differences.append(f"there is no {title} here")
        elif not expected.agrees(value):
            differences.append(f"{title} is {here}, expected {expected.describe(name)}")
    if differences:
        verdict = f"They differ: {'; '.join(differences)}."
    elif tolerances:
        verdict = f"They agree ({'; '.join(tolerances)})."
    else:
        verdict = "The recipe has no tolerance to compare with."
    return "\n".join([*text, verdict]), not differences
