"""What leaves under a key: the same rows, with names that only the key explains."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import AlertMessage, DeadLetter
from schemas.tables import TABLES
from streams.cli import tideline
from streams.clickhouse.blocks import Block
from streams.core.hashing import stable_id
from streams.core.ledger import Counts
from streams.core.step import Outputs
from streams.core.texts import Coded
from streams.privacy.pseudonyms import CONCEALED, Pseudonyms, pseudonyms
from streams.settings import Secret, Settings, load

KEY = "0123456789abcdef0123456789abcdef"
KNOWN = Pseudonyms(Secret(KEY))


@given(st.text(min_size=1))
def test_a_pseudonym_is_what_the_formula_says(user: str) -> None:
    user = user.encode("utf-8", "replace").decode()
    digest = hmac.new(KEY.encode(), user.encode(), hashlib.sha256).hexdigest()[:32]
    key_id = hashlib.sha256(b"tideline pseudonym key\0" + KEY.encode()).hexdigest()[:8]
    assert KNOWN.user(user) == f"{key_id}.{digest}"


def test_another_key_has_another_id_and_other_pseudonyms() -> None:
    other = Pseudonyms(Secret(KEY[::-1]))
    assert other.key_id != KNOWN.key_id
    assert other.user("u1").split(".")[1] != KNOWN.user("u1").split(".")[1]
    assert KEY not in repr(KNOWN)


def test_every_column_that_could_name_somebody_is_concealed() -> None:
    # means over customers, models, words of them, and the lag monitor's records
    # what owners define; what the console writes has the ids that it read in results
    about_nobody = {
        "model_drift", "trainer_log", "canaries", "definitions_taken", "console_actions"
    }  # fmt: skip
    # a campaign's, a version, what a shop has read in results, where it is keyed, and what it sells
    of_everybody = {"salt", "definitions", "named_alert_id", "item_id", "category"}
    suspects = {
        name
        for table in TABLES.values()
        if table.name not in about_nobody
        for name, kind in table.columns.items()
        if name.endswith("_id") or "user_id" in name or kind == "String"
    }
    assert suspects - of_everybody <= set(CONCEALED), suspects - set(CONCEALED)


def outputs(users: Any) -> Outputs:
    alert = AlertMessage(stable_id("u1", "churn", 1), "u1", "open", "", 0.5, 1.0, 0.5, 28, [], "",
                         "treat")  # fmt: skip
    letter = DeadLetter("t", 0, 5, "late", "u1 was late", 0, b"u1", b'{"user_id":"u1"}', 16)
    tables = {
        "score_history": {"user_id": users, "seq": np.array([1, 2], np.uint64)},
        "alerts": {"alert_id": [alert.alert_id], "user_id": ["u1"], "episode": [1]},
        "segment_changes": {"change_id": ["c1"], "user_id": np.array(["u1"], object)},
        "dead_letters": {"record_key": ["u1"], "payload": ["u1"], "detail": ["u1 was late"],
                         "reason": ["late"]},
    }  # fmt: skip
    return Outputs(tables, [alert], [], [letter], Counts(0, 0, 0, 0, 0, 0, 0), 0)


@pytest.mark.parametrize(
    "users",
    [["u1", "u2"], [b"u1", b"u2"], np.array(["u1", "u2"], object), np.array(["u1", "u2"]),
     Coded(np.array([0, 1]), ["u1", "u2"])],
    ids=["list", "bytes", "object", "U", "coded"],
)  # fmt: skip
def test_every_way_out_is_covered_and_the_rest_is_untouched(users: Any) -> None:
    before = outputs(users)
    after = KNOWN.outgoing(before)
    scores = after.tables["score_history"]["user_id"]
    names = list(scores.names) if isinstance(scores, Coded) else scores
    assert names == [KNOWN.user("u1"), KNOWN.user("u2")]
    assert "u1" not in str(after.tables["alerts"]) + str(after.tables["segment_changes"])
    assert after.tables["dead_letters"] == {
        "record_key": [KNOWN.user("u1")], "payload": [""], "detail": [""], "reason": ["late"]
    }  # fmt: skip
    assert after.alerts[0].user_id == KNOWN.user("u1")
    # Who guesses a user id could compute the unkeyed alert id, so it may not stay.
    assert after.alerts[0].alert_id != before.alerts[0].alert_id
    assert after.alerts[0].alert_id == after.tables["alerts"]["alert_id"][0]
    assert after.tables["score_history"]["seq"] is before.tables["score_history"]["seq"]
    assert after.dead_letters is before.dead_letters
    assert KNOWN.outgoing(before).alerts == after.alerts  # a replay gives the same
    columns: dict[str, Any] = {name: [0, 0] for name in TABLES["score_history"].columns}
    packed = Block(TABLES["score_history"], [columns | {"user_id": scores}])
    assert KNOWN.user("u1").encode() in packed.packed("user_id", "String")


def test_off_by_default_and_a_short_key_is_refused() -> None:
    assert pseudonyms(Settings()) is None
    assert pseudonyms(load({"TIDELINE_PRIVACY_PSEUDONYM_KEY": KEY})) is not None
    with pytest.raises(Exception, match=r"TIDELINE_PRIVACY_PSEUDONYM_KEY.*32 characters") as caught:
        load({"TIDELINE_PRIVACY_PSEUDONYM_KEY": "sesame-short"})
    assert "sesame" not in str(caught.value)


def test_who_has_the_key_can_tell_who_is_who() -> None:
    done = CliRunner().invoke(
        tideline,
        ["pseudonyms"],
        input='u1\n\n"u, 2"\n',
        env={"TIDELINE_PRIVACY_PSEUDONYM_KEY": KEY},
    )
    quoted = KNOWN.user('"u, 2"')
    assert done.stdout.splitlines() == [
        "user_id,pseudonym",
        f"u1,{KNOWN.user('u1')}",
        f'"""u, 2""",{quoted}',
    ]
    without = CliRunner().invoke(tideline, ["pseudonyms"], input="u1\n", prog_name="tideline")
    assert without.exit_code == 2
    assert "TIDELINE_PRIVACY_PSEUDONYM_KEY" in without.output
