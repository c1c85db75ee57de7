"""What an operator does to start a shard's state over, and what becomes of its results then."""

from __future__ import annotations

__all__ = ["start_over"]


def start_over(*topics: str) -> str:
    """The way to state that is made from the input topics alone, in words that end a message; the
    `topics` hold the state that goes.

    >>> start_over("app-checkpoints", "app-journal").split(".")[0]
    'stop all workers, delete app-checkpoints and app-journal, run `tideline topics --create`'
    """
    return (
        f"stop all workers, delete {' and '.join(topics)}, run `tideline topics --create`. Every "
        "shard then begins a new life with what the input topics still hold: scores_live and the "
        "other views show that alone from its first batch on, and rows of before stay in "
        "score_history and alert_history. The database stays the same."
    )
