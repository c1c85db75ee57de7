"""The whole trainer on real examples: trains, waits, judges, promotes, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from clickhouse_driver import Client

from models.artifact import CARD_FILE, current_version, load_artifact, ship
from models.champion import LONG, LONG_FILE
from models.manifest import Eligibility
from models.places import LocalPlace
from schemas.errors import SettingsError
from schemas.features import FEATURE_NAMES
from streams.cli import tideline
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.core.features import DAY_MS
from streams.settings import Settings, as_environ, override
from streams.trainer.app import run_once
from streams.trainer.plan import Current, Judge, Train
from streams.trainer.training import LiveLabels
from tests.models.s3 import shipped_version
from tests.models.test_long import shop, trained
from tests.trainer.shop import HORIZON_DAYS, T0_DAY, begin, examples, fill, settings_of

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(600)]


def shown(target: ClickHouseTarget, columns: str) -> list[tuple[object, ...]]:
    with connect(target) as client:
        found: list[tuple[object, ...]] = _asked(client, columns)
    return found


def _asked(client: Client, columns: str) -> list[tuple[object, ...]]:
    return list(client.execute(f"SELECT {columns} FROM challengers"))


def test_it_trains_on_what_was_known_and_promotes_by_what_came_later(
    target: ClickHouseTarget, tmp_path: Path
) -> None:
    settings = settings_of(target, str(tmp_path))
    shipped = begin(LocalPlace(tmp_path))
    fill(target, examples(4_000, 0, 122))
    assert run_once(settings) == [Train((T0_DAY + 150) * DAY_MS, "schedule")]
    assert current_version(tmp_path) == shipped
    ((version, state, champion),) = shown(target, "version, state, champion_version")
    assert (state, champion) == ("waiting", shipped)
    assert isinstance(version, str)

    fill(target, examples(600, 123, 137, seed=1))
    (judged,) = run_once(settings)
    assert judged == Judge(judged.challenger, (T0_DAY + 150) * DAY_MS, (T0_DAY + 165) * DAY_MS)  # type: ignore[union-attr]
    assert current_version(tmp_path) == version
    trained = load_artifact(tmp_path / version)
    assert trained.has_outlook
    assert trained.manifest.training["labels_until_ms"] == (T0_DAY + 150) * DAY_MS
    assert "2,000 of them drawn" in (tmp_path / version / CARD_FILE).read_text()
    assert trained.manifest.importances[FEATURE_NAMES.index("orders_30d")] > 0
    ((state, rows, before, after),) = shown(
        target, "state, judged_rows, log_loss_champion, log_loss_challenger"
    )
    assert (state, rows) == ("promoted", 600)
    assert isinstance(before, float)
    assert isinstance(after, float)
    assert after < before
    assert run_once(settings) == []


def test_a_challenger_keeps_the_champions_value_within_a_year(
    target: ClickHouseTarget, tmp_path: Path
) -> None:
    """Examples know one horizon. Without it, no challenger could follow such a champion."""
    champion = trained(shop((365, 182, 91)), tmp_path)[1]
    outputs = frozenset({"p_churn", "spend", "p_buy_7d", "p_buy_30d", *LONG})
    current = Current(champion.version, HORIZON_DAYS, 0, outputs)
    fill(target, examples(2_400, 0, 122))
    labels = LiveLabels(target, Eligibility(2, 90), rows=2_000, threads=1)
    version = labels.train(LocalPlace(tmp_path), current, (T0_DAY + 150) * DAY_MS, "schedule")
    challenger = load_artifact(tmp_path / version)
    assert challenger.files[LONG_FILE] == champion.files[LONG_FILE]
    assert challenger.manifest.long_horizon == champion.manifest.long_horizon
    assert f"taken over from {champion.version}" in (tmp_path / version / CARD_FILE).read_text()


def test_too_few_examples_are_said_and_change_nothing(
    target: ClickHouseTarget, tmp_path: Path
) -> None:
    settings = settings_of(target, str(tmp_path))
    begin(LocalPlace(tmp_path))
    fill(target, examples(1_500, 110, 122))
    assert [type(action) for action in run_once(settings)] == [Train]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [shipped_version()]
    with connect(target) as client:
        ((event, why),) = client.execute("SELECT event, why FROM trainer_log")
    assert event == "too_few"
    assert "no label of p_buy_30d, p_buy_7d is known yet" in why


def test_it_needs_a_directory_of_models_to_promote_in(tmp_path: Path) -> None:
    for named in ("", str(tmp_path)):
        with pytest.raises(SettingsError, match="tideline models init"):
            run_once(override(Settings(), model_artifact=named))


class TestCommands:
    def run(self, settings: Settings, *words: str) -> str:
        environ = {k: v for k, v in as_environ(settings).items() if k.startswith("TIDELINE_")}
        result = CliRunner().invoke(tideline, [*words], env=environ, prog_name="tideline")
        assert result.exit_code == 0, result.output
        return result.output

    def test_init_makes_a_directory_of_models_once(self, tmp_path: Path) -> None:
        settings = override(Settings(), model_artifact=str(tmp_path / "new"))
        assert "is current in" in self.run(settings, "models", "init")
        assert current_version(tmp_path / "new") == shipped_version()
        assert "nothing was changed" in self.run(settings, "models", "init")

    @pytest.mark.parametrize("one", [True, False], ids=["one model", "no directory"])
    def test_init_refuses_what_is_no_directory_of_models(self, tmp_path: Path, one: bool) -> None:
        ship(LocalPlace(tmp_path))
        named = str(tmp_path / shipped_version()) if one else ""
        environ = {"TIDELINE_MODEL_ARTIFACT": named}
        words = ["models", "init"]
        result = CliRunner().invoke(tideline, words, env=environ, prog_name="tideline")
        assert result.exit_code == 2
        assert "TIDELINE_MODEL_ARTIFACT" in result.output

    def test_once_does_what_is_due_and_ends(self, target: ClickHouseTarget, tmp_path: Path) -> None:
        settings = settings_of(target, str(tmp_path))
        self.run(settings, "models", "init")
        assert "Nothing is due" in self.run(settings, "trainer", "--once")
