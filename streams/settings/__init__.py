"""Settings: what others use of them. `sections` names every one, `load` reads them."""

from streams.settings.load import (
    SettingRow,
    allowed_of,
    as_environ,
    as_given,
    describe,
    load,
    override,
    secret_files,
)
from streams.settings.reader import Secret
from streams.settings.sections import (
    SECTIONS,
    AlertSettings,
    ClickHouseSettings,
    HealthSettings,
    KafkaSettings,
    LagSettings,
    LogSettings,
    ModelSettings,
    PrivacySettings,
    Settings,
    StreamSettings,
    TraceSettings,
    WebSettings,
)

__all__ = [
    "SECTIONS",
    "AlertSettings",
    "ClickHouseSettings",
    "HealthSettings",
    "KafkaSettings",
    "LagSettings",
    "LogSettings",
    "ModelSettings",
    "PrivacySettings",
    "Secret",
    "SettingRow",
    "Settings",
    "StreamSettings",
    "TraceSettings",
    "WebSettings",
    "allowed_of",
    "as_environ",
    "as_given",
    "describe",
    "load",
    "override",
    "secret_files",
]
