"""The file of destinations: what it may say, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import SettingsError
from streams.deliver.destinations import Destination, load_destinations, read_destinations

SECRETS = {
    "CRM": "c" * 16,
    "BEFORE": "b" * 16,
    "SHORT": "short",
    "BLANK": "has a blank in its midst",
}
GOOD = """
[destinations.crm]
format = "webhook"
url = "https://crm.example/hook?x=1"
secret_env = "CRM"
previous_secret_env = "BEFORE"
audiences = ["save_now"]
batch = 7

[destinations.mail]
format = "klaviyo"
secret_env = "CRM"
audiences = ["*"]
lists = {save_now = "VRgFBd"}

[destinations.push]
format = "braze"
url = "https://rest.iad-01.braze.com/"
secret_env = "CRM"
audiences = ["*"]
create_profiles = true
"""


def read(text: str) -> tuple[Destination, ...]:
    return read_destinations(text.encode(), "d.toml", SECRETS)


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(text)
    return [line.strip() for line in str(caught.value).splitlines()]


def table(**lines: Any) -> str:
    usual = {"format": '"webhook"', "url": '"https://crm.example/"', "secret_env": '"CRM"',
             "audiences": '["*"]'}  # fmt: skip
    both = {**usual, **lines}
    return "[destinations.crm]\n" + "\n".join(f"{k} = {v}" for k, v in both.items() if v)


def test_a_good_file_is_read_with_its_defaults() -> None:
    crm, mail, push = read(GOOD)
    assert (crm.url, crm.batch) == ("https://crm.example/hook?x=1", 7)
    assert [secret.reveal() for secret in crm.secrets] == ["c" * 16, "b" * 16]
    assert (crm.takes("save_now"), crm.takes("win_back")) == (True, False)
    assert (mail.url, mail.lists) == ("https://a.klaviyo.com", {"save_now": "VRgFBd"})
    assert mail.takes("anything")
    assert (push.url, push.create_profiles) == ("https://rest.iad-01.braze.com", True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = [", "is no TOML that can be used"),
        ("", "there is no table such as [destinations.crm]"),
        ("[destination.crm]", "destination: expected only tables such as [destinations.crm]"),
        ("[destinations]\ncrm = 3", "[destinations.crm]: expected a table"),
        ("[destinations.CRM]\nformat = 'webhook'", "a name is a small letter"),
        (table(format='"mail"'), "format: expected one of webhook, klaviyo, braze"),
        (table(secret='"x"'), "secret: there is no such key; a secret is not in this file"),
        (table(secret_env=None), "secret_env: missing: name the environment variable"),
        (table(secret_env='"GONE"'), "the environment variable GONE is not set"),
        (table(secret_env='"TIDELINE_CRM"'), "names with TIDELINE_ are settings"),
        (table(secret_env='"SHORT"'), "the secret needs at least 16 characters"),
        (table(secret_env='"BLANK"'), "none of them blank"),
        (table(secret_file='"/x"'), "set together with secret_file; set only one"),
        (table(secret_env=None, secret_file='"/no/such"'), "/no/such can't be read: No such file"),
        (table(url=None), "url: missing"),
        (table(url='"crm.example"'), "url: expected https://host/path"),
        (table(url='"ftp://crm.example"'), "url: expected https://host/path"),
        (table(url='"https://a:99999/"'), "url: expected https://host/path"),
        (table(url='"https://ann:pw@crm.example/"'), "a login or a fragment is not allowed"),
        (table(url='"http://crm.example/"'), "use https, or say allow_http = true"),
        (table(url='"http://127.0.0.1.crm.example/"'), "use https, or say allow_http = true"),
        (table(format='"braze"', url='"https://x/users"'), "expected only https://host"),
        (table(audiences=None), 'audiences: missing: a list of names, or ["*"]'),
        (table(audiences="[]"), 'audiences: expected a list of names, or ["*"]'),
        (table(audiences='["*", "a"]'), 'audiences: expected a list of names, or ["*"]'),
        (table(audiences="[3]"), 'audiences: expected a list of names, or ["*"]'),
        (table(batch="true"), "batch: expected a whole number"),
        (table(batch="0"), "batch: expected a whole number from 1 to 1,000"),
        (table(timeout_seconds="1e9"), "timeout_seconds: expected a number from 0.1 to 300"),
        (table(timeout_seconds='"10"'), "timeout_seconds: expected a number"),
        (table(lists="{a = 'L'}"), "lists: format webhook does not have it; klaviyo do"),
        (table(format='"klaviyo"', lists="{a = 'L/..'}"), "lists.a: expected the id of a list"),
        (table(format='"klaviyo"', revision="'new'"), "revision: expected a date such as"),
        (table(format='"braze"', attribute="'a.b'"), "attribute: expected letters"),
        (table(ca_file="'/no/such'"), "ca_file: /no/such can't be used: No such file"),
        (table(retries="3"), "retries: there is no such key; see docs/audiences.md"),
    ],
)  # fmt: skip
def test_a_file_of_mistakes_names_each_with_its_place(text: str, told: str) -> None:
    assert any(told in line for line in problems(text)), problems(text)


def test_the_documented_file_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "audiences.md").read_text()
    text = page.split("```text\n")[1].split("```")[0].replace("secret_file", "secret_env")
    secrets = ("CRM_SECRET", "CRM_SECRET_BEFORE", "BRAZE_KEY", "/run/secrets/klaviyo")
    found = read_destinations(text.encode(), "d.toml", dict.fromkeys(secrets, "s" * 16))
    assert [each.format for each in found] == ["webhook", "klaviyo", "braze"]
    assert len(found[0].secrets) == 2


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(table(url=None, batch="0") + "\n[destinations.other]\nformat = 'x'")
    assert len([line for line in found if line.startswith("[destinations.")]) == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/x", "http://localhost/", "http://[::1]:1/"])
def test_http_is_fine_on_loopback(url: str) -> None:
    assert read(table(url=f'"{url}"'))[0].url == url
    assert read(table(url='"http://10.0.0.7/"', allow_http="true"))


def test_no_secret_is_shown_by_a_destination_or_an_error(tmp_path: Path) -> None:
    assert "cccc" not in repr(read(GOOD))
    secret = tmp_path / "secret"
    secret.write_text("sesame-is-secret")
    text = table(secret_env=None, secret_file=f'"{secret}"', previous_secret_env='"CRM"')
    (crm,) = read(text)
    assert [each.reveal() for each in crm.secrets] == ["sesame-is-secret", "c" * 16]
    secret.write_text("sesame short")
    assert "sesame" not in "".join(problems(text))


def test_a_file_that_is_not_named_or_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DESTINATIONS_FILE is not set"):
        load_destinations("", {})
    with pytest.raises(SettingsError, match="can't be read: No such file"):
        load_destinations(str(tmp_path / "none"), {})
    file = tmp_path / "d.toml"
    file.write_text(GOOD)
    assert len(load_destinations(str(file), SECRETS)) == 3
    file.write_bytes(b"\xff\xfe" + b"x" * 300_000)
    with pytest.raises(SettingsError, match="more than 262,144 bytes"):
        load_destinations(str(file), SECRETS)
