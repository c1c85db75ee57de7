"""One champion, trained once on made-up users, for every test of `models`."""

from __future__ import annotations

import pytest

from models.artifact import load_artifact
from models.champion import Champion
from models.manifest import Eligibility
from models.training.train import Summary, train
from tests.models.synthetic import HORIZON_DAYS, dataset


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return train(
        dataset(),
        root=tmp_path_factory.mktemp("artifacts"),
        date="2026-11-22",
        horizon_days=HORIZON_DAYS,
        eligibility=Eligibility(min_orders=2, active_within_days=90),
        source="made-up users",
        threads=1,
    )


@pytest.fixture(scope="session")
def champion(trained: Summary) -> Champion:
    return load_artifact(trained.path)
