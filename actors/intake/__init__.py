"""Intake: from what publishers put on NATS to commands for customers, and the dead letters.

`port.py` says what a queue and a store of dead letters must do; `jetstream.py` and
`dead_letters.py` do it on NATS, with what `api.py` knows of JetStream's API. `cloud_events.py`,
`segment_spec.py` and `json_values.py` decode, `identifiers.py` normalises, `grouping.py` makes
commands, `round.py` carries one pull out, `worker.py` runs rounds, `counters.py` counts.
`publisher.py` is the other end: how Koseki's own tools publish. For imports, `lines.py` reads
files, `imported.py` decodes their lines, and `line_queue.py` is a file as a queue.

Imports `domain`, `actors.clock` and `eventlog`. Nothing below `actors` may import it.
"""
