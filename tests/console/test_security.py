"""What the console refuses, and what it never shows, whoever asks and whatever events hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import quote

import pytest

from streams.console.access import ACTIONS, PAGES, RIGHTS, ROLES, SCOPES, Proxies
from streams.console.pages import ROUTES
from streams.console.tokens import Tokens
from tests.console.doubles import Served, served
from tests.console.hostile import TEXTS, skeleton
from tests.console.people import A1, everything

PATHS = ("/today", "/today?show=all", "/customers", "/customers/ann", "/settings?section=log")
SHOWN = {route.name for route in ROUTES}


def tokens_of(path: Path, **roles: str) -> Tokens:
    """A file in which everybody's token is their name."""
    entries = [
        f'[tokens.{name}]\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
        f'roles = ["{role}"]\n'
        for name, role in roles.items()
    ]
    path.write_text("\n".join(entries))
    return Tokens(path)


@pytest.fixture
def roles(tmp_path: Path) -> Tokens:
    return tokens_of(tmp_path / "tokens.toml", **{role: role for role in ROLES})


def bearing(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


# -- XSS


@pytest.mark.parametrize("path", PATHS)
def test_no_text_of_an_event_changes_a_page(path: str) -> None:
    """Tags, attributes and where links go are the same, whatever the text."""
    with served(everything("plain")) as console:
        wanted = skeleton(console.get(path).text)
    for text in TEXTS:
        with served(everything(text, user=text if path != "/customers/ann" else "ann")) as console:
            page = console.get(path)
            assert page.status == 200
            assert skeleton(page.text) == wanted, text


def test_no_text_of_an_event_ends_an_event_of_a_stream() -> None:
    for text in TEXTS:
        with served(everything(text)) as console:
            body = stream(console, "/today.live")
            lines = body.decode().split("\n")
            assert lines[0] == "event: page"
            assert all(
                line.startswith(("event: page", "id: ", "data: ")) or not line for line in lines
            )


def test_texts_are_data_in_json_and_no_formula_in_csv() -> None:
    for text in TEXTS:
        with served(everything(text)) as console:
            row = console.get("/today.json").json["tables"]["alerts"]["rows"][0]
            assert row["reasons"] == [text, text]
    with served(everything("=1+1")) as console:
        answer = console.get("/today.csv")
        assert answer.headers["X-Tideline-Quoted-Cells"] != "0"
        assert ",=1+1" not in answer.text
        assert answer.headers["Content-Disposition"].startswith("attachment")


def test_a_hostile_id_is_still_a_link_that_leads_to_its_profile() -> None:
    for text in (*TEXTS, "..", ".", "a/b", "x.json", "x.csv", "ü", "100%", "a?b#c"):
        with served(everything("plain", user=text)) as console:
            page = console.get("/customers").text
            href = page.split('<a href="/customers/')[1].split('"')[0].replace("&#39;", "'")
            console.console.reader.asked.clear()  # type: ignore[attr-defined]
            assert console.get(f"/customers/{href}").status == 200
            asked = [given for _, given in console.console.reader.asked if "user_id" in given]  # type: ignore[attr-defined]
            assert {given["user_id"] for given in asked} == {text}


# -- headers


@pytest.mark.parametrize(
    "path", ["/today", "/static/console.css", "/nothing", "/today?tier=x", "/"]
)
def test_every_answer_has_the_security_headers(path: str) -> None:
    with served(everything("plain")) as console:
        headers = console.get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
        "img-src": "'self' data:", "connect-src": "'self'", "font-src": "'self'",
        "base-uri": "'none'", "form-action": "'self'", "frame-ancestors": "'none'",
    }  # fmt: skip
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_nothing_about_people_is_kept_by_a_browser() -> None:
    with served(everything("plain")) as console:
        for path in (*PATHS, "/today.json", "/today.csv", "/nothing"):
            assert console.get(path).headers["Cache-Control"] == "no-store", path
        css = console.get("/static/console.css?v=other").headers["Cache-Control"]
        assert css == "no-cache"


# -- hosts, sizes, paths


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8380", "127.0.0.1.evil", "", "[", "a@b"]
)
def test_another_name_for_this_address_gets_nothing(host: str) -> None:
    """A page elsewhere could point its own name here, and read what we answer."""
    with served(everything("plain")) as console:
        answer = console.get("/today", {"Host": host})
        assert answer.status in (400, 421)
        assert b"ann" not in answer.body


def test_our_own_names_are_known_with_any_port() -> None:
    with served(everything("plain")) as console:
        for host in ("localhost", "127.0.0.1:1", "LOCALHOST:8380"):
            assert console.get("/today", {"Host": host}).status == 200


def test_too_much_of_anything_is_refused() -> None:
    with served(everything("plain")) as console:
        assert console.get("/today?why=" + "a" * 5_000).status == 414
        assert console.get("/today?" + "&".join("a=1" for _ in range(60))).status == 414
        assert console.get("/today?why=" + "a" * 300).status == 400
        assert console.get("/today", {"X-Long": "a" * 20_000}).status == 400
        assert console.get("/customers/" + "a" * 600).status == 404
        assert console.post("/actions/contacted", {"alert": "a" * 70_000}).status == 413


OUT = """
/static/../access.py /static/%2e%2e/access.py /static/..%2faccess.py /static//etc/passwd /static/
/static/vendor/../../web.py /static/vendor/manifest.json /static/console.css/ /static/%00
/..%2f..%2fetc%2fpasswd /today/../../etc/passwd%00 /templates/base.html
"""


@pytest.mark.parametrize("path", OUT.split())
def test_no_path_leads_out_of_the_static_files_or_pages(path: str) -> None:
    with served(everything("plain")) as console:
        answer = console.get(path)
        assert answer.status == 404
        assert b"import" not in answer.body


# -- who may what


def test_each_role_opens_its_pages_and_no_other(roles: Tokens) -> None:
    with served(everything("plain"), tokens=roles) as console:
        for role in ROLES:
            for page in SHOWN:
                for form in ("", ".json"):
                    status = console.get(f"/{page}{form}", bearing(role)).status
                    # Of some pages there is nothing to show here: they fail, and are not refused.
                    assert (status == 403) == (page not in RIGHTS[role]), (role, page, form)
                    if page in ("today", "customers", "settings") and page in RIGHTS[role]:
                        assert status == 200, (role, page, form)
                if page not in RIGHTS[role]:
                    assert console.get(f"/{page}.live", bearing(role)).status == 403


def test_the_table_of_rights_is_as_security_md_says() -> None:
    """Whoever changes it changes that page, and thinks."""
    rows = {
        "marketing": "today customers models ids contacted export v1:users v1:alerts v1:stream",
        "campaigns": "customers segments campaigns models ids export apply v1:users v1:segments "
        "v1:audiences v1:stream",
        "sre": "today customers segments campaigns models pipeline settings",
        "admin": "today customers segments campaigns models pipeline settings ids contacted export "
        "apply erase v1:users v1:alerts v1:segments v1:audiences v1:stream",
    }
    assert {role: set(rights.split()) for role, rights in rows.items()} == {
        role: set(rights) for role, rights in RIGHTS.items()
    }
    v1 = {f"v1:{scope}" for scope in SCOPES if scope != "ids"}
    assert set(RIGHTS["admin"]) == {*PAGES, *ACTIONS, "ids", *v1}


def test_each_role_does_its_actions_and_no_other(roles: Tokens) -> None:
    forms = {
        "contacted": {"alert": A1, "channel": "call"},
        "erase": {"user_id": "ann", "sure": "yes"},
    }
    for role in ROLES:
        for action, form in forms.items():
            with served(everything("plain"), tokens=roles) as console:
                answer = console.post(f"/actions/{action}", form, bearing(role))
                allowed = action in RIGHTS[role]
                assert answer.status == (200 if allowed else 403), (role, action)
                results = {row[5] for row in console.console.log.keeper.told}  # type: ignore[attr-defined]
                done = {"asked", "done"} if action == "contacted" else {"asked"}
                assert results == (done if allowed else {"asked", "refused"}), (role, action)
                assert bool(console.console.sender.records) == (  # type: ignore[attr-defined]
                    allowed and action == "contacted"
                )
        with served(everything("plain"), tokens=roles) as console:
            if "today" in RIGHTS[role]:
                allowed = "export" in RIGHTS[role]
                assert console.get("/today.csv", bearing(role)).status == (200 if allowed else 403)
                assert [row[2] for row in console.console.log.keeper.told] == ["export"] * 2  # type: ignore[attr-defined]


def test_whoever_may_not_see_ids_sees_none_anywhere(roles: Tokens) -> None:
    secret = "very-secret-id"
    with served(everything("plain", user=secret), tokens=roles) as console:
        sealed = console.console.seal.sealed(secret)
        for path in (
            "/today", "/today.json", "/customers", "/customers.json", "/settings", "/settings.json",
            f"/customers/{sealed}", f"/customers/{sealed}.json",
        ):  # fmt: skip
            answer = console.get(path, bearing("sre"))
            assert answer.status == 200, path
            assert secret.encode() not in answer.body, path
            assert sealed.encode() in answer.body, path
        body = stream(console, "/today.live", bearing("sre"))
        assert secret.encode() not in body
        assert sealed.encode() in body
        # Nor is it told whether somebody is known, by an id that may be guessed.
        assert console.get(f"/customers/{secret}", bearing("sre")).status == 404
        assert console.get(f"/customers?q={secret}", bearing("sre")).status == 404
        # A link works for who may see ids.
        assert secret in console.get(f"/customers/{sealed}", bearing("admin")).text


def test_a_stream_for_one_role_is_no_stream_for_another(roles: Tokens) -> None:
    """They are made once for many: of the same rights."""
    with served(everything("plain", user="very-secret-id"), tokens=roles) as console:
        assert b"very-secret-id" in stream(console, "/today.live", bearing("admin"))
        assert b"very-secret-id" not in stream(console, "/today.live", bearing("sre"))


# -- tokens and sessions


def test_without_a_token_there_is_a_login_and_nothing_else(roles: Tokens) -> None:
    with served(everything("plain"), tokens=roles) as console:
        assert console.get("/today").headers["Location"] == "/login"
        assert console.get("/today.json").status == 401
        assert console.get("/today.live").status == 401
        assert console.post("/actions/contacted", {"alert": A1}).status in (303, 401)
        assert not console.console.sender.records  # type: ignore[attr-defined]
        for wrong in ("", "x", "Admin", "admin2", "é"):
            assert console.get("/today.json", {"Authorization": f"Bearer {wrong}"}).status == 401


def test_a_browser_logs_in_by_a_token_and_out_again(roles: Tokens) -> None:
    with served(everything("plain"), tokens=roles) as console:
        assert console.post("/login", {"token": "nobody"}).status == 403
        answer = console.post("/login", {"token": "marketing"})
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "marketing" not in cookie.replace("bWFya2V0aW5n", "")
        console.client.session.cookie_jar.clear()
        session = {"Cookie": cookie.split(";")[0]}
        page = console.get("/today", session)
        assert page.status == 200
        assert console.get("/settings", session).status == 403
        name, ends, signature = session["Cookie"].split("=", 1)[1].split(".")
        for forged in (f"{name}.{int(ends) + 1}.{signature}", f"YWRtaW4.{ends}.{signature}",
                       f"{name}.{ends}.{'0' * 64}", "..", f"{name}.9.{signature}"):  # fmt: skip
            console.client.session.cookie_jar.clear()
            answer = console.get("/today.json", {"Cookie": f"tideline_console={forged}"})
            assert answer.status == 401, forged


def test_a_token_that_is_taken_away_ends_its_sessions_and_streams(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    with served(everything("plain"), tokens=tokens_of(path, ann="admin", bob="sre")) as console:
        cookie = console.post("/login", {"token": "ann"}).headers["Set-Cookie"].split(";")[0]
        console.client.session.cookie_jar.clear()
        assert console.get("/today.json", {"Cookie": cookie}).status == 200
        tokens_of(path, bob="sre")
        assert console.get("/today.json", {"Cookie": cookie}).status == 401
        assert console.get("/today.json", bearing("ann")).status == 401
        assert console.get("/today.json", bearing("bob")).status == 200
        path.write_text("nonsense")
        assert console.get("/today.json", bearing("bob")).status == 401


# -- the proxy


PROXY = Proxies("X-Forwarded-User", "X-Forwarded-Groups", (ip_network("127.0.0.1/32"),))
ELSEWHERE = Proxies("X-Forwarded-User", "X-Forwarded-Groups", (ip_network("10.0.0.0/8"),))


def named(user: str, groups: str) -> dict[str, str]:
    return {"X-Forwarded-User": user, "X-Forwarded-Groups": groups}


def test_a_header_from_anybody_but_the_proxy_is_refused_not_ignored() -> None:
    with served(everything("plain"), proxies=ELSEWHERE) as console:
        assert console.get("/today", named("root", "admin")).status == 403
        assert console.get("/today", {"X-Forwarded-Groups": "admin"}).status == 403
        assert console.get("/today").status == 401
        assert console.get("/today", {"x-forwarded-user": "root"}).status == 403


def test_the_proxy_names_users_and_roles() -> None:
    with served(everything("plain"), proxies=PROXY) as console:
        assert console.get("/today", named("ann", "tideline-marketing,other")).status == 200
        assert console.get("/settings", named("ann", "marketing")).status == 403
        assert console.get("/today", named("ann", "everybody")).status == 403
        assert console.get("/today", named("ann", "")).status == 403
        assert console.get("/today").status == 401
        facts = console.get("/today.json", named("ann@shop", "sre, marketing")).json
        assert facts["visitor"] == "ann@shop"


# -- CSRF


@contextmanager
def local() -> Iterator[tuple[Served, str]]:
    """A console that asks nobody, and its form token."""
    with served(everything("plain")) as console:
        page = console.get("/today").text
        yield console, page.split('name="csrf" value="')[1].split('"')[0]


def form(csrf: str = "") -> dict[str, str]:
    return {"alert": A1, "channel": "call", "csrf": csrf}


def test_our_own_form_does_what_it_says() -> None:
    with local() as (console, csrf):
        answer = console.post("/actions/contacted", form(csrf))
        assert answer.status == 200
        assert "1 marked as contacted" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)  # fmt: skip
def test_a_form_of_another_site_does_nothing(headers: dict[str, str]) -> None:
    with local() as (console, csrf):
        assert console.post("/actions/contacted", form(csrf), headers).status == 403
        assert not console.console.sender.records  # type: ignore[attr-defined]


def test_a_form_without_our_token_does_nothing() -> None:
    with local() as (console, csrf):
        for wrong in ("", "x", csrf[:-1], csrf.upper(), "é"):
            assert console.post("/actions/contacted", form(wrong)).status == 403
        for path in ("/logout", "/actions/erase", "/today"):
            assert console.post(path, {}).status in (403, 405)
        assert console.get(f"/actions/contacted?alert={A1}&channel=call").status == 404
        assert not console.console.sender.records  # type: ignore[attr-defined]


def test_the_form_token_of_one_visitor_is_none_of_anothers(roles: Tokens) -> None:
    with served(everything("plain"), tokens=roles) as console:
        csrf = console.get("/today", bearing("admin")).text.split('value="')[1].split('"')[0]
        console.post("/login", {"token": "marketing"})
        assert console.post("/actions/contacted", form(csrf)).status == 403


# -- SQL


PARAMETERS = [
    "/today?why={}", "/today?action={}", "/today?tier={}", "/today?least={}", "/today?after={}",
    "/today?show={}", "/customers?q={}", "/customers?tier={}", "/customers?after={}",
    "/customers/{}", "/customers/ann?after={}", "/settings?q={}", "/settings?action={}",
    "/settings?section={}",
]  # fmt: skip


@pytest.mark.parametrize("path", PARAMETERS)
def test_no_value_of_a_url_becomes_part_of_a_query(path: str) -> None:
    with served(everything("plain")) as console:
        reader = console.console.reader
        console.get(path.format("x"))
        plain = {query for query, _ in reader.asked}  # type: ignore[attr-defined]
        for text in (*TEXTS, "' OR 1=1 --", "0 UNION ALL SELECT 1", '["a","b"]', '[1.5,"\'"]'):
            reader.asked.clear()  # type: ignore[attr-defined]
            answer = console.get(path.format(quote(text, safe="")))
            assert answer.status in (200, 400, 404), text
            for query, _ in reader.asked:  # type: ignore[attr-defined]
                assert "UNION ALL SELECT 1" not in query
                assert text not in query
            assert plain


def stream(console: Served, path: str, headers: dict[str, str] | None = None) -> bytes:
    """The first event of a stream."""

    async def first() -> bytes:
        async with console.client.get(path, headers=headers or {}) as answer:
            assert answer.status == 200, await answer.text()
            await console.console.live.look()
            return await answer.content.readuntil(b"\n\n")

    found: bytes = console.run(first())
    return found


def test_the_problem_page_shows_what_was_wrong_as_text() -> None:
    with served(everything("plain")) as console:
        wanted = skeleton(console.get("/today?tier=x").text)
        for text in TEXTS:
            assert skeleton(console.get(f"/today?tier={quote(text, safe='')}").text) == wanted, text
