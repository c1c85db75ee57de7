"""The helper the drills wait with."""

from __future__ import annotations

import asyncio

from tests.awaiting import awaited


class _Costly:
    texts = 0

    def __repr__(self) -> str:
        self.texts += 1
        return "costly"


def test_no_text_is_made_of_the_result() -> None:
    costly = _Costly()

    async def give() -> _Costly:
        return costly

    assert awaited(give()) is costly
    assert costly.texts == 0


def test_asyncio_run_makes_one() -> None:
    """When this fails, `awaited` is no longer needed."""
    costly = _Costly()

    async def give() -> _Costly:
        return costly

    asyncio.run(give())
    assert costly.texts > 0
