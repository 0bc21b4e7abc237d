"""The command line of the measurements: `python -m benchmarks [--quick] [--json] [PART ...]`."""

from __future__ import annotations

import argparse
import logging

import structlog
import uvloop

from benchmarks.measuring import Metrics
from benchmarks.parts import PARTS
from benchmarks.report import one_line, print_table, write_results


def main(arguments: list[str] | None = None) -> int:
    """Measure the parts that were asked for, all if none was."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}, only {', '.join(PARTS)}")
    prepare_process()
    measured: dict[str, Metrics] = {}
    for name in options.parts or PARTS:
        # The loop that the hosts run on.
        measured[name] = uvloop.run(PARTS[name]()(options.quick))
    print_table(measured)
    if options.json:
        print(one_line(measured))
    if not options.json and not options.quick:
        write_results(measured)
    return 0


def prepare_process() -> None:
    """Set this process up like a host's, without its log lines."""
    from actors.remote import calm_collector

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    calm_collector()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Koseki.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller data")
    parser.add_argument(
        "--json", action="store_true", help="end with one JSON object; write no results.json"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
