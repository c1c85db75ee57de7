"""The error tree as the shell imports it; it is drawn in `schemas/errors.py`, where `models` and
`streams.core` can reach it too."""

from schemas.errors import (
    ArtifactError,
    BrokerUnavailable,
    FatalError,
    LocalStackError,
    RejectError,
    RetryableError,
    SettingsError,
    SinkRefused,
    SinkUnavailable,
    StateError,
    TidelineError,
)

__all__ = [
    "ArtifactError",
    "BrokerUnavailable",
    "FatalError",
    "LocalStackError",
    "RejectError",
    "RetryableError",
    "SettingsError",
    "SinkRefused",
    "SinkUnavailable",
    "StateError",
    "TidelineError",
]
