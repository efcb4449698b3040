"""What is checked, and how its results are read."""

import json
import re
from collections import Counter
from functools import partial

from benchmarks.step import BIG, MIDDLE, SMALL

from checks.process import Check
from xpnet.command.recipes import recipe_names

PARTS = ("smoke", "environment", "job", "step", "recipes", "tests")
# The largest differences allowed between the main job on the GPU and on the CPU: in each loss, in test rows.
LOSS_TOLERANCE, ROW_TOLERANCE = 1e-4, 2

# A sum and a matrix product.
SMOKE = """
import json, sys
from xpnet.backends import LIBRARIES
library = LIBRARIES[sys.argv[1]]
problem = library.find_problem("cuda")
hardware = None if problem else library.bind("cuda", "float32").hardware
print(json.dumps({"version": library.find_version(), "hardware": hardware, "problem": problem}))
"""
ENVIRONMENTS = {
    "cupy": "import cupy; cupy.show_config()",
    "torch": "from torch.utils.collect_env import main; main()",
    "jax": "import jax; jax.print_environment_info()",
}
# pytest's option -k. Tests of a GPU that name no library are CuPy's.
TESTS = {"cupy": "not torch-cuda and not jax-cuda", "torch": "torch-cuda", "jax": "jax-cuda"}


def make_smoke_test(library):
    return Check("smoke", library, ["-c", SMOKE, library], read_smoke, seconds=60)


def plan(libraries, data_dir, folder):
    """Return all other checks. The tests are last: they are given the time that the others leave.

    Args:
        libraries: the names of those that passed the smoke test.
        data_dir: the folder of MNIST, or None.
        folder: where the results go.
    """
    return [
        *(Check("environment", name, ["-c", ENVIRONMENTS[name]], read_environment, 15) for name in libraries),
        *plan_jobs(libraries, folder),
        *plan_steps(data_dir, folder),
        *(
            train("recipes", name, folder, "--recipe", name, "--device", "cuda", *name_folder(data_dir))
            for name in recipe_names()
        ),
        *(plan_tests(name) for name in libraries),
    ]


def plan_jobs(libraries, folder):
    """Return the main job of the README on the CPU and, compared with it, on each library."""
    cpu = train("job", "cpu", folder, "--device", "cpu")
    yield cpu
    for name in libraries:
        backend = [] if name == libraries[0] else ["--backend", name]
        check = train("job", name, folder, "--device", "cuda", *backend)
        yield check._replace(read=partial(compare, gpu=check.read, cpu=cpu.read))


def plan_steps(data_dir, folder):
    """Return the step benchmark on three networks, and on all of them without CUDA graphs."""

    def measure(name, networks, *options, **how):
        file = folder / f"step-{name.replace('/', 'x')}.json"
        networks = [word for network in networks for word in ("--network", str(network))]
        options = [*networks, *options, "--repeats", "7", "--json", str(file), *name_folder(data_dir)]
        arguments = ["scripts/benchmark.py", "step", "--device", "cuda", *options]
        return Check("step", name, arguments, partial(read_step, file=file), **how)

    networks = SMALL, MIDDLE, BIG
    for network in networks:
        yield measure(str(network), [network], seconds=70)
    plain = {"XPNET_CUDA_GRAPH": "0"}
    yield measure("without CUDA graphs", networks, "--peers", "floor", seconds=40, variables=plain)


def plan_tests(library):
    options = ["--device", "cuda", "-m", "cuda", "-k", TESTS[library], "-v", "-p", "no:cacheprovider"]
    return Check("tests", library, ["-m", "pytest", *options], read_tests, seconds=100)


def train(part, name, folder, *options):
    run = folder / f"{part}-{name}"
    arguments = ["scripts/train.py", *options, "--out", str(run)]
    return Check(part, name, arguments, partial(read_metrics, file=run / "metrics.json"), seconds=20)


def name_folder(data_dir):
    return [] if data_dir is None else ["--data-dir", str(data_dir.resolve())]


def read_smoke(text):
    found = json.loads(text.splitlines()[-1])
    return found, f"{found['version']} on {found['hardware'] or 'no GPU'}", found["problem"]


def read_environment(text):
    return {"text": text}, "", None


def read_metrics(text, file):
    metrics = json.loads(file.read_text("utf-8"))
    figures = {key: value for key, value in metrics.items() if isinstance(value, int | float | str)}
    figures["test_rows"] = sum(row["support"] for row in metrics["test_per_class"])
    sentence = f"test accuracy {100 * metrics['test_accuracy']:.2f} %, {metrics['seconds']:.1f} s of training"
    return figures, sentence, None


def compare(text, gpu, cpu):
    """Return what `gpu` reads, with the differences from what `cpu` reads."""
    (figures, sentence, _), (expected, _, _) = gpu(text), cpu("")
    losses = [abs(figures[key] - expected[key]) for key in expected if key.endswith("_loss")]
    rows = round(abs(figures["test_accuracy"] - expected["test_accuracy"]) * expected["test_rows"])
    differ = f"losses differ from those on the CPU by at most {max(losses):.1e}, test accuracy by {rows} rows"
    agree = all(loss <= LOSS_TOLERANCE for loss in losses) and rows <= ROW_TOLERANCE  # false for NaN
    problem = None if agree else f"{differ}; expected at most {LOSS_TOLERANCE:g} and {ROW_TOLERANCE} rows"
    return (
        {**figures, "loss_difference": max(losses), "row_difference": rows},
        f"{sentence}; {differ}",
        problem,
    )


def read_step(text, file):
    result = json.loads(file.read_text("utf-8"))
    table = "".join(f"\n    {line}" for line in text.splitlines() if line.startswith(("###", "|")))
    problem = f"disqualified: {', '.join(result['disqualified'])}" if result["disqualified"] else None
    return {"networks": result["networks"], "skipped": result["skipped"]}, table, problem


def read_tests(text):
    """Count the outcomes that pytest -v printed, also if it did not come to its end."""
    outcomes = re.findall(r"^(\S+::.+) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", text, re.MULTILINE)
    counts = Counter(outcome.lower() for _, outcome in outcomes)
    failures = [test for test, outcome in outcomes if outcome in ("FAILED", "ERROR")]
    problem = None if counts["passed"] else "no test passed"
    if failures:
        problem = f"{', '.join(failures[:10])}{' ...' if len(failures) > 10 else ''}"
    summary = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    return {**counts, "failures": failures}, summary, problem
