"""The file of tokens: mistakes are named, hashes are all it holds, and dates end."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas.errors import SettingsError
from streams.cli import tideline
from streams.console.access import Token, by_token, token_hash
from streams.console.tokens import read_tokens

GOOD = f'sha256 = "{token_hash("secret")}"\nroles = ["sre"]\n'


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_token_is_known_by_its_hash_until_its_date(tmp_path: Path) -> None:
    file = written(tmp_path / "t.toml", f"[tokens.ann]\n{GOOD}expires = 2026-11-30\n")
    (token,) = read_tokens(file)
    assert token.roles == {"sre"}
    end_ms = 1_796_083_200_000  # 2026-12-01 00:00 UTC
    assert by_token("secret", [token], end_ms - 1) == token
    assert by_token("secret", [token], end_ms) is None
    assert by_token("Secret", [token], 0) is None
    assert "secret" not in repr(token)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nobody could come in"),
        ("[tokens]", "nobody could come in"),
        ("[token.ann]\n" + GOOD, "there is [tokens.NAME]"),
        ('[tokens.ann]\nsha256 = "abc"\nroles = ["sre"]', "64 hex digits"),
        (f'[tokens.ann]\nsha256 = "{"a" * 64}"\nroles = ["root"]', "expected a list of marketing"),
        (f'[tokens.ann]\nsha256 = "{"a" * 64}"\nroles = []', "expected a list of marketing"),
        (f'[tokens.ann]\nsha256 = "{"a" * 64}"\nroles = "sre"', "expected a list of marketing"),
        (f'[tokens.ann]\ntoken = "secret"\n{GOOD}', "holds a token itself"),
        (f"[tokens.ann]\n{GOOD}expires = 7", "expected a date"),
        (f"[tokens.ann]\n{GOOD}rights = 1", "no such key: rights"),
        ("tokens = 3", "nobody could come in"),
        ("[", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_tokens(written(tmp_path / "t.toml", text))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value).replace("TIDELINE", "")


def test_the_command_makes_an_entry_and_shows_the_token_once(tmp_path: Path) -> None:
    answer = CliRunner().invoke(
        tideline, ["console", "token", 'ann "the" boss', "--role", "sre", "--role", "marketing"]
    )
    assert answer.exit_code == 0, answer.output
    token = next(word for word in answer.stderr.split() if word.startswith("tl_"))
    assert token not in answer.stdout
    assert len(token) > 40
    (entry,) = read_tokens(written(tmp_path / "t.toml", answer.stdout))
    assert entry == Token('ann "the" boss', token_hash(token), frozenset({"sre", "marketing"}))
