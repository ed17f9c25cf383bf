"""What all of the API promises: errors, bodies, CORS, ETag, a locked database."""

import contextlib
import socket
import sqlite3
from io import BytesIO

import jsonschema
import orjson
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import ParseError

from blacklist.models import BlacklistedDomain
from feedsite import api
from tests.feeds.rows import TOKEN, block, make_entries, make_feed, read_pool
from tests.serving import serving

API = "/api/v1/"
LISTS = [
    "entries/",
    "feeds/",
    "blacklist/",
    "categories/",
    "entries.atom",
    "feeds.opml",
]


@pytest.fixture
def client():
    client = Client(headers={"x-client-token": TOKEN})
    client.raise_request_exception = False
    return client


@pytest.fixture
def entry(db):
    (entry,) = make_entries(make_feed(), 1)
    read_pool()
    return entry


@pytest.fixture
def staff(db, client):
    user = User.objects.create_user("operator", is_staff=True)
    token = Token.objects.create(user=user)
    client.defaults["HTTP_AUTHORIZATION"] = f"Token {token.key}"
    return client


def address(path, entry):
    return API + path.format(entry.feed_id if path.startswith("feeds") else entry.pk)


def problem(response, status):
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    assert response["Access-Control-Allow-Origin"] == "*"
    answer = response.json()
    assert list(answer) == ["type", "detail", "errors"]
    assert isinstance(answer["detail"], str)
    assert answer["detail"]
    for messages in answer["errors"].values():
        assert messages
        assert all(isinstance(message, str) for message in messages)
    return answer


# The form of errors


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind"),
    [
        ("GET", "nothing/", {}, 404, "not_found"),
        ("GET", "entries/abc/", {}, 404, "not_found"),
        ("GET", "entries/0/", {}, 404, "not_found"),
        ("GET", f"entries/{2**63}/", {}, 404, "not_found"),
        ("GET", f"entries/{10**18 * 9999}/", {}, 404, "not_found"),
        ("GET", f"feeds/{2**63}/", {}, 404, "not_found"),
        ("GET", f"blacklist/{2**63}/", {}, 404, "not_found"),
        ("GET", f"entries/{'9' * 4000}/", {}, 404, "not_found"),
        ("GET", "entries/%00/", {}, 404, "not_found"),
        ("GET", "entries/%FF%FE/", {}, 404, "not_found"),
        ("DELETE", "entries/", {}, 405, "method_not_allowed"),
        ("POST", "entries/random/", {}, 405, "method_not_allowed"),
        ("GET", "entries/1/vote/", {}, 405, "method_not_allowed"),
        ("TRACE", "entries/", {}, 405, "method_not_allowed"),
        ("BREW", "categories/", {}, 405, "method_not_allowed"),
        ("BREW", "feeds/", {}, 401, "not_authenticated"),
        ("POST", "schema/", {}, 405, "method_not_allowed"),
        ("PUT", "docs/", {}, 405, "method_not_allowed"),
        ("GET", "entries/", {"accept": "text/html"}, 406, "not_acceptable"),
        ("GET", "feeds/", {"authorization": "Token no"}, 401, "authentication_failed"),
        ("GET", "feeds/", {"authorization": "Token"}, 401, "authentication_failed"),
        ("POST", "feeds/", {}, 401, "not_authenticated"),
        ("DELETE", "feeds/1/", {}, 401, "not_authenticated"),
        ("PATCH", "blacklist/1/", {}, 401, "not_authenticated"),
        ("GET", "entries/?" + "a&" * 1_500, {}, 400, "parse_error"),
        ("GET", "feeds/", {"host": "evil.example"}, 400, "parse_error"),
    ],
)
def test_every_error_has_one_form(client, db, method, path, headers, status, kind):
    answer = problem(client.generic(method, API + path, headers=headers), status)
    assert answer["type"] == kind
    assert answer["errors"] == {}


def test_an_unknown_address_is_json_only_under_api(client, db):
    problem(client.get("/api/"), 404)
    problem(client.get("/api/v2/entries/"), 404)
    assert client.get("/nothing/")["Content-Type"].startswith("text/html")


def test_a_session_may_read_but_its_writes_need_the_csrf_token(db):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("operator", is_staff=True))
    assert client.get(API + "feeds/").status_code == 200
    sent = {"content_type": "application/json"}
    answer = problem(client.post(API + "feeds/", "{}", **sent), 403)
    assert answer["type"] == "permission_denied"
    # A form that Django itself would refuse to read, on its way to the CSRF check.
    client.cookies["csrftoken"] = "x" * 32
    form = {"content_type": "application/x-www-form-urlencoded"}
    problem(client.post(API + "feeds/", "a&" * 2_000, **form), 415)


def test_one_who_is_not_staff_reads_and_does_not_write(db, client):
    token = Token.objects.create(user=User.objects.create_user("reader"))
    headers = {"authorization": f"Token {token.key}"}
    assert client.get(API + "feeds/", headers=headers).status_code == 200
    sent = {"content_type": "application/json", "headers": headers}
    problem(client.post(API + "feeds/", {}, **sent), 403)


def test_fields_are_named_in_errors(staff):
    sent = {"content_type": "application/json"}
    answer = problem(staff.post(API + "feeds/", {"category": [1]}, **sent), 400)
    assert answer["type"] == "invalid"
    assert set(answer["errors"]) == {"url", "category"}
    assert answer["detail"].startswith(f"{next(iter(answer['errors']))}: ")


def test_errors_of_fields_within_fields_are_flat():
    detail = {"a": {"b": ["x", "y"]}, "c": [{}, {"d": ["z"]}], "e": "w"}
    assert api._by_field(detail) == {
        "a.b": ["x", "y"],
        "c.1.d": ["z"],
        "e": ["w"],
    }


def test_what_breaks_is_json_without_a_traceback(client, entry, monkeypatch, caplog):
    monkeypatch.setattr("feeds.picking.pick", lambda *_: 1 / 0)
    answer = problem(client.get(API + "entries/random/"), 500)
    assert answer["type"] == "server_error"
    assert "ZeroDivision" not in str(answer)
    assert "ZeroDivisionError" in caplog.text


# Bodies


BAD_BODIES = {
    "empty": b"",
    "10,000 deep": b"[" * 10_000,
    "within its limit, but deep": b'{"value":' + b"[" * 900 + b"]" * 900 + b"}",
    "deep objects": b'{"value":' * 25 + b"1" + b"}" * 25,
    "number of 5,000 digits": b'{"value":' + b"9" * 5_000 + b"}",
    "2**63": b'{"value":9223372036854775808}',
    "2**64": b'{"value":18446744073709551616}',
    "NaN": b'{"value":NaN}',
    "infinity": b'{"value":1e999}',
    "NUL in text": b'{"value":"\\u0000","reason":"\\u0000"}',
    "raw NUL": b'{"value":"\0"}',
    "lone surrogate": b'{"value":"\\ud800","reason":"\\ud800"}',
    "invalid UTF-8": b'{"value":"\xff"}',
    "BOM": b'\xef\xbb\xbf{"value":1}',
    "list": b"[1]",
    "null": b"null",
    "text": b'"value"',
    "number": b"1",
    "unfinished": b'{"value":1',
    "twice": b'{"value":1}{"value":1}',
    "true": b'{"value":true,"reason":true}',
    "text for a number": b'{"value":"1","reason":1}',
    "half": b'{"value":0.5,"reason":0.5}',
    "two": b'{"value":2,"reason":"Dead"}',
    "null value": b'{"value":null,"reason":null}',
    "object": b'{"value":{},"reason":{}}',
    "missing": b'{"vaule":1}',
}
WRITES = [
    ("PUT", "entries/{}/vote/"),
    ("POST", "entries/{}/report/"),
    ("POST", "feeds/"),
    ("PUT", "feeds/{}/"),
    ("POST", "blacklist/"),
]


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_bad_body_is_the_clients_error(staff, entry, method, path, body):
    path = address(path, entry)
    kind = "application/json"
    answer = problem(staff.generic(method, path, body, content_type=kind), 400)
    assert answer["type"] in ("invalid", "parse_error")


FIELDS = [
    "url",
    "site_url",
    "title",
    "description",
    "language",
    "category",
    "active",
    "domain",
    "action",
    "reason",
    "include_subdomains",
    "note",
    "expires_at",
    "review_at",
    "confirm_public_suffix",
]
# As JSON, since not all of it is a value of Python's.
ODD_VALUES = {
    "NUL": r'"\u0000"',
    "control": r'"\u0001"',
    "2**63": "9223372036854775808",
    "10**40": "1" + "0" * 40,
    "list": "[[]]",
    "object": "{}",
    "true": "true",
    "null": "null",
    "long": '"' + "x" * 5_000 + '"',
    "empty": '""',
    "below 0": "-1",
    "fraction": "1.5",
    "year 1": '"0001-01-01T00:00:00+23:59"',
    "year 9999": '"9999-12-31T23:59:59-23:59"',
}


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "feeds/"), ("PATCH", "feeds/{}/"), ("POST", "blacklist/")],
)
def test_no_value_of_any_field_breaks_a_write(staff, entry, method, path, value):
    path = address(path, entry)
    whole = {"url": '"https://new.example/feed"', "domain": '"new.example"'}
    whole |= {"reason": '"spam"', "action": '"block"', "include_subdomains": "true"}
    for field in FIELDS:
        body = ",".join(f'"{k}":{v}' for k, v in (whole | {field: value}).items())
        answer = staff.generic(
            method, path, f"{{{body}}}", content_type="application/json"
        )
        assert answer.status_code in (200, 201, 400), (field, answer.content)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "multipart/x"])
def test_other_types_of_body_are_refused(client, entry, kind):
    path = f"{API}entries/{entry.pk}/vote/"
    answer = problem(client.generic("PUT", path, b"1", content_type=kind), 415)
    assert answer["type"] == "unsupported_media_type"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/x"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *WRITES,
        ("GET", "entries/"),
        ("GET", "entries/random/"),
        ("DELETE", "feeds/{}/"),
        ("GET", "schema/"),
        ("GET", "docs/"),
        ("POST", "nothing/"),
        ("OPTIONS", "entries/"),
    ],
)
def test_a_body_over_16_kb_is_too_large_everywhere(client, entry, method, path, kind):
    path = address(path, entry)
    body = b"[" * 100_000
    answer = problem(client.generic(method, path, body, content_type=kind), 413)
    assert answer["type"] == "too_large"


@pytest.mark.parametrize(("size", "status"), [(16 * 1024, 400), (16 * 1024 + 1, 413)])
def test_the_limit_is_exact(client, entry, size, status):
    path = f"{API}entries/{entry.pk}/vote/"
    body = b'{"x":"'.ljust(size - 2, b"x") + b'"}'
    problem(client.generic("PUT", path, body, content_type="application/json"), status)


@pytest.mark.parametrize(
    ("body", "status"), [(b'{"value":1}', 200), (b"[" * 100_000, 413), (b"[", 400)]
)
def test_a_body_in_chunks_is_a_body(client, entry, body, status):
    response = client.generic(
        "PUT",
        f"{API}entries/{entry.pk}/vote/",
        **{
            "CONTENT_TYPE": "application/json",
            "wsgi.input": BytesIO(body),
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
        },
    )
    assert response.status_code == status, response.content


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker):
    with serving(workers=1, threads=2, HTTPS="true", NUM_PROXIES=1) as server:
        yield server


def raw(server, head, body=b""):
    """What the server answers to these bytes, and to none after them."""
    with socket.create_connection(("127.0.0.1", int(server.environ["PORT"]))) as sent:
        sent.settimeout(20)
        lines = [*head, "Host: localhost", "Connection: close"]
        sent.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        sent.shutdown(socket.SHUT_WR)
        with sent.makefile("rb") as answer:
            return answer.read().decode()


HTTPS = "X-Forwarded-Proto: https"
JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    "body",
    [b"ZZ\r\n{}", b"-5\r\n{}", b'b\r\n{"value":1}0\r\n', b"b\r\n{", b"2\r\n{}\r\n"],
)
@pytest.mark.parametrize(
    "line", ["PUT /api/v1/entries/1/vote/", "GET /api/v1/entries/", "POST /api/x"]
)
def test_malformed_chunks_are_the_clients_error(server, line, body):
    chunked = "Transfer-Encoding: chunked"
    answer = raw(server, [f"{line} HTTP/1.1", HTTPS, JSON, chunked], body)
    assert answer.startswith("HTTP/1.1 400 ")
    assert "Access-Control-Allow-Origin: *" in answer
    assert '{"type":"parse_error","detail":"' in answer
    assert "Traceback" not in server.log()


def test_a_body_that_was_cut_short_is_the_clients_error(server):
    # Without its last spaces it is JSON too.
    head = ["PUT /api/v1/entries/1/vote/ HTTP/1.1", HTTPS, JSON, "Content-Length: 20"]
    answer = raw(server, [*head, f"X-Client-Token: {TOKEN}"], b'{"value":1}')
    assert answer.startswith("HTTP/1.1 400 ")
    assert '"type":"parse_error"' in answer


def test_the_way_to_https_is_open_to_every_origin(server):
    answer = raw(server, ["GET /api/v1/entries/random/ HTTP/1.1"])
    assert answer.startswith("HTTP/1.1 301 ")
    assert "Access-Control-Allow-Origin: *" in answer


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/entries/"])
def test_the_body_of_a_head_is_left_out_quietly(server, path):
    get, head = (
        raw(server, [f"{method} {path} HTTP/1.1", HTTPS]).partition("\r\n\r\n")
        for method in ("GET", "HEAD")
    )
    assert get[2]
    assert head[2] == ""
    assert head[0].startswith("HTTP/1.1 200 ")
    for line in get[0].splitlines():
        if line.startswith("Content-Length"):
            assert line in head[0].splitlines()
    assert "no-body" not in server.log()


def test_a_client_does_not_say_where_we_are(server):
    answer = raw(server, ["GET /api/v1/feeds/ HTTP/1.1", HTTPS, "SCRIPT_NAME: /api"])
    assert answer.startswith("HTTP/1.1 200 ")


def test_200_long_ids_fit_into_the_address(server):
    ids = "%2C".join(["9" * 18] * 200)
    path = f"/api/v1/entries/random/?exclude={ids}&x={'x' * 1_000}"
    assert raw(server, [f"GET {path} HTTP/1.1", HTTPS]).startswith("HTTP/1.1 200 ")


def test_a_length_that_is_no_number_is_left_to_django(client, entry):
    assert client.get(API + "entries/", CONTENT_LENGTH="x").status_code == 200


def test_the_admins_forms_keep_djangos_limits(client, db):
    form = {"username": "x" * 20_000, "password": "x"}
    assert client.post("/admin/login/", form).status_code == 200


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_the_parser_raises_nothing_else(body):
    with contextlib.suppress(ParseError):
        api.JSONParser().parse(BytesIO(body))


def test_the_parser_bounds_the_depth():
    # Less than orjson's own 1,024, and more than repr() can print within a request.
    for depth, fits in [(20, True), (21, False), (1_000, False)]:
        body = BytesIO(b"[" * depth + b"]" * depth)
        with contextlib.nullcontext() if fits else pytest.raises(ParseError):
            api.JSONParser().parse(body)


def test_the_parser_bounds_what_it_reads():
    with pytest.raises(api.TooLarge):
        api.JSONParser().parse(BytesIO(b" " * 20_000))


# Every origin


@pytest.mark.parametrize("path", [*LISTS, "entries/random/", "schema/", "docs/"])
def test_every_origin_may_read(client, entry, path):
    for headers in ({}, {"origin": "https://any.example"}):
        response = client.get(API + path, headers=headers)
        assert response.status_code == 200
        assert response["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in response


def test_a_browser_may_vote(client, entry):
    headers = {
        "origin": "moz-extension://b5a1",
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type,x-client-token",
    }
    path = f"{API}entries/{entry.pk}/vote/"
    response = client.options(path, headers=headers)
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == "*"
    assert "PUT" in response["Access-Control-Allow-Methods"]
    allowed = response["Access-Control-Allow-Headers"].split(", ")
    assert {"content-type", "x-client-token"} <= set(allowed)
    shown = client.get(API + "entries/", headers=headers)
    assert {"ETag", "Retry-After"} <= set(
        shown["Access-Control-Expose-Headers"].split(", ")
    )


@pytest.mark.parametrize(
    "path", [*LISTS, "entries/random/", "entries/{}/", "entries/{}/vote/", "feeds/{}/"]
)
def test_options_and_head_work(client, entry, path):
    path = address(path, entry)
    assert client.options(path).status_code == 200
    if "vote" not in path:
        head, get = client.head(path), client.get(path)
        assert head.status_code == 200
        assert head.content == b""
        assert head["Content-Type"] == get["Content-Type"]
        assert head.get("ETag") == get.get("ETag")


# ETag


@pytest.mark.parametrize("path", [*LISTS, "schema/", "entries/{}/"])
def test_an_unchanged_answer_is_304(client, entry, path):
    path = address(path, entry)
    first = client.get(path)
    etag = first["ETag"]
    assert first["Cache-Control"] == "no-cache"
    for known in (etag, f'"x", W/{etag}', "*"):
        again = client.get(path, headers={"if-none-match": known})
        assert again.status_code == 304
        assert again.content == b""
        assert again["ETag"] == etag
        assert again["Cache-Control"] == "no-cache"
        assert again["Access-Control-Allow-Origin"] == "*"
        assert again.get("Vary") == first.get("Vary")
    for unknown in ('"x"', etag.strip('"'), ""):
        headers = {"if-none-match": unknown}
        assert client.get(path, headers=headers).status_code == 200


def test_a_changed_list_is_sent_again(client, entry):
    etag = client.get(API + "entries/")["ETag"]
    block(entry.host)
    answer = client.get(API + "entries/", headers={"if-none-match": etag})
    assert answer.status_code == 200
    assert answer.json()["results"] == []


def test_neither_errors_nor_random_answers_carry_an_etag(client, entry):
    random = client.get(API + "entries/random/", headers={"if-none-match": "*"})
    assert random.status_code == 200
    assert random["Cache-Control"] == "no-store"
    assert "ETag" not in random
    assert "ETag" not in client.get(API + "entries/0/", headers={"if-none-match": "*"})


# A locked database


def _locked(*args, **kwargs):
    if connection.vendor == "sqlite":
        cause = sqlite3.OperationalError("database is locked")
        cause.sqlite_errorcode = sqlite3.SQLITE_BUSY
    else:
        from psycopg.errors import LockNotAvailable

        cause = LockNotAvailable("canceling statement due to lock timeout")
    raise OperationalError(*cause.args) from cause


def test_a_locked_database_is_503(client, entry, monkeypatch, caplog):
    monkeypatch.setattr("feeds.feedback.vote", _locked)
    sent = {"content_type": "application/json"}
    path = f"{API}entries/{entry.pk}/vote/"
    response = client.put(path, {"value": 1}, **sent)
    assert problem(response, 503)["type"] == "locked"
    assert response["Retry-After"] == "1"
    # It will happen again and again: nobody needs a traceback of each.
    assert not any(record.exc_info for record in caplog.records)


def test_a_locked_database_is_503_on_pages(client, db, monkeypatch):
    monkeypatch.setattr("feeds.picking.pick", _locked)
    response = client.get("/")
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
    assert response["Content-Type"].startswith("text/html")
    assert b"busy" in response.content


@pytest.mark.parametrize("path", ["/admin/", API + "feeds/"])
def test_a_session_that_cannot_be_read_is_503(client, db, monkeypatch, path):
    client.cookies["sessionid"] = "x" * 32
    monkeypatch.setattr(
        "django.contrib.sessions.backends.db.SessionStore.load", _locked
    )
    response = client.get(path)
    assert response.status_code == 503
    assert response["Retry-After"] == "1"


@pytest.mark.parametrize("path", ["/admin/", API + "feeds/"])
def test_a_session_that_cannot_be_saved_is_503(client, db, monkeypatch, settings, path):
    client.force_login(User.objects.create_superuser("operator"))
    # By the middleware, when the view has answered already.
    settings.SESSION_SAVE_EVERY_REQUEST = True
    monkeypatch.setattr(
        "django.contrib.sessions.backends.db.SessionStore.save", _locked
    )
    response = client.get(path)
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
    if path.startswith(API):
        assert problem(response, 503)["type"] == "locked"


def test_another_database_error_is_a_plain_500(client, entry, monkeypatch):
    def broken(*args, **kwargs):
        raise OperationalError("disk I/O error")

    monkeypatch.setattr("feeds.feedback.vote", broken)
    sent = {"content_type": "application/json"}
    path = f"{API}entries/{entry.pk}/vote/"
    assert (
        problem(client.put(path, {"value": 1}, **sent), 500)["type"] == "server_error"
    )
    monkeypatch.setattr("feeds.picking.pick", broken)
    assert client.get("/").status_code == 500


# Its description


def test_the_schema_is_complete_and_without_warnings(db, tmp_path):
    file = tmp_path / "schema.json"
    call_command(
        "spectacular", "--fail-on-warn", "--validate", format="openapi-json", file=file
    )
    paths = orjson.loads(file.read_bytes())["paths"]
    for path, methods in {
        "entries/": {"get"},
        "entries/{id}/": {"get"},
        "entries/lookup/": {"get"},
        "entries/random/": {"get"},
        "entries/{id}/vote/": {"put"},
        "entries/{id}/report/": {"post"},
        "feeds/": {"get", "post"},
        "feeds/{id}/": {"get", "put", "patch", "delete"},
        "feeds.opml": {"get"},
        "entries.atom": {"get"},
        "categories/": {"get"},
        "blacklist/": {"get", "post"},
        "blacklist/check/": {"get"},
    }.items():
        assert set(paths[API + path]) == methods
    assert paths[API + "blacklist/{id}/"].keys() >= {"get", "patch", "delete"}
    parameters = paths[API + "entries/random/"]["get"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == {
        "count",
        "exclude",
        "category",
        "language",
        "feed",
        "max_age_days",
        "X-Client-Token",
    }


@pytest.fixture
def schema(client, db):
    return client.get(API + "schema/").json()


def described(schema, path, method, status):
    """Checks a JSON answer against what the schema says of it."""
    answer = schema["paths"][API + path][method]["responses"][str(status)]
    wanted = answer["content"]["application/json"]["schema"]
    return jsonschema.Draft202012Validator(
        wanted | {"components": schema["components"]}
    )


@pytest.mark.parametrize("who", ["client", "staff"])
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("entries/", ""),
        ("entries/{id}/", ""),
        ("entries/random/", ""),
        ("entries/lookup/", "?url=https://blog.example/0"),
        ("feeds/", ""),
        ("feeds/{id}/", ""),
        ("categories/", ""),
        ("blacklist/", ""),
        ("blacklist/{id}/", ""),
        ("blacklist/check/", "?url=https://a.bad.example/"),
        ("blacklist/check/", "?url=x"),
    ],
)
def test_answers_are_as_the_schema_says(request, who, entry, schema, path, query):
    client = request.getfixturevalue(who)
    block("bad.example")
    rule = BlacklistedDomain.objects.get()
    pk = {"feeds": entry.feed_id, "blacklist": rule.pk}.get(path.split("/")[0])
    answer = client.get(API + path.replace("{id}", str(pk or entry.pk)) + query)
    assert answer.status_code == 200
    described(schema, path, "get", 200).validate(answer.json())


@pytest.mark.parametrize(
    ("method", "path", "query", "status"),
    [
        ("get", "entries/", "?feed=x", 400),
        ("get", "entries/{id}/", "", 404),
        ("put", "entries/{id}/vote/", "", 400),
        ("get", "feeds/", "?cursor=x", 400),
        ("get", "feeds/{id}/", "", 404),
        ("post", "feeds/", "", 401),
        ("delete", "feeds/{id}/", "", 401),
        ("get", "blacklist/", "?action=x", 400),
        ("get", "blacklist/check/", "", 400),
        ("patch", "blacklist/{id}/", "", 401),
    ],
)
def test_errors_are_as_the_schema_says(client, schema, method, path, query, status):
    address = API + path.replace("{id}", "0") + query
    answer = client.generic(method.upper(), address, content_type="application/json")
    described(schema, path, method, status).validate(problem(answer, status))


def test_the_schema_says_who_may_and_what_may_go_wrong(schema):
    for name in ("feeds", "blacklist"):
        calls = schema["paths"][f"{API}{name}/"] | {
            "patch": schema["paths"][f"{API}{name}/{{id}}/"]["patch"]
        }
        assert {} in calls["get"]["security"]
        assert {} not in calls["post"]["security"]
        assert {"400", "401", "503"} <= calls["get"]["responses"].keys()
        errors = {"400", "401", "403", "404", "413", "503"}
        assert errors <= calls["patch"]["responses"].keys()
        assert errors - {"404"} <= calls["post"]["responses"].keys()


@pytest.mark.parametrize("query", ["", "?version=a%0d%0ab", "?lang=%00", "?format=x"])
def test_the_schema_is_json_whatever_it_is_asked_with(client, db, query):
    response = client.get(API + "schema/" + query)
    assert response.status_code == 200
    assert orjson.loads(response.content)["openapi"].startswith("3.")


def test_the_docs_page_names_no_outside_address(client, db):
    for query in ("", "?script="):
        page = client.get(f"{API}docs/{query}")
        assert page.status_code == 200
        text = page.content.decode()
        assert "://" not in text.replace("http://testserver", "")
        assert "<style" not in text
        assert "default-src 'self'" in page["Content-Security-Policy"]


ODD_COOKIES = {
    "none": "",
    "NUL": r'sessionid="\000aaaaaaaa"; csrftoken="\000"',
    "quoted NUL of the right length": rf'sessionid="\000{"a" * 31}"',
    "empty": "sessionid=; csrftoken=",
    "stale": f"sessionid={'a' * 32}",
    "long": f"sessionid={'a' * 5_000}",
    "not of our making": "csrftoken=bad!; messages=x; sessionid=\xff",
}


@pytest.mark.parametrize("cookie", ODD_COOKIES.values(), ids=ODD_COOKIES)
def test_the_api_sets_no_cookie_whatever_is_sent(client, entry, cookie):
    for path in [*LISTS, "entries/random/", "entries/{}/", "schema/", "docs/"]:
        response = client.get(API + address(path, entry)[8:], HTTP_COOKIE=cookie)
        assert response.status_code == 200
        assert not response.cookies
        if "feeds/" not in path and "blacklist/" not in path:
            assert "Cookie" not in response.get("Vary", "")


@pytest.mark.parametrize("cookie", ODD_COOKIES.values(), ids=ODD_COOKIES)
def test_an_odd_cookie_is_no_error_of_the_pages(client, entry, cookie):
    assert client.get("/", HTTP_COOKIE=cookie).status_code == 200
    assert client.get("/admin/login/", HTTP_COOKIE=cookie).status_code == 200


def test_a_session_of_staff_is_read_and_kept(client, db):
    client.force_login(User.objects.create_user("operator", is_staff=True))
    key = client.cookies["sessionid"].value
    sent = {"content_type": "application/json"}
    assert client.post(API + "feeds/", {}, **sent).status_code == 400
    assert client.cookies["sessionid"].value == key


@pytest.mark.parametrize("accept", ["", "*", "*;q=0.5", "text/html, *"])
def test_an_accept_of_anything_is_one(client, entry, accept):
    response = client.get(API + "entries/", headers={"accept": accept})
    assert response.status_code == 200
