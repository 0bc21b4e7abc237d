"""Version 1 of the contract: one module pair (`_pb2`, `_pb2_grpc`) for each file in `protos/`."""
