"""The network: what publishers send, and what must never be connected to."""

import asyncio
import contextlib
import functools
import gzip
import socket
import ssl
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import brotli
import pytest
from aiohttp.abc import AbstractResolver

from feeds import fetching
from feeds.fetching import Caps, Fetched, Fetcher, FetchError, NotModified, Room
from tests.feeds.internet import (
    Answer,
    Internet,
    Resolver,
    brotli_bomb,
    conditional,
    encoded,
    endless,
    gzip_bomb,
    redirect,
    rss2,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BLOG = "blog.example"


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with Internet(["127.0.0.1", "127.0.0.2"]) as net:
        yield net


@pytest.fixture
def net(internet: Internet) -> Internet:
    """The internet, with nothing asked of it yet."""
    internet.requests.clear()
    internet.connections = 0
    internet.resolver.names.clear()
    internet.resolver.asked.clear()
    return internet


@pytest.fixture
async def fetcher(net: Internet) -> AsyncIterator[Fetcher]:
    """One that may go to loopback, and has little patience."""
    async with Fetcher(
        user_agent=fetching.user_agent("1.0", "mailto:ann@example.com"),
        allow_private=True,
        resolver=net.resolver,
        caps=Caps(connect=0.5, total=0.5, body=100_000),
    ) as fetcher:
        yield fetcher


@contextlib.asynccontextmanager
async def closed(
    resolver: AbstractResolver | None = None, proxy: str = ""
) -> AsyncIterator[Fetcher]:
    """A fetcher with the guard as it is by default."""
    async with Fetcher(user_agent="test", resolver=resolver, proxy=proxy) as fetcher:
        yield fetcher


async def refusal(fetcher: Fetcher, url: str) -> str:
    answer = await fetcher.get(url)
    assert isinstance(answer, FetchError), url
    assert answer.refused, answer
    return answer.reason


# The good.


@pytest.mark.parametrize(
    "path",
    [
        "/rss2.xml",
        "/gzip.xml",
        "/deflate.xml",
        "/deflate-raw.xml",
        "/br.xml",
        "/301.xml",
        "/302.xml",
        "/303.xml",
        "/307.xml",
        "/308.xml",
    ],
)
async def test_a_body_comes_as_it_was_published(net, fetcher, path):
    answer = await fetcher.get(net.url(path, host=BLOG))
    assert isinstance(answer, Fetched)
    assert answer.body == rss2()
    if path[1:4].isdigit():
        assert answer.url == net.url("/rss2.xml", host=BLOG)


async def test_what_we_send(net, fetcher):
    net.serve("/rss2.xml?a=b%20c&d", rss2())
    answer = await fetcher.get(net.url("/rss2.xml?a=b%20c&d#part", host=BLOG))
    assert isinstance(answer, Fetched)
    assert answer.url == net.url("/rss2.xml?a=b%20c&d", host=BLOG)
    (request,) = net.requests
    assert request.path == "/rss2.xml?a=b%20c&d"
    assert request.headers == {
        "host": f"{BLOG}:{net.port}",
        "user-agent": "feedsite/1.0 (+mailto:ann@example.com)",
        "accept": fetching.ACCEPT_FEEDS,
        "accept-encoding": "gzip, deflate, br",
        "connection": "close",
    }


def test_without_a_contact_there_is_none_in_the_name():
    assert fetching.user_agent("1.0") == "feedsite/1.0"


async def test_several_gzip_members_are_one_body(net, fetcher):
    net.serve("/members.xml", encoded("x-gzip", gzip.compress(b"a") * 3 + b"\0" * 9))
    answer = await fetcher.get(net.url("/members.xml"))
    assert isinstance(answer, Fetched)
    assert answer.body == b"aaa"


async def test_no_cookie_is_ever_kept(net, fetcher):
    net.serve("/cookie", Answer(b"x", headers=(("Set-Cookie", "a=b"),)))
    for _ in range(2):
        await fetcher.get(net.url("/cookie", host=BLOG))
    assert all("cookie" not in request.headers for request in net.requests)


async def test_the_environments_proxy_is_not_used(net, fetcher, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert isinstance(await fetcher.get(net.url("/rss2.xml")), Fetched)


@pytest.mark.parametrize("name", ["/rss2.xml", "/404.xml"])
async def test_everything_that_answered_is_heard(net, name):
    heard = []
    async with Fetcher(
        user_agent="test",
        allow_private=True,
        resolver=net.resolver,
        heard=lambda *what: heard.append(what),
    ) as fetcher:
        await fetcher.get(net.url(name, host=BLOG))
        await fetcher.get(net.url("/busy.xml", host="busy.example"))
        await fetcher.get("http://127.0.0.1:1/")
        await fetcher.get(net.url(name, host="BLOG.example."))
    assert heard == [
        (BLOG, None),
        ("busy.example", timedelta(seconds=120)),
        (BLOG, None),
    ]


# Conditional requests.


async def test_a_feed_that_did_not_change_costs_a_304(net, fetcher):
    url = net.url("/conditional.xml")
    first = await fetcher.get(url)
    assert isinstance(first, Fetched)
    assert (first.etag, first.last_modified) == (
        '"one"',
        "Mon, 05 Jan 2026 10:00:00 GMT",
    )
    second = await fetcher.get(url, etag=first.etag, last_modified=first.last_modified)
    # The answer had no validators: ours are kept.
    assert second == NotModified(first.etag, first.last_modified, None, None)
    assert net.requests[-1].headers["if-none-match"] == first.etag
    assert net.requests[-1].headers["if-modified-since"] == first.last_modified


@pytest.mark.parametrize("which", ["etag", "last_modified"])
async def test_one_validator_is_enough(net, fetcher, which):
    value = {"etag": '"one"', "last_modified": "Mon, 05 Jan 2026 10:00:00 GMT"}[which]
    answer = await fetcher.get(net.url("/conditional.xml"), **{which: value})
    assert isinstance(answer, NotModified)


async def test_a_304_may_bring_new_validators(net, fetcher):
    headers = (("ETag", '"two"'), ("Cache-Control", "max-age=7200"))
    net.serve("/new304.xml", Answer(status=304, headers=headers))
    net.serve("/moved304.xml", redirect("/new304.xml", 301))
    answer = await fetcher.get(net.url("/moved304.xml"), etag='"one"')
    assert answer == NotModified(
        '"two"', "", net.url("/new304.xml"), timedelta(hours=2)
    )


async def test_a_304_nobody_asked_for_is_an_error(net, fetcher):
    net.serve("/304.xml", Answer(status=304))
    answer = await fetcher.get(net.url("/304.xml"))
    assert isinstance(answer, FetchError)
    assert answer.reason == "the server answered 304 to an unconditional request"


@pytest.mark.parametrize("etag", ['"a"\r\nX-B: c', "x" * 1001, '"\udc80"', "\0"])
async def test_a_bad_validator_is_not_sent(net, fetcher, etag):
    assert isinstance(await fetcher.get(net.url("/rss2.xml"), etag=etag), Fetched)
    assert "if-none-match" not in net.requests[0].headers
    assert "x-b" not in net.requests[0].headers


async def test_a_bad_validator_is_not_kept(net, fetcher):
    net.serve("/etag.xml", conditional(rss2(), etag="x" * 1001))
    answer = await fetcher.get(net.url("/etag.xml"))
    assert isinstance(answer, Fetched)
    assert answer.etag == ""


# Redirects.


@pytest.mark.parametrize(
    ("path", "permanent"),
    [
        ("/rss2.xml", None),
        ("/301.xml", "/rss2.xml"),
        ("/308.xml", "/rss2.xml"),
        ("/301-308.xml", "/rss2.xml"),
        ("/302.xml", None),
        ("/301-302.xml", None),
    ],
)
async def test_a_feed_moved_only_if_every_hop_says_so(net, fetcher, path, permanent):
    answer = await fetcher.get(net.url(path))
    assert isinstance(answer, Fetched)
    assert answer.permanent_url == (permanent and net.url(permanent))


@pytest.mark.parametrize(("hops", "good"), [(5, True), (6, False)])
async def test_five_redirects_are_enough(net, fetcher, hops, good):
    for number in range(hops):
        net.serve(f"/hop{number}", redirect(f"/hop{number + 1}"))
    net.serve(f"/hop{hops}", rss2())
    answer = await fetcher.get(net.url("/hop0"))
    assert isinstance(answer, Fetched) == good
    assert len(net.requests) == 6


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/loop.xml", "more than 5 redirects"),
        ("/to-file.xml", "refused: file is neither http nor https"),
        ("/to-userinfo.xml", "refused: the address carries a user name"),
        ("/to-garbage.xml", "the address cannot be read"),
        ("/to-nowhere.xml", "the server answered 302"),
    ],
)
async def test_redirects_that_lead_nowhere(net, fetcher, path, reason):
    answer = await fetcher.get(net.url(path))
    assert isinstance(answer, FetchError)
    assert answer.reason == reason
    assert answer.answered


async def test_a_redirect_to_bytes_that_are_no_text(net, fetcher):
    raw = b"HTTP/1.1 302 So\r\nLocation: /\xff\xfe\r\nContent-Length: 0\r\n\r\n"
    net.serve("/latin.xml", Answer(raw, raw=True))
    assert isinstance(await fetcher.get(net.url("/latin.xml")), FetchError)


# What goes wrong.


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (
            "/none.xml",
            FetchError("the server answered 404", 404, True, None, BLOG, False),
        ),
        (
            "/gone.xml",
            FetchError("the server answered 410", 410, True, None, BLOG, True),
        ),
        (
            "/to-gone.xml",
            FetchError("the server answered 410", 410, True, None, BLOG, True),
        ),
        (
            "/busy.xml",
            FetchError(
                "the server answered 429", 429, True, timedelta(minutes=2), BLOG, False
            ),
        ),
        (
            "/down.xml",
            FetchError(
                "the server answered 503", 503, True, timedelta(minutes=1), BLOG, False
            ),
        ),
    ],
)
async def test_errors_by_status(net, fetcher, path, error):
    assert await fetcher.get(net.url(path, host=BLOG)) == error


async def test_retry_after_counts_on_429_and_503_only(net, fetcher):
    net.serve("/404", Answer(status=404, headers=(("Retry-After", "60"),)))
    answer = await fetcher.get(net.url("/404"))
    assert isinstance(answer, FetchError)
    assert answer.retry_after is None


@pytest.mark.parametrize(
    ("path", "reason", "answered"),
    [
        ("/stacked.xml", "the answer is encoded as gzip, gzip", True),
        ("/truncated.xml", "the answer broke off", True),
        ("/truncated-gzip.xml", "the answer broke off", True),
        ("/endless.xml", "the answer is over 0.0953674 MiB", True),
        ("/drip.xml", "no answer within 0.5 s", True),
        ("/drip-headers.xml", "no answer within 0.5 s", False),
        ("/silent.xml", "no answer within 0.5 s", False),
        ("/interim.xml", "no answer within 0.5 s", False),
        ("/reset.xml", "the server closed the connection", False),
        ("/no-http.xml", "the answer is not proper HTTP", False),
        ("/flood.xml", "the answer is not proper HTTP", False),
        ("/long-header.xml", "the answer is not proper HTTP", False),
    ],
)
async def test_broken_and_hostile_answers(net, fetcher, path, reason, answered):
    started = time.monotonic()
    answer = await fetcher.get(net.url(path, host=BLOG))
    assert isinstance(answer, FetchError)
    assert (answer.reason, answer.answered) == (reason, answered)
    assert not answer.refused
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "zstd", "gzip\x01", "é"])
async def test_encodings_we_did_not_ask_for(net, fetcher, encoding):
    net.serve("/odd.xml", encoded(encoding, b"x"))
    answer = await fetcher.get(net.url("/odd.xml"))
    assert isinstance(answer, FetchError)
    assert answer.reason.isprintable()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
@pytest.mark.parametrize("body", [b"no such thing", b"\x1f\x8b\x08", b"x" * 9999])
async def test_bodies_that_are_not_compressed_at_all(net, fetcher, encoding, body):
    net.serve("/lie.xml", encoded(encoding, body))
    answer = await fetcher.get(net.url("/lie.xml"))
    assert isinstance(answer, FetchError)
    assert answer.reason in (
        "the answer cannot be decompressed",
        "the answer broke off",
    )


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(rss2(400))),
        ("deflate", zlib.compress(rss2(400))),
        ("deflate", zlib.compress(rss2(400), wbits=-15)),
        ("br", brotli.compress(rss2(400))),
    ],
)
async def test_compressed_bodies_in_small_pieces(net, encoding, packed):
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), 100):
            yield packed[start : start + 100]
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        yield b"and more than that"  # after its end: not ours to read

    headers = (("Content-Encoding", encoding),)
    net.serve("/pieces.xml", Answer(pieces, headers=headers))
    async with Fetcher(user_agent="test", allow_private=True) as fetcher:
        answer = await fetcher.get(net.url("/pieces.xml"))
    assert isinstance(answer, Fetched)
    assert answer.body == rss2(400)


@pytest.mark.parametrize("size", [*range(65_530, 65_540), 131_072, 131_073])
async def test_the_end_of_a_body_is_not_lost(net, size):
    packed = zlib.compress(bytes(size), wbits=-15)
    net.serve("/end.xml", encoded("deflate", packed))
    async with Fetcher(user_agent="test", allow_private=True) as fetcher:
        answer = await fetcher.get(net.url("/end.xml"))
    assert isinstance(answer, Fetched)
    assert answer.body == bytes(size)


async def test_an_empty_body_is_empty_however_encoded(net, fetcher):
    net.serve("/nothing.xml", encoded("gzip", b""))
    answer = await fetcher.get(net.url("/nothing.xml"))
    assert isinstance(answer, Fetched)
    assert answer.body == b""


async def test_a_hundred_stacked_encodings(net, fetcher):
    net.serve("/stack.xml", encoded(", ".join(["gzip"] * 100), b"x"))
    answer = await fetcher.get(net.url("/stack.xml"))
    assert isinstance(answer, FetchError)
    assert answer.reason.startswith("the answer is encoded as gzip, gzip")


@pytest.mark.parametrize("status", [200, 302, 404])
@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", gzip_bomb(100 << 20)), ("br", brotli_bomb(300 << 20))],
    ids=["gzip", "br"],
)
async def test_bombs_cost_no_more_than_the_cap(net, encoding, bomb, status):
    headers = (("Content-Encoding", encoding), ("Location", "/bomb.xml"))
    net.serve("/bomb.xml", Answer(bomb, status, headers))
    async with Fetcher(user_agent="test", allow_private=True) as fetcher:
        tracemalloc.start()
        answer = await fetcher.get(net.url("/bomb.xml"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert isinstance(answer, FetchError)
    assert peak < 20 << 20
    if status == 200:
        assert answer.reason == "the answer is over 5 MiB"


async def published(body: bytes) -> AsyncIterator[bytes]:
    yield body
    await asyncio.sleep(0.1)  # else it is lost with the connection


@pytest.mark.parametrize(
    ("header", "body", "good"),
    [
        (("Content-Length", "4"), b"half", True),
        (("Transfer-Encoding", "chunked"), b"4\r\nhalf\r\n0\r\n\r\n", True),
        (("Content-Length", "8"), b"half", False),
        (("Transfer-Encoding", "chunked"), b"4\r\nhalf\r\n", False),
        (("X-None", ""), b"half", False),
    ],
)
async def test_a_reset_is_the_end_of_no_body(net, fetcher, header, body, good):
    pieces = functools.partial(published, body)
    net.serve("/reset-body.xml", Answer(pieces, headers=(header,), reset=True))
    answer = await fetcher.get(net.url("/reset-body.xml"))
    if good:
        assert isinstance(answer, Fetched)
        assert answer.body == b"half"
    else:
        assert isinstance(answer, FetchError)
        assert (answer.reason, answer.answered) == ("the answer broke off", True)


async def test_a_body_of_exactly_the_cap_is_good(net, fetcher):
    for size in (100_000, 100_001):
        net.serve("/cap.xml", encoded("gzip", gzip.compress(bytes(size))))
        answer = await fetcher.get(net.url("/cap.xml"))
        assert isinstance(answer, Fetched) == (size == 100_000)


@pytest.mark.parametrize(("members", "good"), [(100, True), (101, False)])
async def test_a_hundred_gzip_members_are_enough(net, fetcher, members, good):
    net.serve("/members.xml", encoded("gzip", gzip.compress(b"a") * members))
    answer = await fetcher.get(net.url("/members.xml"))
    assert isinstance(answer, Fetched) == good


async def test_what_follows_a_compressed_body_has_an_end_too(net, fetcher):
    async def pieces() -> AsyncIterator[bytes]:
        yield gzip.compress(rss2())
        async for piece in endless():
            yield piece

    headers = (("Content-Encoding", "gzip"),)
    net.serve("/tail.xml", Answer(pieces, headers=headers))
    answer = await fetcher.get(net.url("/tail.xml"))
    assert isinstance(answer, FetchError)
    assert answer.reason.startswith("the answer is over ")


async def test_a_name_that_does_not_resolve(net, fetcher):
    net.resolver.names["no.example"] = [""]
    answer = await fetcher.get("http://no.example/")
    assert answer == FetchError(
        "the name no.example does not resolve", None, False, None, "no.example", False
    )


async def test_the_systems_own_resolver_is_the_default(net):
    url = net.url("/rss2.xml", host="localhost")
    async with Fetcher(user_agent="test", allow_private=True) as fetcher:
        assert isinstance(await fetcher.get(url), Fetched)
        answer = await fetcher.get("http://no-such-name.invalid/")
        assert isinstance(answer, FetchError)
        assert answer.reason == "the name no-such-name.invalid does not resolve"


async def test_a_port_where_nobody_listens(fetcher):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = await fetcher.get(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert isinstance(answer, FetchError)
    assert answer.reason.startswith("cannot connect: ")
    assert not answer.answered


async def test_a_server_that_does_not_take_the_connection(fetcher):
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # fills the queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        patient = Caps(connect=0.3, total=5)
        async with Fetcher(
            user_agent="test", allow_private=True, caps=patient
        ) as fetcher:
            answer = await fetcher.get(f"http://127.0.0.1:{full.getsockname()[1]}/")
    assert isinstance(answer, FetchError)
    assert answer.reason == "no connection within 0.3 s"


async def test_whatever_else_goes_wrong_has_a_name(net):
    async with Fetcher(user_agent="a\nb", allow_private=True) as fetcher:
        answer = await fetcher.get(net.url("/rss2.xml"))
    assert isinstance(answer, FetchError)
    assert answer.reason.startswith("ValueError: ")


async def test_a_server_that_speaks_no_tls(fetcher):
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answer = await fetcher.get(f"https://127.0.0.1:{port}/")
    assert isinstance(answer, FetchError)
    assert answer.reason.startswith("no TLS connection: ")


async def test_a_certificate_nobody_vouches_for(fetcher, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(await certificate(tmp_path))

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pytest.fail("the connection was accepted")

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await fetcher.get(f"https://127.0.0.1:{port}/")
    assert isinstance(error, FetchError)
    assert error.reason == "its TLS certificate is not valid"


async def certificate(folder):
    path = folder / "self-signed.pem"
    made = await asyncio.create_subprocess_exec(
        *[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
        ],
        *("-keyout", path, "-out", folder / "cert.pem"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await made.wait() == 0
    path.write_text(path.read_text() + (folder / "cert.pem").read_text())
    return path


# Turns.


async def test_every_hop_waits_its_turn_and_waiting_costs_nothing(net):
    turns = []

    @contextlib.asynccontextmanager
    async def turn(host):
        await asyncio.sleep(0.3)  # of three hops: more than may be spent in all
        turns.append(f"{host} in")
        yield lambda: turns.append(f"{host} asked")
        turns.append(f"{host} out")

    net.serve("/far.xml", redirect(net.url("/302.xml", host="b.example")))
    async with Fetcher(
        user_agent="test",
        allow_private=True,
        resolver=net.resolver,
        turn=turn,
        caps=Caps(connect=0.5, total=0.5),
    ) as fetcher:
        answer = await fetcher.get(net.url("/far.xml", host="a.example"))
    assert isinstance(answer, Fetched)
    ways = ("in", "asked", "out")
    assert turns == [f"{host}.example {way}" for host in "abb" for way in ways]


async def test_a_connection_that_is_closed_is_not_tried_again_out_of_turn(net, fetcher):
    answer = await fetcher.get(net.url("/reset.xml"))
    assert isinstance(answer, FetchError)
    assert len(net.asked("/reset.xml")) == 1


async def test_the_time_is_for_all_hops_together(net):
    net.serve(
        "/slow.xml", Answer(status=302, headers=(("Location", "/slow.xml"),), delay=0.2)
    )
    async with Fetcher(
        user_agent="test", allow_private=True, caps=Caps(total=0.5)
    ) as fetcher:
        answer = await fetcher.get(net.url("/slow.xml"))
    assert isinstance(answer, FetchError)
    assert answer.reason == "no answer within 0.5 s"
    assert len(net.requests) == 3


# Memory.


async def test_bodies_beyond_the_room_wait_for_each_other():
    room = Room(100)
    order = []

    async def get(name, size, step):
        async with room.share(10) as share:
            for held in range(10, size + 1, step):
                await share.hold(held)
                await asyncio.sleep(0)
            order.append(name)

    gets = [get(str(number), 60, 10) for number in range(4)]
    await asyncio.wait_for(asyncio.gather(*gets), 5)
    assert sorted(order) == ["0", "1", "2", "3"]


async def test_only_one_at_a_time_goes_beyond_the_room():
    room = Room(100)
    async with room.share(50) as one, room.share(50) as other:
        await asyncio.wait_for(one.hold(500), 1)
        await asyncio.wait_for(one.hold(600), 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.hold(51), 0.05)
    async with room.share(100) as third:
        await asyncio.wait_for(third.hold(101), 1)


async def test_who_has_nothing_yet_does_not_go_beyond_the_room():
    room = Room(100)
    async with room.share(90):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), room.share(20):
                pass
        async with room.share(10):
            pass


async def test_who_holds_something_does_not_wait_for_those_who_hold_nothing():
    room = Room(100)
    entered = asyncio.Event()

    async def enter():
        async with room.share(30):
            entered.set()

    async with room.share(40) as one, room.share(40):
        newcomer = asyncio.create_task(enter())
        await asyncio.sleep(0)
        await asyncio.wait_for(one.hold(70), 1)
        assert not entered.is_set()
    await asyncio.wait_for(newcomer, 1)


async def test_many_gets_of_all_sizes_all_come_to_an_end():
    room, rng = Room(1000), Random(1)

    async def get(size):
        async with room.share(16) as share:
            while share.size < size:
                await share.hold(share.size + 64)
                await asyncio.sleep(0)

    gets = [get(rng.choice([0, 50, 200, 1500])) for _ in range(300)]
    await asyncio.wait_for(asyncio.gather(*gets), 20)
    async with asyncio.timeout(1), room.share(1000):
        pass


async def test_the_room_is_given_back_whatever_happens():
    room = Room(100)
    with contextlib.suppress(ZeroDivisionError):
        async with room.share(60) as share:
            await share.hold(500)
            raise ZeroDivisionError
    async with asyncio.timeout(1), room.share(100):
        pass


async def test_a_share_does_not_shrink():
    room = Room(100)
    async with room.share(60) as share:
        await share.hold(10)
        assert share.size == 60


@pytest.mark.parametrize(
    ("encoding", "bomb"), [("gzip", gzip_bomb(4 << 20)), ("br", brotli_bomb(2 << 20))]
)
async def test_a_small_answer_takes_room_for_what_it_becomes(net, encoding, bomb):
    net.serve("/bomb", encoded(encoding, bomb))
    room = Room(1_000_000)
    async with (
        Fetcher(user_agent="test", allow_private=True) as fetcher,
        room.share(1000) as share,
        room.share(1000) as other,
    ):
        await other.hold(2_000_000)  # it is the one that is beyond
        get = asyncio.create_task(fetcher.get(net.url("/bomb"), share=share))
        await asyncio.sleep(0.5)
        assert not get.done()
        other.give_back()
        assert isinstance(await get, Fetched)
        assert share.size >= 4 << 20


async def test_a_body_waits_for_room_on_our_time(net):
    body = b"x" * 60_000
    net.serve("/large", Answer(body))
    room = Room(100_000)
    async with (
        Fetcher(user_agent="test", allow_private=True, caps=Caps(total=0.5)) as fetcher,
        room.share(99_000) as holder,
        room.share(1000) as share,
    ):
        await holder.hold(100_000)  # it is the one that is beyond
        get = asyncio.create_task(fetcher.get(net.url("/large"), share=share))
        await asyncio.sleep(0.8)
        assert not get.done()
        holder.give_back()
        answer = await get
        assert share.size >= 60_000
    assert isinstance(answer, Fetched)
    assert answer.body == body


async def test_what_a_turn_raises_passes_through(net):
    @contextlib.asynccontextmanager
    async def turn(host):
        raise LookupError(host)
        yield

    async with Fetcher(user_agent="test", allow_private=True, turn=turn) as fetcher:
        with pytest.raises(LookupError):
            await fetcher.get(net.url("/rss2.xml"))
    assert net.requests == []


# The guard.

PRIVATE = [
    "127.0.0.1",
    "127.1",
    "127.000.000.001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "１２７.０.０.１",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "%31%32%37.0.0.1",
    "127.0.0.1.",
    "0.0.0.0",
    "0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[100::1]",
    "[2001::1]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[2001:10::1]",
    "[2001:db8::1]",
    "[2002:7f00:1::]",
    "[2002:7f00:0001::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "ip6-loopback",
]


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
@pytest.mark.parametrize("host", PRIVATE)
async def test_private_addresses_however_spelled(net, host, proxied):
    async with closed(proxy=net.proxy if proxied else "") as fetcher:
        reason = await refusal(fetcher, f"http://{host}:{net.port}/rss2.xml")
    assert reason.startswith("refused: ")
    assert net.connections == 0


@pytest.mark.parametrize("host", PRIVATE)
async def test_private_addresses_at_the_socket_itself(net, monkeypatch, host):
    # Whatever slips by what reads the address: here nothing does.
    monkeypatch.setattr(fetching, "_refuse_private", lambda target: None)
    resolver = Resolver()
    async with closed(resolver) as fetcher:
        await refusal(fetcher, f"http://{host}:{net.port}/rss2.xml")
    assert net.connections == 0


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1"]
)
def test_public_addresses_are_public(address):
    assert fetching.is_public(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "1.2.3", "08.8.8.8", "8.8.8.8 ", "fe80::1%eth0", "::%1"]
)
def test_what_is_no_canonical_address_is_not_public(text):
    assert not fetching.is_public(text)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "javascript:alert(1)",
        "data:text/plain,x",
        "http://ann@example.com/",
        "http://ann:secret@example.com/",
        "http://:secret@example.com/",
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
    ],
)
async def test_addresses_we_do_not_follow(url):
    async with closed() as fetcher:
        await refusal(fetcher, url)


@pytest.mark.parametrize(
    "url", ["", "no address", "http://", "http://[::1", "http://a b/", "http://\udc80/"]
)
async def test_what_is_no_address_at_all(fetcher, url):
    answer = await fetcher.get(url)
    assert answer == FetchError(
        "the address cannot be read", None, False, None, "", False
    )


@pytest.mark.parametrize("private", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_names_that_lead_to_private_addresses(net, private):
    net.resolver.names["evil.example"] = [private]
    async with closed(net.resolver) as fetcher:
        reason = await refusal(fetcher, net.url("/rss2.xml", host="evil.example"))
    assert reason == f"refused: {private} is not a public address"
    assert net.connections == 0


@pytest.fixture
def one_public(monkeypatch):
    """Let 127.0.0.1 be a public address, and no other of loopback."""
    real = fetching.is_public
    monkeypatch.setattr(
        fetching, "is_public", lambda text: text == "127.0.0.1" or real(text)
    )


@pytest.mark.usefixtures("one_public")
async def test_a_name_that_leads_elsewhere_the_second_time(net):
    net.resolver.names["evil.example"] = ["127.0.0.1", "127.0.0.2"]
    url = net.url("/rss2.xml", host="evil.example")
    async with closed(net.resolver) as fetcher:
        assert isinstance(await fetcher.get(url), Fetched)
        await refusal(fetcher, url)
        net.resolver.asked.clear()
        await refusal(fetcher, net.url("/302.xml", host="evil.example"))
    assert net.connections == 2


@pytest.mark.usefixtures("one_public")
async def test_a_redirect_to_a_private_address(net):
    async with closed(net.resolver) as fetcher:
        answer = await fetcher.get(net.url("/to-private.xml", host=BLOG))
    assert isinstance(answer, FetchError)
    assert answer.reason == "refused: 127.0.0.2 is not a public address"
    assert answer.refused
    assert answer.host == "127.0.0.2"
    assert net.connections == 1


@pytest.mark.usefixtures("one_public")
async def test_of_several_addresses_only_public_ones_are_tried(net):
    class Both(Resolver):
        async def resolve(self, host, port=0, family=0):
            (found,) = await super().resolve(host, port, family)
            return [{**found, "host": "127.0.0.2"}, found]

    async with closed(Both()) as fetcher:
        answer = await fetcher.get(net.url("/rss2.xml", host=BLOG))
    assert isinstance(answer, Fetched)
    assert net.connections == 1


async def test_an_intranet_can_be_opened(net):
    async with Fetcher(user_agent="test", allow_private=True) as fetcher:
        assert isinstance(await fetcher.get(net.url("/rss2.xml")), Fetched)


async def test_no_address_is_read_in_two_ways(fetcher, monkeypatch):
    other = fetching.URL("http://other.example/")
    monkeypatch.setattr(fetching, "URL", lambda href, encoded: other)
    assert "two ways" in await refusal(fetcher, "http://blog.example/")


# A proxy.


async def test_all_goes_through_the_proxy(net):
    async with closed(proxy=net.proxy) as fetcher:
        answer = await fetcher.get("http://blog.example/302.xml?x")
        moved = await fetcher.get("http://blog.example/302.xml")
    assert isinstance(answer, FetchError)
    assert answer.status == 404
    assert isinstance(moved, Fetched)
    assert moved.url == "http://blog.example/rss2.xml"
    assert {request.host for request in net.requests} == {"blog.example"}


async def test_a_redirect_to_a_private_address_through_the_proxy(net):
    async with closed(proxy=net.proxy) as fetcher:
        await refusal(fetcher, "http://blog.example/to-private.xml")
    assert len(net.requests) == 1


async def test_a_proxy_that_will_not_tunnel(net):
    async with closed(proxy=net.proxy) as fetcher:
        answer = await fetcher.get("https://blog.example/rss2.xml")
    assert isinstance(answer, FetchError)
    assert answer.reason == "the proxy answered 404"
    assert not answer.answered


async def test_a_proxy_that_is_not_there():
    async with closed(proxy="http://127.0.0.1:1") as fetcher:
        answer = await fetcher.get("http://blog.example/")
    assert isinstance(answer, FetchError)
    assert answer.reason.startswith("cannot connect to the proxy: ")
    assert not answer.answered


# Headers.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", None),
        ("-5", None),
        ("", None),
        ("soon", None),
        ("1.5", None),
        ("１２０", None),
        ("9" * 18, 7 * 86400),
        ("9" * 5000, None),
        ("Mon, 23 Nov 2026 13:00:00 GMT", 3600),
        ("Mon, 23 Nov 2026 13:00:00 -0000", 3600),
        ("Mon, 23 Nov 2026 11:00:00 GMT", None),
        ("Mon, 23 Nov 9999 11:00:00 GMT", 7 * 86400),
        ("Mon, 99 Foo 2026 11:00:00 GMT", None),
        ("Mon, 23 Nov 2026 11:00:00 +9999", None),
    ],
)
def test_retry_after(value, seconds):
    wait = fetching.retry_after(value, NOW)
    assert (wait and wait.total_seconds()) == seconds


@pytest.mark.parametrize(
    ("cache_control", "expires", "seconds"),
    [
        ("max-age=3600", "", 3600),
        ('public, MAX-AGE="60"', "", 60),
        ("max-age=0", "Mon, 23 Nov 2026 13:00:00 GMT", None),
        ("", "Mon, 23 Nov 2026 13:00:00 GMT", 3600),
        ("", "Mon, 23 Nov 2026 11:00:00 GMT", None),
        ("", "0", None),
        ("no-cache, max-age=60", "", None),
        ("no-store", "Mon, 23 Nov 2026 13:00:00 GMT", None),
        ("max-age=soon", "", None),
        ("max-age=" + "9" * 18, "", 10**8),
        ("", "", None),
        (",,=,", "", None),
    ],
)
def test_how_long_an_answer_is_fresh(cache_control, expires, seconds):
    fresh = fetching.fresh_for(cache_control, expires, NOW)
    assert (fresh and fresh.total_seconds()) == seconds


async def test_freshness_comes_with_the_body(net, fetcher):
    net.serve("/fresh.xml", Answer(b"x", headers=(("Cache-Control", "max-age=60"),)))
    answer = await fetcher.get(net.url("/fresh.xml"))
    assert isinstance(answer, Fetched)
    assert answer.fresh_for == timedelta(seconds=60)
