"""The door answers as Django does: bytes, headers in order, metrics and log."""

import http.client
import logging
import subprocess
import sys
from functools import partial
from random import Random
from unittest import mock
from urllib.parse import urlsplit

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import OperationalError, close_old_connections, connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from blacklist import cache
from feeds import door, picking
from feedsite import monitoring
from tests.feeds.rows import TOKEN, block, make_entries, make_feed, read_pool
from tests.serving import ROOT, clean_environ, serving

RANDOM = "/api/v1/entries/random/"
MOST = ",".join(str(number) for number in range(200))


@pytest.fixture
def site(db):
    """Ids: three entries of two feeds that may be drawn, and one that is blocked."""
    made = make_entries(make_feed(), 2)
    made += make_entries(make_feed("bad.example"), 1)
    made += make_entries(make_feed("other.example"), 1)
    block("bad.example")
    read_pool()
    return [entry.pk for entry in made]


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    """Both draw alike: each choice begins at the same seed."""
    pick = picking.pick
    monkeypatch.setattr(picking, "pick", lambda wanted: pick(wanted, Random(6)))


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    """The test's own connection, which is within a transaction, stays open."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    closed = mock.Mock()
    monkeypatch.setattr(door, "close_old_connections", closed)
    yield closed
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


class Both:
    """One site by its two ways; each has what a worker has."""

    def __init__(self):
        self.django = WSGIHandler()
        self.seen = []
        self.door = door.Door(self.django, RANDOM, self.seen.append)

    def compare(self, **changed):
        """Ask both the same; the answer, and whether the door gave it itself."""
        # The first of its kind is Django's in any case.
        ask(self.door, **changed)
        before = len(self.seen)
        theirs = ask(self.django, **changed)
        ours = ask(self.door, **changed)
        assert ours == theirs
        return ours, len(self.seen) > before


def ask(application, *, query="", path=RANDOM, method="GET", body=None, **headers):
    """Status, headers in their order, and the body."""
    factory = RequestFactory()
    if body is not None:
        headers["CONTENT_TYPE"] = headers.get("CONTENT_TYPE", "application/json")
        asked = factory.generic(method, path, body, headers["CONTENT_TYPE"])
    else:
        asked = factory.generic(method, path)
    environ = asked.environ | {"HTTP_HOST": "localhost", "QUERY_STRING": query}
    environ |= headers
    environ = {name: value for name, value in environ.items() if value is not None}
    given = []
    response = application(environ, lambda *started: given.extend(started))
    content = b"".join(response)
    getattr(response, "close", lambda: None)()
    return given[0], given[1], content


BY_THE_DOOR = {
    "plain": {},
    "a name with a port": {"HTTP_HOST": "localhost:8000"},
    "an address": {"HTTP_HOST": "[::1]:80"},
    "in capitals": {"HTTP_HOST": "LOCALHOST"},
    "count": {"query": "count=1"},
    "the most": {"query": "count=20"},
    "exclude": {"query": "exclude=1"},
    "many out": {"query": f"exclude={MOST}"},
    "commas encoded": {"query": "count=2&exclude=1%2C2"},
    "both": {"query": "count=3&exclude=3,2,2,999999999999999999"},
    "nothing after the sign": {"query": "count=3&"},
    "Accept of anything": {"HTTP_ACCEPT": "*/*"},
    "Accept of JSON": {"HTTP_ACCEPT": "application/json, text/plain, */*"},
    "Accept of a browser": {"HTTP_ACCEPT": "text/html,*/*;q=0.8"},
    "Accept, empty": {"HTTP_ACCEPT": ""},
    "CORS": {"HTTP_ORIGIN": "https://reader.example"},
    "CORS of an extension": {"HTTP_ORIGIN": "moz-extension://0b8c"},
    "CORS of nobody": {"HTTP_ORIGIN": "null"},
    "CORS of an address that cannot be read": {"HTTP_ORIGIN": "https://[/"},
    "CORS, empty": {"HTTP_ORIGIN": ""},
    "cookies": {"HTTP_COOKIE": "sessionid=x; csrftoken=\x00"},
    "the scheme that a proxy says": {"HTTP_X_FORWARDED_PROTO": "https"},
    "the client that a proxy says": {"HTTP_X_FORWARDED_FOR": "192.0.2.1"},
    "what browsers send": {
        "HTTP_USER_AGENT": "Mozilla/5.0",
        "HTTP_ACCEPT_LANGUAGE": "en",
        "HTTP_ACCEPT_ENCODING": "gzip, br, zstd",
        "HTTP_SEC_FETCH_SITE": "none",
        "HTTP_REFERER": "https://elsewhere.example/",
        "HTTP_CACHE_CONTROL": "no-cache",
        "HTTP_CONNECTION": "keep-alive",
    },
    "HTTP/1.0": {"SERVER_PROTOCOL": "HTTP/1.0"},
    "over TLS of the server's own": {"wsgi.url_scheme": "https"},
    "a path that was encoded": {"path": "/api/v1/entries/%72andom/"},
}
BY_DJANGO = {
    "HEAD": {"method": "HEAD"},
    "OPTIONS": {"method": "OPTIONS"},
    "preflight": {
        "method": "OPTIONS",
        "HTTP_ORIGIN": "https://reader.example",
        "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET",
    },
    "POST": {"method": "POST"},
    "an unknown method": {"method": "BREW"},
    "another address": {"path": "/api/v1/entries/"},
    "without the slash": {"path": "/api/v1/entries/random"},
    "with another slash": {"path": "/api//v1/entries/random/"},
    "with more of a path": {"path": f"{RANDOM}1/"},
    "of a site in a folder": {"SCRIPT_NAME": "/site"},
    "of a site that was rewritten": {"SCRIPT_URL": f"/site{RANDOM}"},
    "another name": {"HTTP_HOST": "evil.example"},
    "a malformed name": {"HTTP_HOST": "a b"},
    "a malformed port": {"HTTP_HOST": "localhost:x"},
    "an empty name": {"HTTP_HOST": ""},
    "two names": {"HTTP_HOST": "localhost,localhost"},
    "no name": {"HTTP_HOST": None},
    "no name that is ours": {"HTTP_HOST": None, "SERVER_NAME": "localhost"},
    "Accept of XML": {"HTTP_ACCEPT": "application/xml"},
    "Accept, malformed": {"HTTP_ACCEPT": "text/"},
    "client token": {"HTTP_X_CLIENT_TOKEN": TOKEN},
    "malformed client token": {"HTTP_X_CLIENT_TOKEN": "short"},
    "token of staff": {"HTTP_AUTHORIZATION": "Token none"},
    "known already": {"HTTP_IF_NONE_MATCH": "*"},
    "a part": {"HTTP_RANGE": "bytes=0-1"},
    "a body": {"body": b"{}"},
    "a body of another type": {"body": b"{}", "CONTENT_TYPE": "text/x; charset=utf-16"},
    "a body too large": {"CONTENT_LENGTH": "999999"},
    "a body that is empty": {"CONTENT_LENGTH": "0"},
    "a body in chunks": {"HTTP_TRANSFER_ENCODING": "chunked"},
    "count of none": {"query": "count=0"},
    "too many": {"query": "count=21"},
    "count with a zero": {"query": "count=05"},
    "count, negative": {"query": "count=-1"},
    "count, empty": {"query": "count="},
    "count, a word": {"query": "count=x"},
    "count in other digits": {"query": "count=%D9%A3"},
    "count twice": {"query": "count=1&count=2"},
    "exclude twice": {"query": "exclude=1&exclude=2"},
    "exclude, empty": {"query": "exclude="},
    "exclude, words": {"query": "exclude=x"},
    "exclude, a comma too many": {"query": "exclude=1,"},
    "exclude, a space": {"query": "exclude=1,+2"},
    "exclude, 201": {"query": f"exclude={MOST},200"},
    "exclude, the largest": {"query": f"exclude={2**63 - 1}"},
    "exclude, too large": {"query": f"exclude={2**63}"},
    "the other way round": {"query": "exclude=1&count=2"},
    "a filter": {"query": "language=en"},
    "an unknown parameter": {"query": "format=xml"},
    "one among others": {"query": "count=1&x=1"},
    "signs alone": {"query": "&&"},
    "NUL": {"query": "%00"},
    "a name that was encoded": {"query": "%63ount=2"},
    "broken encoding": {"query": "exclude=1%2"},
    "a line break": {"query": "count=1\n"},
    "what is no ASCII": {"query": "count=1\xff"},
    "too many parameters": {"query": "a&" * 1_500},
}


@pytest.mark.parametrize("case", BY_THE_DOOR.values(), ids=BY_THE_DOOR)
def test_the_door_answers_as_django_does(site, case):
    (status, headers, _), by_the_door = Both().compare(**case)
    assert status == "200 OK"
    assert dict(headers)["Cache-Control"] == "no-store"
    assert by_the_door


@pytest.mark.parametrize("case", BY_DJANGO.values(), ids=BY_DJANGO)
def test_the_rest_is_left_to_django(site, case):
    _, by_the_door = Both().compare(**case)
    assert not by_the_door


@pytest.mark.parametrize("proxies", [0, 1])
@pytest.mark.parametrize("said", [None, "http", "https", "HTTPS", ""])
def test_under_https_only_what_is_secure_is_answered(site, settings, proxies, said):
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    if proxies:
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    (status, headers, _), by_the_door = Both().compare(HTTP_X_FORWARDED_PROTO=said)
    secure = bool(proxies) and said == "https"
    assert by_the_door == secure
    assert status == ("200 OK" if secure else "301 Moved Permanently")
    assert ("Strict-Transport-Security" in dict(headers)) == secure


@pytest.mark.parametrize("redirect", [False, True])
def test_no_kind_gets_the_headers_of_another(site, settings, redirect):
    settings.SECURE_HSTS_SECONDS = 60
    settings.SECURE_SSL_REDIRECT = redirect
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    both = Both()
    for case in [*BY_THE_DOOR.values(), *BY_DJANGO.values()]:
        both.compare(**case)
        both.compare(**case | {"HTTP_X_FORWARDED_PROTO": "https"})


@pytest.mark.parametrize("host", ["a.example.org", "example.org:1", "b.example.org."])
def test_names_that_a_pattern_allows(site, settings, host):
    settings.ALLOWED_HOSTS = [".example.org"]
    both = Both()
    assert both.compare(HTTP_HOST=host)[1]
    assert not both.compare(HTTP_HOST="localhost")[1]


@pytest.mark.django_db
def test_an_empty_pool():
    read_pool()
    (_, _, body), by_the_door = Both().compare(query="count=3")
    assert body == b'{"results":[],"pool":{"eligible":0,"exhausted":true}}'
    assert by_the_door


def test_when_all_are_out(site):
    query = f"exclude={','.join(map(str, site))}"
    (_, _, body), by_the_door = Both().compare(query=query)
    assert body == b'{"results":[],"pool":{"eligible":3,"exhausted":true}}'
    assert by_the_door


def test_the_first_of_a_kind_is_djangos(site):
    both = Both()
    ask(both.door)
    assert not both.seen
    ask(both.door, query="count=2")
    assert len(both.seen) == 1
    assert 0 < both.seen[0] < 60
    ask(both.door, HTTP_ORIGIN="https://reader.example")
    assert len(both.seen) == 1


def test_kinds_do_not_pile_up(site, monkeypatch):
    monkeypatch.setattr(door, "_MOST_KINDS", 3)
    both = Both()
    for port in range(1, 10):
        assert both.compare(HTTP_HOST=f"localhost:{port}")[1]
        assert len(both.door._headers) <= 3


def test_an_error_of_the_first_is_not_kept(site, monkeypatch):
    both = Both()
    with monkeypatch.context() as patch:
        patch.setattr(picking, "pick", mock.Mock(side_effect=OperationalError("gone")))
        assert ask(both.door)[0].startswith("5")
    assert both.compare()[1]


def test_a_failure_is_answered_and_logged_by_django(site, monkeypatch, caplog):
    both = Both()
    assert both.compare()[1]
    failing = mock.Mock(side_effect=OperationalError("the disk is gone"))
    monkeypatch.setattr(picking, "pick", failing)
    with caplog.at_level(logging.ERROR, logger="django.request"):
        (status, _, body), by_the_door = both.compare()
    assert (status, by_the_door) == ("500 Internal Server Error", False)
    assert b'"type":"server_error"' in body
    # Once a call, of the three that were made.
    assert len(caplog.records) == 3


def test_no_query_and_no_request_of_djangos(site, django_assert_num_queries):
    both = Both()
    both.compare()
    with (
        django_assert_num_queries(0),
        mock.patch.object(both.django, "request_class", side_effect=AssertionError),
    ):
        assert ask(both.door, query="count=2")[0] == "200 OK"


@pytest.mark.parametrize("reason", ["none", "no snapshot", "old rules", "by query"])
def test_what_was_asked_of_the_database_is_given_back(
    site, monkeypatch, settings, closed, reason
):
    both = Both()
    assert both.compare()[1]
    assert not closed.called
    if reason == "no snapshot":
        picking.forget()
    elif reason == "old rules":
        monkeypatch.setattr(cache._copy, "compare_at", 0.0)
    elif reason == "by query":
        settings.RENDERED_ENTRIES = 0
        read_pool()
    with CaptureQueriesContext(connection) as queries:
        assert ask(both.door)[0] == "200 OK"
    assert len(both.seen) == 2
    assert closed.called == bool(queries) == (reason != "none")


def _counted(route="entry-random"):
    found = {}
    for metric in (monitoring.REQUESTS, monitoring.SECONDS):
        for family in metric.collect():
            for sample in family.samples:
                if sample.labels.get("route") == route and not sample.name.endswith(
                    ("_created", "_sum", "_bucket")
                ):
                    found[sample.name, tuple(sorted(sample.labels.items()))] = (
                        sample.value
                    )
    return found


def test_its_answers_are_counted_as_djangos(site):
    django = WSGIHandler()
    seen = partial(monitoring.observe, "entry-random", "GET", 200)
    opened = door.Door(django, RANDOM, seen)
    ask(opened)
    before = _counted()
    ask(django)
    between = _counted()
    ask(opened)
    after = _counted()
    by_django = {name: between[name] - before[name] for name in between}
    by_the_door = {name: after[name] - between[name] for name in after}
    assert by_the_door == by_django
    assert sorted(by_the_door.values())[-2:] == [1, 1]


_NUMBERS = st.one_of(st.integers(-1, 25), st.integers(0, 2**64), st.text(max_size=3))
_QUERIES = st.lists(
    st.one_of(
        st.builds("count={}".format, _NUMBERS),
        st.builds(
            lambda ids, comma: "exclude=" + comma.join(map(str, ids)),
            st.lists(_NUMBERS, max_size=5),
            st.sampled_from([",", "%2C", "%2c", ";"]),
        ),
        st.text(max_size=8),
    ),
    max_size=3,
).map(lambda parts: "&".join(parts).encode().decode("latin-1"))
_VALUES = st.one_of(
    st.sampled_from(["", "*", "https", "null", "localhost", "*/*", "application/json"]),
    st.text(st.characters(max_codepoint=255), max_size=12),
)
_NAMES = [
    "HTTP_HOST", "HTTP_ACCEPT", "HTTP_ORIGIN", "HTTP_COOKIE", "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_AUTHORIZATION",
    "HTTP_REFERER", "HTTP_IF_NONE_MATCH", "HTTP_RANGE", "HTTP_X_CLIENT_TOKEN",
    "HTTP_ACCEPT_LANGUAGE", "HTTP_ACCESS_CONTROL_REQUEST_METHOD", "HTTP_FORWARDED",
    "HTTP_X_REQUESTED_WITH", "HTTP_USER_AGENT", "CONTENT_LENGTH", "CONTENT_TYPE",
    "SERVER_NAME",
]  # fmt: skip
_HEADERS = st.dictionaries(
    st.sampled_from(_NAMES),
    _VALUES,
    max_size=4,
)


@limits(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(query=_QUERIES, headers=_HEADERS)
def test_whatever_is_asked_both_answer_alike(site, query, headers):
    Both().compare(query=query, **headers)


@pytest.mark.parametrize("opened", ["true", "false"])
def test_a_real_server_counts_and_answers_with_and_without_it(opened):
    with serving(workers=1, DOOR=opened) as server:
        address = urlsplit(server.base_url)
        asker = http.client.HTTPConnection(address.hostname, address.port)
        answers = []
        for path in (RANDOM, RANDOM, f"{RANDOM}?count=2", f"{RANDOM}?count=21"):
            asker.request("GET", path)
            answer = asker.getresponse()
            answers.append((answer.status, answer.read(), answer.getheaders()))
        asker.request("GET", "/metrics")
        metrics = asker.getresponse().read().decode()
        asker.close()
    assert [status for status, _, _ in answers] == [200, 200, 200, 400]
    names = [[name for name, _ in headers] for _, _, headers in answers]
    assert names[0] == names[1] == names[2]
    line = 'feedsite_requests_total{method="GET",route="entry-random",status="200"} 3.0'
    assert line in metrics


@pytest.mark.parametrize(
    ("setting", "served"), [("true", "Door"), ("false", "WSGIHandler")]
)
def test_a_setting_takes_it_out(tmp_path, setting, served):
    show = "from feedsite import wsgi; print(type(wsgi.application).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", show],
        cwd=ROOT,
        env=clean_environ(FEEDSITE_DATA=tmp_path, DOOR=setting),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == served


def test_the_address_is_the_apis():
    assert reverse("entry-random") == RANDOM
