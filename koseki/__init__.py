"""Messages and stubs of the gRPC contract, generated from `protos/` and never edited.

`scripts/generate_protos.py` makes them. Only `services` and `eventlog` may import this package.
"""
