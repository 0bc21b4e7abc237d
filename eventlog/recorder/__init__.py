"""A persistence module of the `eventsourcing` library on JetStream.

`PERSISTENCE_MODULE=eventlog.recorder.factory` points an `Application` or a `Projection` at it:
at a log of its own with `KOSEKI_APPLICATION`, at a workspace of Koseki with `KOSEKI_WORKSPACE`
(`examples/read_customers.py`).

| variable | meaning | without it |
| --- | --- | --- |
| `KOSEKI_NATS_URL` | servers, parted by commas; or `KOSEKI_NATS_SERVERS` | an error |
| `KOSEKI_APPLICATION` | the application whose own log is read and written | its `name` |
| `KOSEKI_WORKSPACE` | the workspace whose log is read; excludes the variable above | none |
| `KOSEKI_WORKSPACE_KEY` | opens its seals: `file:PATH`, `env:NAME` or `command:WORDS` | none |
| `KOSEKI_REPLICAS` | of an application's streams: 1, 3 or 5; 3 where events must last | 1 |
| `KOSEKI_TIMEOUT_SECONDS` | the deadline of one call of a recorder | 10 |
| `KOSEKI_NATS_CREDENTIALS` | the path of a file of NATS credentials (`.creds`) | none |
| `ORIGINATOR_ID_TYPE` | `uuid` or `text`, as in the library's own modules | `uuid` |

As everywhere in the library, a variable that begins with the application's name in capitals, as in
`ACCOUNTS_KOSEKI_NATS_URL`, comes before the plain one. Name `KOSEKI_NATS_CREDENTIALS` so where the
command `koseki` has the same environment: to it the plain one is a TOML file of roles. The
library's own variables (transcoder, cipher, compressor, mapper, snapshotting) keep their meaning on
a log of the application's own.

**A log of an application's own.** Events lie in the stream `koseki-<name>-log` under
`koseki.<name>.record.<originator id>`, and nothing else does. Bodies are what the library's own
`Mapper` made, with its topics; headers, digests and chain are Koseki's (`eventlog/envelope.py`), so
`D(r)` is computed as for any log. The first version is 0 or 1, the next ones follow without a gap.
A notification's id is the event's sequence in the stream: 1, 2, 3. Snapshots lie in
`koseki-<name>-snapshots`: every version is kept, in any order, and versions may be left out.

**A workspace's log, to be read.** Every message is a notification, its id is the revision, its
topic the wire name. `select_events` takes a record's id; the originator id of an identifier, of
the workspace and of the clock is the UUIDv5 of the subject (in the namespace of URLs). The mapper
decodes with the closed registry and gives `KosekiEvent`s. `insert_events` raises
`WorkspaceLogIsReadOnly`. Sealed events are opened with `KOSEKI_WORKSPACE_KEY` (`workspace_keys.py`)
and without it raise `NotDecodable`; those of an erased record read as `is_erased`,
from the request of the erasure on.

**Not offered**: process and tracking recorders. Tracking must be stored in one transaction with
events or with a view, and a batch of JetStream's does not reach beyond a stream, which here holds
nothing but events. A projection keeps its view, with its tracking, in another module, such as
`eventsourcing.sqlite`.

`factory.py` makes the recorders: `application_recorder.py`, `aggregate_recorder.py` and
`workspace_recorder.py`. They read with `history.py`, `selection.py` and `subscription.py`, and
write with `writer.py`; `foreign_stream.py` says where an application's events lie. The library is
synchronous: `session.py` and `loop.py` keep a connection in a thread of its own. `errors.py` draws
the tree of errors. Nothing in Koseki imports this package.
"""
