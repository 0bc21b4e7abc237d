"""The log as a port, and what stands behind it.

`port.py` is the contract: append, load, read, follow, heads, shape. `jetstream.py` and `memory.py`
implement it and pass one suite. `envelope.py` turns an event into headers and digests, `codec.py`
its body into bytes, `registry.py` holds the wire names, `subjects.py` the subjects. `server.py`
runs the embedded nats-server, `connection.py` watches over a connection to one.

Only this package (and intake, through a port) imports `nats`.
"""
