"""Opens what is sealed on a workspace's log, for a mapper that is called from any thread.

The mapper is made before the recorder, so the session is opened with the first sealed event. After
erasure an event reads as `is_erased`, as everywhere in Koseki: from its request on, which is asked
for with every event, for the key is still there then.
"""

from __future__ import annotations

from collections.abc import Callable

from domain.erasure_events import END_A_RECORD
from domain.ids import RecordId, Stream, StreamKind, record_stream
from eventlog.codec import Encodable, Undecodable, Unsealing
from eventlog.envelope import NO_KEY, Envelope, parse_headers
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.port import KeyAnswer, NoKey
from eventlog.keys.workspace_key import KeySource
from eventlog.recorder.errors import WorkspaceLogIsReadOnly
from eventlog.recorder.session import Session
from eventlog.registry import Fields, class_named
from eventlog.sealing import RecordSealing
from eventlog.subjects import Subjects


class SealOpener:
    """Read sealed bodies of one workspace; without a source of its key, none can be read."""

    def __init__(
        self,
        open_session: Callable[[], Session],
        *,
        workspace: str,
        source: KeySource | None,
        replicas: int = 1,
    ) -> None:
        self._open_session = open_session
        self._workspace = workspace
        self._source = source
        self._replicas = replicas
        self._ring: KeyRing | None = None

    def seal(
        self,
        event: Encodable,  # noqa: ARG002  # the protocol's
        fields: Fields,  # noqa: ARG002  # the protocol's
    ) -> tuple[Fields, str]:
        """Refuse to write."""
        raise WorkspaceLogIsReadOnly

    def unseal(self, stream: Stream, envelope: Envelope, fields: Fields) -> Unsealing:
        """Open the personal part of a body; `Undecodable` where that cannot be."""
        if envelope.key_id == NO_KEY:
            return Unsealing(fields, is_erased=False)
        source = self._source
        if source is None:
            raise Undecodable("the body is sealed, and KOSEKI_WORKSPACE_KEY names no key")
        if stream.kind is not StreamKind.RECORD:
            raise Undecodable("the body is sealed under a key of an unknown kind")
        record_id = RecordId(stream.key)
        session = self._open_session()

        async def load() -> dict[RecordId, KeyAnswer]:
            if await self._is_erased(session, record_id):
                return {record_id: NoKey.DESTROYED}
            return await self._load(session, source, record_id)

        keys = session.call(load)
        return RecordSealing(keys).unseal(stream, envelope, fields)

    async def _is_erased(self, session: Session, record_id: RecordId) -> bool:
        """Ask what came last on a record: after a request of erasure nothing else comes."""
        subjects = Subjects(self._workspace)
        subject = subjects.subject_of(record_stream(record_id))
        last = await session.api.message(subjects.log_name, {"last_by_subj": subject})
        if last is None:
            return False
        return class_named(parse_headers(last.headers).event_type) in END_A_RECORD

    async def _load(
        self, session: Session, source: KeySource, record_id: RecordId
    ) -> dict[RecordId, KeyAnswer]:
        if self._ring is None:
            store = JetStreamKeyStore(session.api.connection, self._workspace, source=source)
            await store.open(replicas=self._replicas)
            if self._ring is None:  # another thread's first event may have been faster
                self._ring = KeyRing(store)
                session.at_end(self._ring.close)
        return await self._ring.load([record_id])
