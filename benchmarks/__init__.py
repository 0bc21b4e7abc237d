"""Measurements of Koseki, each beside its raw limit: the same operation without Koseki.

`python -m benchmarks [--quick] [--json] [PART ...]` runs them; `make bench` runs them all. A part
is a file that gives its metrics; `parts.py` lists the parts. Files:

* `__main__.py`: the command line
* `parts.py`: the parts by name, and how long each may measure
* `measuring.py`: a metric, and rounds of ours and raw in turn
* `report.py`: the table, the JSON object and `results.json`
* `scene.py`: a server and connections for a part that needs them
* `load.py`: made-up events
* `raw.py`: the raw limits of the log, straight on nats-py
* `log.py`: the part `log`
* `hosts.py`: hosts over a log in memory, for a part that needs no wire
* `playing.py`: a made-up population as commands, and as what the log took of it
* `resolution.py`: of the part `identity`, who is found to be whom
* `query.py`, `verifying.py`: the part `query`, over a gateway's server in a process of its own, and
  proofs in processes of Ray's
* `awake.py`, `awake_log.py`: a host full of customers, and others asleep, by a command of its own
* `data/febrl/`: records with known duplicates, and their licence

Nothing imports it but its tests.
"""
