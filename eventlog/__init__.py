"""The log as a port, and what stands behind it.

`port.py` is the contract: append, load, read, follow, heads, shape. `jetstream.py` and `memory.py`
implement it and pass one suite. `envelope.py` turns an event into headers and digests, `codec.py`
its body into bytes, `registry.py` holds the wire names, `subjects.py` the subjects; `outgoing.py`
and `incoming.py` put these together for both. `commit.py` joins the appends of many callers;
`guard.py` watches that the log is the one that was written, by `marks.py` and other witnesses.
`sealing.py` seals personal fields under the keys of `keys/`; `snapshots/` keeps packed states of
records; `recorder/` is the same log for the `eventsourcing` library. On JetStream, `appender.py`
writes and settles, `direct_reader.py` reads streams, `leader.py` the heads that may not be old,
`tail.py` and `pull_consumer.py` the whole log, `stream_config.py` checks the settings,
`jetstream_api.py` and `direct_get.py` make the requests, `erasing.py` the erasures. `server.py`
runs the embedded nats-server, `connection.py` watches over a connection to one, on
`nats_client.py`, `nats_parser.py` and `wire.py`.

Only this package (and intake, through a port) imports `nats`.
"""
