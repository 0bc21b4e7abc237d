"""What every process of Ray reads when it starts: set it before Ray is imported."""

from __future__ import annotations

CALL_BYTES_INLINE_MAX = 4 * 1024 * 1024
"""As large as a request of gRPC: a batch for a host travels in the call itself. At Ray's own limit,
100 KB, a request of 500 signals takes the way over the object store, twice the work for both ends.
"""

RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_enable_timeline": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_max_direct_call_object_size": str(CALL_BYTES_INLINE_MAX),
}
