"""The factory that `PERSISTENCE_MODULE=eventlog.recorder.factory` names.

`settings.py` lists its environment. Its recorders share one connection, which is opened for the
first of them and closed with the factory.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    Mapper,
    ProcessRecorder,
    TrackingRecorder,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType

from eventlog.recorder.aggregate_recorder import JetStreamAggregateRecorder
from eventlog.recorder.application_recorder import JetStreamApplicationRecorder
from eventlog.recorder.errors import (
    Misconfigured,
    ProcessRecorderNotOffered,
    RecorderClosed,
    SnapshotsNotOffered,
    TrackingNotOffered,
)
from eventlog.recorder.foreign_stream import EVENTS, ForeignSubjects, OriginatorIds
from eventlog.recorder.session import Session
from eventlog.recorder.settings import read_settings
from eventlog.recorder.workspace_keys import SealOpener
from eventlog.recorder.workspace_recorder import KosekiMapper, WorkspaceRecorder


class JetStreamFactory(InfrastructureFactory[TrackingRecorder]):
    """Make the recorders of an application, or those that read a workspace's log."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._settings = read_settings(self.env)
        self._ids = OriginatorIds(has_text=self._settings.has_text_ids)
        self._lock = Lock()
        self._session: Session | None = None
        self._is_closed = False
        self._seal_opener = SealOpener(
            self._open,
            workspace=self._settings.workspace,
            source=self._settings.workspace_key,
            replicas=self._settings.replicas,
        )

    def mapper(
        self,
        transcoder: Transcoder | None = None,
        mapper_class: type[Mapper[Any]] | None = None,  # Any: UUID or str, as the application wants
    ) -> Mapper[Any]:
        """Make the library's own mapper, or on a workspace's log Koseki's."""
        if self._settings.workspace:
            return KosekiMapper(transcoder, sealing=self._seal_opener)
        return super().mapper(transcoder, mapper_class)

    def aggregate_recorder(self, purpose: str = EVENTS) -> AggregateRecorder:
        """Make a recorder of events, or of snapshots, which has a stream of its own."""
        if self._settings.workspace:
            if purpose != EVENTS:
                raise SnapshotsNotOffered
            return self._workspace_recorder()
        return JetStreamAggregateRecorder(
            self._open(),
            self._subjects(purpose),
            self._ids,
            allows_gaps=purpose != EVENTS,
            replicas=self._settings.replicas,
        )

    def application_recorder(self) -> ApplicationRecorder:
        """Make the recorder of the application's own log, or of the workspace's."""
        if self._settings.workspace:
            return self._workspace_recorder()
        return JetStreamApplicationRecorder(
            self._open(),
            self._subjects(EVENTS),
            self._ids,
            allows_gaps=False,
            replicas=self._settings.replicas,
        )

    def tracking_recorder(
        self,
        tracking_recorder_class: type[TrackingRecorder] | None = None,  # noqa: ARG002  # the library's
    ) -> TrackingRecorder:
        """Refuse: see `TrackingNotOffered`."""
        raise TrackingNotOffered

    def process_recorder(self) -> ProcessRecorder:
        """Refuse: see `ProcessRecorderNotOffered`."""
        raise ProcessRecorderNotOffered

    def close(self) -> None:
        """Stop the subscriptions and close the connection; the recorders are of no use after."""
        with self._lock:
            self._is_closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _workspace_recorder(self) -> WorkspaceRecorder:
        return WorkspaceRecorder(self._open(), self._settings.workspace)

    def _subjects(self, purpose: str) -> ForeignSubjects:
        try:
            return ForeignSubjects(self._settings.application, purpose)
        except ValueError as error:
            raise Misconfigured(str(error)) from None

    def _open(self) -> Session:
        with self._lock:
            if self._is_closed:
                raise RecorderClosed
            if self._session is None:
                self._session = Session(self._settings)
            return self._session
