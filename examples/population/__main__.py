"""Write a population into a folder: `deliveries.jsonl`, in order of arrival, and `truth.json`."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from examples.population.delivery import Delivery, Population, ends_at, populate
from examples.population.people import Shares
from examples.population.truth import owners, truth_at


def main(arguments: list[str] | None = None) -> int:
    """Make up a population and write it."""
    options = _parser().parse_args(arguments)
    shares = Shares(shared_devices=options.shared_devices, second_accounts=options.second_accounts)
    population = populate(options.people, seed=options.seed, shares=shares)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "deliveries.jsonl").open("w", encoding="utf-8") as file:
        for delivery in population.deliveries:
            file.write(json.dumps(_line(delivery)) + "\n")
    truth = json.dumps(_truth(population, ends_at()), indent=1)
    (options.out / "truth.json").write_text(truth + "\n", encoding="utf-8")
    print(f"{len(population.people):,} people, {len(population.deliveries):,} deliveries")
    return 0


def _line(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivered_at": delivery.delivered_at.isoformat(),
        "happened_at": delivery.happened_at.isoformat(),
        "kind": delivery.kind,
        "source": delivery.source,
        "body": delivery.call() if delivery.kind == "call" else delivery.body,
        "message_id": delivery.message_id,
    }


def _truth(population: Population, instant: datetime) -> dict[str, Any]:
    people = truth_at(population, instant)
    return {
        "as_of": instant.isoformat(),
        "people": [
            {
                "person": truth.person,
                "open_purposes": sorted(truth.open_purposes),
                "is_erased": truth.is_erased,
                "orders": truth.orders,
            }
            for truth in people.values()
        ],
        "owners": {name: sorted(found) for name, found in owners(population).items()},
        "messages": {d.message_id: d.person for d in population.deliveries},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.population",
        description="Make up people, what they do and how it arrives, with the truth beside it.",
    )
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shared-devices", type=float, default=Shares().shared_devices)
    parser.add_argument("--second-accounts", type=float, default=Shares().second_accounts)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
