"""xpnet beside its peers: `python scripts/benchmark.py step`. See --help, and --help of each subcommand."""

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from benchmarks import machine, positive
from benchmarks.contestants import usable_backends

from xpnet.errors import BackendError, InputError

SUBCOMMANDS = ("step", "accuracy", "predict", "startup", "scaling")


def main(argv=None):
    """Run one subcommand; return 0, 1 if a contestant was disqualified, 2 for what cannot be run."""
    argv = sys.argv[1:] if argv is None else list(argv)
    modules = {name: import_module(f"benchmarks.{name}") for name in SUBCOMMANDS}
    arguments = parser(modules).parse_args(argv)
    module = modules[arguments.subcommand]
    try:
        check_folders(arguments)
        arguments.backends, arguments.left_out = usable_backends(arguments.device, arguments.backend)
        arguments.device = arguments.backends[0].device_name
        head = machine.describe(argv, arguments.backends)
        result = {"subcommand": arguments.subcommand, **head, **module.run(arguments)}
    except (BackendError, InputError) as error:
        print(error, file=sys.stderr)
        return 2
    print(report(module, result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.figure:
        module.draw(result, arguments.figure)
    return 1 if result.get("disqualified") else 0


def parser(modules):
    found = argparse.ArgumentParser(prog="benchmark.py", description=__doc__)
    subparsers = found.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, module in modules.items():
        sub = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        add_common_arguments(sub)
        module.add_arguments(sub)
    return found


def add_common_arguments(sub):
    sub.add_argument(
        "--device", default="auto", metavar="cpu|cuda|auto", help="where to compute (default: auto)"
    )
    sub.add_argument(
        "--backend",
        action="extend",
        type=names,
        default=[],
        metavar="NAME,...",
        help="xpnet's libraries (default: all that are usable)",
    )
    sub.add_argument(
        "--peers", type=names, metavar="NAME,...", help="whom to compare with, or none (default: all)"
    )
    sub.add_argument("--repeats", type=positive, metavar="N", help="rounds that count")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    sub.add_argument("--figure", type=Path, metavar="FILE", help="draw the result there, as PNG")
    sub.add_argument(
        "--data-dir",
        type=Path,
        metavar="FOLDER",
        help="the four files of MNIST (default: where xpnet keeps them; not there: random data of its shape)",
    )


def names(text):
    return [name.strip() for name in text.split(",") if name.strip()]


def check_folders(arguments):
    """Refuse now what could not be written after minutes of measuring."""
    for path in (arguments.json, arguments.figure):
        if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise InputError(f"{path}: cannot be written")
    if arguments.figure:
        from benchmarks import figures

        figures.check()


def report(module, result):
    """Return what is printed: the machine, the table, who was left out and who is disqualified."""
    lines = [machine.head(result), "", module.table(result)]
    lines += [f"left out: {name}: {why}" for name, why in result.get("skipped", {}).items()]
    lines += [f"DISQUALIFIED: {who}" for who in result.get("disqualified", [])]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
