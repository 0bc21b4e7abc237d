"""A workspace's log as the library's tools read it: every message is a notification.

Nothing can be written through it. Topics are wire names; `KosekiMapper` decodes with the closed
registry, so no topic is ever resolved to a class by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.persistence import (
    Mapper,
    Notification,
    StoredEvent,
    Transcoder,
)

from domain.event import Event, Recorded
from domain.ids import CLOCK_STREAM, WORKSPACE_STREAM, RecordId, Stream, record_stream
from eventlog.codec import EventMapper, PlacedEvent, Sealing, Undecodable
from eventlog.envelope import Envelope
from eventlog.recorder.errors import NotDecodable, WorkspaceLogIsReadOnly
from eventlog.recorder.history import History, RawEntry
from eventlog.recorder.selection import Versions, select_gapless
from eventlog.recorder.sequence_recorder import SequenceRecorder
from eventlog.recorder.session import Session
from eventlog.subjects import Subjects

UUID_VERSION_OF_SUBJECTS = 5


@dataclass(frozen=True)
class PlacedNotification(Notification):
    """A notification that knows its stream and its envelope; `id` is the revision."""

    stream: Stream
    envelope: Envelope


class KosekiEvent(NamedTuple):
    """A recorded event, as the library knows events: by originator and version."""

    originator_id: UUID
    recorded: Recorded[Event]

    @property
    def originator_version(self) -> int:
        """The gapless number on its stream, from 1."""
        return self.recorded.version


class KosekiMapper(Mapper[UUID]):
    """Decode what was read from a workspace's log; it encodes nothing."""

    def __init__(
        self, transcoder: Transcoder | None = None, *, sealing: Sealing | None = None
    ) -> None:
        self._decoder = EventMapper(sealing)
        super().__init__(transcoder=transcoder or self._decoder.transcoder)

    def to_stored_event(
        self,
        domain_event: Any,  # noqa: ARG002, ANN401  # Any: whatever an application wants to store
    ) -> NoReturn:
        """Refuse to write."""
        raise WorkspaceLogIsReadOnly

    def to_domain_event(self, stored_event: StoredEvent) -> KosekiEvent:
        """Decode with the closed registry; `NotDecodable` where it is no event of Koseki's."""
        match stored_event:
            case PlacedNotification(id=revision, stream=stream, envelope=envelope):
                pass
            case PlacedEvent(revision=revision, stream=stream, envelope=envelope):
                pass
            case _:
                raise NotDecodable("a stored event without its envelope cannot be decoded")
        try:
            recorded = self._decoder.to_domain_event(
                PlacedEvent(
                    originator_id=stored_event.originator_id,
                    originator_version=stored_event.originator_version,
                    topic=stored_event.topic,
                    state=stored_event.state,
                    stream=stream,
                    revision=revision,
                    envelope=envelope,
                )
            )
        except Undecodable as error:
            raise NotDecodable(f"revision {revision}: {error}") from None
        return KosekiEvent(_uuid(stored_event.originator_id), recorded)


class WorkspaceRecorder(SequenceRecorder):
    """Select and follow the events of a workspace's log."""

    def __init__(self, session: Session, workspace: str) -> None:
        self._session = session
        self._subjects = Subjects(workspace)
        self._history = History(session.api, self._subjects)
        self._single = {
            self.originator_id(stream): stream for stream in (WORKSPACE_STREAM, CLOCK_STREAM)
        }

    def originator_id(self, stream: Stream) -> UUID:
        """Give a stream's originator id: a record's own, else the UUIDv5 of the subject."""
        return self._subjects.uuid_of(stream)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],  # noqa: ARG002  # the library's
        **kwargs: object,  # noqa: ARG002  # the library's
    ) -> NoReturn:
        """Refuse to write."""
        raise WorkspaceLogIsReadOnly

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Read a stream's events by version, as the leader holds them now."""
        wanted = Versions(gt, lte, desc, limit)
        entries = self._session.call(lambda: self._select(_uuid(originator_id), wanted))
        return [self._placed_event(entry) for entry in entries]

    async def _select(self, originator_id: UUID, wanted: Versions) -> list[RawEntry]:
        found = self._single.get(originator_id) or record_stream(RecordId(str(originator_id)))
        subject = self._subjects.subject_of(found)
        entries = await select_gapless(self._history, subject, wanted, first_versions=(1,))
        if entries or originator_id.version != UUID_VERSION_OF_SUBJECTS:
            return entries
        hashed = await self._identifier_subject(originator_id)
        if hashed is None:
            return []
        return await select_gapless(self._history, hashed, wanted, first_versions=(1,))

    async def _identifier_subject(self, originator_id: UUID) -> str | None:
        """Find the identifier whose subject has this UUID: about 7 s for a million of them."""
        async for page in self._history.subjects(f"koseki.{self._subjects.workspace}.identifier.>"):
            for subject in page:
                if uuid5(NAMESPACE_URL, subject) == originator_id:
                    return subject
        return None

    def _placed_event(self, entry: RawEntry) -> PlacedEvent:
        envelope = entry.readable_envelope
        return PlacedEvent(
            originator_id=self.originator_id(entry.stream),
            originator_version=entry.version,
            topic=envelope.event_type,
            state=entry.body,
            stream=entry.stream,
            revision=entry.revision,
            envelope=envelope,
        )

    def _notification(self, entry: RawEntry) -> PlacedNotification:
        envelope = entry.readable_envelope
        return PlacedNotification(
            originator_id=self.originator_id(entry.stream),
            originator_version=entry.version,
            topic=envelope.event_type,
            state=entry.body,
            id=entry.revision,
            stream=entry.stream,
            envelope=envelope,
        )


def _uuid(originator_id: UUID | str) -> UUID:
    return originator_id if isinstance(originator_id, UUID) else UUID(originator_id)
