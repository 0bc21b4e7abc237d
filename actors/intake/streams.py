"""The streams of intake: their names, what each takes in, and how the server spreads messages.

One stream makes one sync to disk a message, so there are several. A message without a key goes to
any of them; those with one key of one source go to the same, in their order.
"""

from __future__ import annotations

INTAKE_STREAMS = 4
"""The server spreads over so many: `MAPPINGS`, and `deploy/nats/workspace.conf`."""

MAPPINGS = f"""
mappings = {{
  "koseki.*.ingest.*": "koseki.{{{{wildcard(1)}}}}.intake.{{{{random({INTAKE_STREAMS})}}}}.{{{{wildcard(2)}}}}"
  "koseki.*.ingest.*.*": "koseki.{{{{wildcard(1)}}}}.intake.{{{{partition({INTAKE_STREAMS},2,3)}}}}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}"
}}
"""  # noqa: E501  # one mapping a line, as the server's configuration has it
"""For the server's configuration; without it the first stream takes everything."""


def stream_name(workspace: str, place: int) -> str:
    """Name one of a workspace's streams."""
    name = f"koseki-{workspace}-intake"
    return f"{name}-{place}" if place else name


def stream_subjects(workspace: str, place: int) -> list[str]:
    """Say what a stream takes in; the first also what nobody spreads."""
    spread = f"koseki.{workspace}.intake.{place}.>"
    return [spread] if place else [f"koseki.{workspace}.ingest.>", spread]


def published_subject(subject: str, *, workspace: str) -> str:
    """Give the subject as its publisher wrote it."""
    spread = f"koseki.{workspace}.intake."
    if not subject.startswith(spread):
        return subject
    return f"koseki.{workspace}.ingest.{subject.removeprefix(spread).partition('.')[2]}"
