"""`tideline skew`: are live scores what the log says they must be?"""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schemas.lives import position_of
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from streams.evaluation.skew import Sample, Skew
    from streams.settings import Settings

__all__ = ["skew"]


@click.command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory that keeps the recomputed state, so that the next run goes on from there.",
)
@json_option
@pass_invocation
@click.pass_context
def skew(ctx: click.Context, invocation: Invocation, keep: Path | None, as_json: bool) -> None:
    """Recompute sampled live scores from the log; any difference is an error.

    Workers log a sample of scores with their features (TIDELINE_MODEL_SCORE_SAMPLE_SHARE, table
    score_samples). This reads the input topics again, by the journal's steps, and computes the same
    features and scores. They must agree to the last bit.

    Kafka keeps the journal for a week. Run this daily with --keep, and it goes on where the last
    run ended; without it, on an older journal, only what came after the newest checkpoint can be
    checked. Use the settings that the workers run with: other rules give other features.

    Exit status: 0 no difference; 1 some, or nothing to compare (with --keep, nothing new is fine).
    """
    from rich.console import Console
    from rich.progress import Progress

    settings = invocation.start_logging()
    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("recompute", total=settings.kafka.partitions)
        found = asyncio.run(_check(settings, keep, lambda done: bars.update(task, completed=done)))
    if as_json:
        print_json(asdict(found))
    else:
        _tell(found)
    nothing = not found.checked and (keep is None or not found.sampled)
    if found.mismatched or nothing:
        ctx.exit(1)


async def _check(settings: Settings, keep: Path | None, progress: Callable[[float], None]) -> Skew:
    from models.registry import ScorerStore, artifact_place
    from streams.evaluation.skew import Skew, check_shard
    from streams.kafka.access import kafka_access
    from streams.kafka.log import KafkaLog
    from streams.privacy.pseudonyms import pseudonyms
    from streams.shard.config import core_config

    samples = _samples(settings)
    scorers = ScorerStore(artifact_place(settings.model.artifact), settings.stream.currency)
    log = KafkaLog(kafka_access(settings))
    key = pseudonyms(settings)
    found = Skew()
    await log.start()
    try:
        for shard in range(settings.kafka.partitions):

            def shown(done: float, before: int = shard) -> None:
                progress(before + done)

            found += await check_shard(
                log, settings.topic_names, shard, samples[shard], core_config(settings),
                scorers.get, keep=keep, name_of=key.user if key else str, progress=shown,
            )  # fmt: skip
            progress(shard + 1)
    finally:
        await log.stop()
    return found


def _samples(settings: Settings) -> dict[int, list[Sample]]:
    """Every sample there is, by shard."""
    import numpy as np

    from streams.clickhouse.client import clickhouse_target, connect
    from streams.clickhouse.errors import sink_error
    from streams.evaluation.skew import Sample

    target = clickhouse_target(settings)
    query = (
        "SELECT shard, seq, user_id, toUnixTimestamp64Milli(scored_at), p_churn, p_champion, "
        "p_learner, expected_spend, features, features_hash FROM score_samples FINAL"
    )
    client = connect(target)
    try:
        rows = client.execute(query)
    except Exception as error:
        raise sink_error(error, "reading score_samples", target) from error
    finally:
        client.disconnect()
    found: defaultdict[int, list[Sample]] = defaultdict(list)
    for shard, seq, user, at, *scores, x, features_hash in rows:
        sample = Sample(
            seq, user, at, np.array(scores, np.float32), np.array(x, np.float32), features_hash
        )
        found[shard].append(sample)
    return found


def _tell(found: Skew) -> None:
    if found.by_column:
        print_table(
            ("column", "samples that differ"),
            [(name, f"{n:,}") for name, n in found.by_column.most_common()],
        )
        print_table(
            ("shard", "step", "user", "column", "live", "from the log"),
            [
                (
                    str(d.shard),
                    str(position_of(d.seq)),
                    d.user_id,
                    d.column,
                    f"{d.live!r}",
                    f"{d.offline!r}",
                )
                for d in found.examples
            ],
        )
    for why, n in found.unchecked.items():
        click.echo(f"{n:,} samples are not checked: {why}.")
    if not found.sampled:
        click.echo(
            "There are no samples. Workers log them if TIDELINE_MODEL_SCORE_SAMPLE_SHARE is "
            "above 0."
        )
    click.echo(
        f"{found.checked:,} of {found.sampled:,} sampled scores recomputed, "
        f"{found.mismatched:,} differ."
    )
