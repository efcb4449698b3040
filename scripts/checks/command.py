"""The command line of the check."""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path

from benchmarks import machine, positive
from benchmarks.command import split_names

from checks.plan import PARTS, make_smoke_test, plan
from checks.process import ROOT, run
from xpnet.backends import LIBRARIES
from xpnet.data.mnist import read_mnist
from xpnet.errors import InputError, choose

DESCRIPTION = """
Check xpnet on the GPU of this machine. Parts: smoke, which libraries can use it; environment, how they
describe it; job, the training of the README, compared with the CPU; step, the time of a training step,
compared with PyTorch and JAX; recipes, the results of the articles; tests, those of the usable libraries.
Each check is a process of its own, so one that crashes or hangs does not stop the others. Exit status: 0 all
passed; 1 a check failed or ran out of time; 2 no library can use a GPU; 130 stopped by Ctrl-C.
"""


def main(argv):
    """Run the checks; return 0, or 1 if one failed, or 2 if no library can use a GPU."""
    arguments = parse(argv)
    report = Report(arguments.out.resolve(), describe(argv))
    deadline = time.monotonic() + 60 * arguments.minutes
    try:
        libraries = run_smoke_tests(report)
        checks = plan(libraries, arguments.data_dir, report.folder) if libraries else []
        checks = [check for check in checks if check.part in arguments.only]
        if any(check.part == "recipes" for check in checks) and not has_mnist(arguments.data_dir):
            report.skip("recipes", "all", "MNIST is not on this machine: name its folder with --data-dir")
            checks = [check for check in checks if check.part != "recipes"]
        while checks:
            report.run(checks[0], limit(checks, deadline - time.monotonic()))
            del checks[0]
    except KeyboardInterrupt:
        print(f"\nStopped; results in {report.folder}")
        return 130
    return report.conclude(libraries)


def limit(checks, left):
    """Return the time limit of the first check: twice its share of the seconds left, as most take less."""
    share = checks[0].seconds / sum(check.seconds for check in checks)
    return max(1.0, left * min(1.0, 2 * share))


def parse(argv):
    parser = argparse.ArgumentParser(prog="gpu_check.py", description=DESCRIPTION)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs", f"{datetime.now():%Y%m%d-%H%M%S}-gpu-check"),
        metavar="FOLDER",
        help="new folder for the results: report.json, what each check printed, and its files "
        "(default: runs/DATE-TIME-gpu-check)",
    )
    parser.add_argument(
        "--only",
        type=split_names,
        default=PARTS,
        metavar="PART,...",
        help=f"parts to run: {', '.join(PARTS)} (default: all). smoke always runs",
    )
    parser.add_argument(
        "--minutes", type=positive, default=10, metavar="N", help="time limit (default: %(default)s)"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder of the four MNIST files (default: xpnet's cache; without them the recipes are skipped)",
    )
    arguments = parser.parse_args(argv)
    try:
        for part in arguments.only:
            choose("part", part, PARTS)
        if arguments.data_dir:
            read_mnist("mnist", arguments.data_dir)
        if arguments.out.is_file() or (arguments.out.is_dir() and any(arguments.out.iterdir())):
            raise InputError(f"--out {arguments.out} is not an empty folder: choose another one")
    except InputError as error:
        parser.error(str(error))
    return arguments


def describe(argv):
    """Return the date, command, machine, versions, driver and commit."""
    found = machine.describe(argv, [])
    packages = {package.name: package.version for package in distributions()}
    cuda = {name: packages[name] for name in sorted(packages) if name.startswith(("nvidia-", "jax-cuda"))}
    return {
        **found,
        "command": " ".join(["python scripts/gpu_check.py", *argv]),
        "versions": {**found["versions"], **cuda},
        "driver": ask("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
        "commit": ask("git", "describe", "--always", "--dirty", "--abbrev=40"),
    }


def ask(*command):
    """Return the first line that a program prints, or None if it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.partition("\n")[0] if done.returncode == 0 else None


def run_smoke_tests(report):
    """Return the names of the libraries that can use a GPU."""
    for name, library in LIBRARIES.items():
        if "cuda" not in library.devices:
            continue
        if library.find_version() is None:
            report.skip("smoke", name, f"not installed: {library.remedy}")
        else:
            smoke_test = make_smoke_test(name)
            report.run(smoke_test, smoke_test.seconds)
    passed = [result for result in report.results if result["status"] == "passed"]
    if passed:
        report.head["machine"]["gpu"] = passed[0]["figures"]["hardware"]
    return [result["name"] for result in passed]


def has_mnist(data_dir):
    try:
        read_mnist("mnist", data_dir, download=False)
    except InputError:
        return False
    return True


class Report:
    """The results. They are printed as they come, and saved each time, so that none is lost on Ctrl-C.

    Attributes:
        folder: where they are saved.
        head: what `describe` returns.
        results: one for each check.
    """

    def __init__(self, folder, head):
        self.folder, self.head, self.results = folder, head, []
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        print(machine.format_head(head))
        print(
            f"commit {head['commit'] or 'unknown'}; {head['driver'] or 'nvidia-smi not found'}\n", flush=True
        )

    @property
    def failed(self):
        """A line for each check that failed or ran out of time."""
        return [
            f"{each['part']}, {each['name']}: {each['problem']}" for each in self.results if "problem" in each
        ]

    def skip(self, part, name, why):
        self.add({"part": part, "name": name, "status": "skipped", "summary": why})

    def run(self, check, limit):
        if sys.stdout.isatty():
            print(f"{check.part:<12}{check.name:<37}at most {limit:.0f} s ...", end="\r", flush=True)
        self.add(run(check, limit, self.folder / "logs"))

    def add(self, result):
        self.results.append(result)
        took = f"{result['seconds']:.1f} s" if "seconds" in result else ""
        line = f"{result['part']:<12}{result['name']:<37}{result['status']:<12}{took:>8}  {result['summary']}"
        print(line.rstrip())
        for warning in result.get("warnings", []):
            print(f"    {warning}")
        if "problem" in result:
            print(f"    {result['problem']}")
            print("".join(f"    > {line}\n" for line in result["output"][-15:]), end="")
        sys.stdout.flush()
        saved = {**self.head, "failed": self.failed, "checks": self.results}
        (self.folder / "report.json").write_text(json.dumps(saved, indent=1) + "\n", "utf-8")

    def conclude(self, libraries):
        """Print what failed and return the exit status."""
        counts = Counter(result["status"] for result in self.results)
        print(f"\n{', '.join(f'{n} {status}' for status, n in counts.items())}; results in {self.folder}")
        for line in self.failed:
            print(f"FAILED: {line}")
        if not libraries:
            print("No library can use a GPU on this machine.")
            return 2
        return 1 if self.failed else 0
