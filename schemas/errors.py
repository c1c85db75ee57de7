"""Every error Tideline raises, drawn once.

    TidelineError
    ├── RetryableError          try again; nothing is lost meanwhile
    │   ├── SinkUnavailable     ClickHouse does not answer, or asks us to slow down
    │   ├── BrokerUnavailable   Kafka does not answer
    │   ├── ModelsUnavailable   the object store of models does not answer
    │   └── ClockWrong          this machine's clock can't be right: no step is taken by it
    ├── RejectError             one record is bad: it becomes a dead letter, the stream goes on
    └── FatalError              stop and say why; nothing is committed past this point
        ├── SettingsError       a setting is wrong or missing (all problems in one message)
        ├── SinkRefused         ClickHouse understood and said no: schema or rights
        ├── StateError          a checkpoint or journal can't be read, or contradicts itself
        ├── DefinitionsError    a file of segments, or an expression in it, is wrong
        ├── ArtifactError       a model artifact is missing, altered or made for other features
        └── LocalStackError     a local broker or database did not start

Every message ends with what the operator should do.
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "BrokerUnavailable",
    "ClockWrong",
    "DefinitionsError",
    "FatalError",
    "LocalStackError",
    "ModelsUnavailable",
    "RejectError",
    "RetryableError",
    "SettingsError",
    "SinkRefused",
    "SinkUnavailable",
    "StateError",
    "TidelineError",
]


class TidelineError(Exception):
    """Root of the tree; catch it at the outermost edge only."""


class RetryableError(TidelineError):
    """The same call may succeed later. Callers retry with backoff and keep their input."""


class SinkUnavailable(RetryableError):
    """ClickHouse does not answer. The worker waits with paused partitions; check the server."""


class BrokerUnavailable(RetryableError):
    """Kafka does not answer. Check `broker_url` and that the broker is up."""


class ModelsUnavailable(RetryableError):
    """The object store of models does not answer, or refuses us. Check it and the credentials."""


class ClockWrong(RetryableError):
    """The worker's clock differs from the broker's, or has jumped. Set it; the worker goes on."""


class RejectError(TidelineError):
    """One record can't be used; it goes to the dead letters with this message as the reason."""


class FatalError(TidelineError):
    """The process stops with this message. Fix the cause and start it again; nothing is lost."""


class SettingsError(FatalError):
    """One or more settings are wrong; the message lists every one, with its origin."""


class SinkRefused(FatalError):
    """ClickHouse refused for good. Run `tideline migrate`, or check the user's grants."""


class StateError(FatalError):
    """Recovery met state that it can't trust. The message names the topic and offset."""


class DefinitionsError(FatalError):
    """Segments, audiences or rules can't be used; the message lists every problem, with its place.

    What was in force before stays in force.
    """


class ArtifactError(FatalError):
    """A model artifact can't be trusted or used. Retrain, or restore the shipped one."""


class LocalStackError(FatalError):
    """A local server did not start. The message carries the end of its log."""
