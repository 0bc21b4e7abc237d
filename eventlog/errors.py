"""What reading from a log can fail with. Appends do not raise: they answer with an outcome.

LogError
├── LogUnavailable   the server cannot be reached, or does not answer in time: try again
│   ├── WorkspaceKeyMissing   data keys cannot be opened: someone must give the workspace key
│   └── ClockDiffers   this process's clock is not the server's: nothing is dated by it (R15)
├── LogDamaged       what was read breaks the chain, a version or the shape: stop (R3, R10)
└── UnsafeStream     the stream's settings could lose events: start-up refuses, saying why
"""

from __future__ import annotations


class LogError(Exception):
    """Carry a stable reason and a message without personal data."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class LogUnavailable(LogError):
    """The server cannot be reached, or does not answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__("LOG_UNAVAILABLE", message)


class WorkspaceKeyMissing(LogUnavailable):
    """Data keys cannot be opened with the workspace key that was given; it is nobody's fault."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = "WORKSPACE_KEY_MISSING"


class ClockDiffers(LogUnavailable):
    """This process's clock is too far from the server's to date what is stored."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = "CLOCK_DIFFERS"


class LogDamaged(LogError):
    """What was read breaks the chain, a version or the shape."""

    def __init__(self, message: str) -> None:
        super().__init__("LOG_DAMAGED", message)


class UnsafeStream(LogError):
    """The stream's settings could lose events."""

    def __init__(self, message: str) -> None:
        super().__init__("UNSAFE_STREAM", message)
