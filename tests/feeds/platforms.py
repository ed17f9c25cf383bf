"""Feeds in the manner of what most of them come from, with all that it adds."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from html import escape

HOST = "https://blog.example"
WORDS = (
    "What I learned this week about gardens, trains and the <em>small web</em>: it is "
    'all <a href="https://other.example/a?b=1&amp;c=2" rel="nofollow">connected</a>. '
)


def _text(number: int, paragraphs: int) -> str:
    one = f"<p>{number}. {WORDS * 2}&ldquo;Naïve&rdquo; &amp; proud.</p>\n"
    return f'<h2 id="a">R &amp; D</h2>\n{one * paragraphs}<img src="/{number}.png" />'


def _dates(count: int) -> list[datetime]:
    first = datetime(2026, 10, 1, 6, 30, tzinfo=UTC)
    return [first - timedelta(days=number) for number in range(count)]


def wordpress(count: int = 3, paragraphs: int = 1) -> str:
    items = "".join(
        f"""
    <item>
        <title>Post &#8220;{number}&#8221;</title>
        <link>{HOST}/{date:%Y/%m/%d}/post-{number}/</link>
        <comments>{HOST}/{date:%Y/%m/%d}/post-{number}/#respond</comments>
        <dc:creator><![CDATA[Ann]]></dc:creator>
        <pubDate>{format_datetime(date)}</pubDate>
        <category><![CDATA[Gardens]]></category>
        <guid isPermaLink="false">{HOST}/?p={number}</guid>
        <description><![CDATA[What I learned &#8230; [&#8230;]]]></description>
        <content:encoded><![CDATA[{_text(number, paragraphs)}]]></content:encoded>
        <wfw:commentRss>{HOST}/post-{number}/feed/</wfw:commentRss>
        <slash:comments>{number}</slash:comments>
        <media:content url="{HOST}/a.png" medium="image">
            <media:title type="html">a</media:title>
        </media:content>
        <georss:point>45.256 -71.92</georss:point>
    </item>"""
        for number, date in enumerate(_dates(count))
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"
    xmlns:content="http://purl.org/rss/1.0/modules/content/"
    xmlns:wfw="http://wellformedweb.org/CommentAPI/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:atom="http://www.w3.org/2005/Atom"
    xmlns:sy="http://purl.org/rss/1.0/modules/syndication/"
    xmlns:slash="http://purl.org/rss/1.0/modules/slash/"
    xmlns:georss="http://www.georss.org/georss"
    xmlns:media="http://search.yahoo.com/mrss/">
<channel>
    <title>Ann&#039;s blog</title>
    <atom:link href="{HOST}/feed/" rel="self" type="application/rss+xml" />
    <link>{HOST}</link>
    <description>Just another site</description>
    <lastBuildDate>Thu, 01 Oct 2026 06:30:00 +0000</lastBuildDate>
    <language>en-US</language>
    <sy:updatePeriod>
    hourly  </sy:updatePeriod>
    <sy:updateFrequency>
    1   </sy:updateFrequency>
    <generator>https://wordpress.org/?v=7.0</generator>
    <image>
        <url>{HOST}/icon.png</url>
        <title>Ann&#039;s blog</title>
        <link>{HOST}</link>
        <width>32</width>
        <height>32</height>
    </image>{items}
</channel>
</rss>
"""


def hugo(count: int = 3, paragraphs: int = 1) -> str:
    items = "".join(
        f"""
    <item>
      <title>Post {number}</title>
      <link>{HOST}/posts/{number}/</link>
      <pubDate>{date:%a, %d %b %Y %H:%M:%S} -0700</pubDate>
      <author>ann@example.com (Ann)</author>
      <guid>{HOST}/posts/{number}/</guid>
      <description>{escape(_text(number, paragraphs))}</description>
    </item>"""
        for number, date in enumerate(_dates(count))
    )
    return f"""<?xml version="1.0" encoding="utf-8" standalone="yes"?>
<?xml-stylesheet href="/rss.xsl" type="text/xsl"?>
<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom">
  <channel>
    <title>Posts on Ann</title>
    <link>{HOST}/posts/</link>
    <description>Recent content in Posts on Ann</description>
    <image>
      <title>Ann</title>
      <url>{HOST}/a.png</url>
      <link>{HOST}/a.png</link>
    </image>
    <generator>Hugo -- gohugo.io</generator>
    <language>de-AT</language>
    <managingEditor>ann@example.com (Ann)</managingEditor>
    <copyright>© Ann</copyright>
    <atom:link href="{HOST}/index.xml" rel="self" type="application/rss+xml" />{items}
  </channel>
</rss>
"""


def jekyll(count: int = 3, paragraphs: int = 1) -> str:
    entries = "".join(
        f'<entry><title type="html">Post {number}</title>'
        f'<link href="{HOST}/{number}.html" rel="alternate" type="text/html" '
        f'title="Post {number}" /><published>{date.isoformat()}</published>'
        f"<updated>{date.isoformat()}</updated><id>{HOST}/{number}</id>"
        f'<content type="html" xml:base="{HOST}/{number}.html"><![CDATA['
        f"{_text(number, paragraphs)}]]></content><author><name>Ann</name>"
        '<email>ann@blog.example</email></author><category term="a" />'
        '<summary type="html"><![CDATA[What I learned]]></summary>'
        '<media:thumbnail xmlns:media="http://search.yahoo.com/mrss/" url="/a.png" />'
        "</entry>"
        for number, date in enumerate(_dates(count))
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?><feed xml:lang="fr" '
        'xmlns="http://www.w3.org/2005/Atom" ><generator uri="https://jekyllrb.com/" '
        f'version="4.3">Jekyll</generator><link href="{HOST}/feed.xml" rel="self" '
        f'type="application/atom+xml" /><link href="{HOST}/" rel="alternate" '
        f'type="text/html" hreflang="fr" /><updated>2026-10-01T06:30:00+00:00</updated>'
        f'<id>{HOST}/feed.xml</id><title type="html">Chez Ann</title><subtitle>Du '
        f"jardin</subtitle><author><name>Ann</name></author>{entries}</feed>"
    )


def blogger(count: int = 3, paragraphs: int = 1) -> str:
    entries = "".join(
        f"<entry><id>tag:blogger.com,1999:blog-1.post-{number}</id>"
        f"<published>{date:%Y-%m-%dT%H:%M}:00.001-07:00</published>"
        f"<updated>{date:%Y-%m-%dT%H:%M}:42.310-07:00</updated><category "
        "scheme='http://www.blogger.com/atom/ns#' term='Gardens'/>"
        f"<title type='text'>Post {number}</title><content type='html'>"
        f"{escape(_text(number, paragraphs))}</content><link rel='replies' "
        f"type='application/atom+xml' href='{HOST}/feeds/{number}/comments/default' "
        f"title='3'/><link rel='edit' type='application/atom+xml' href='{HOST}'/>"
        f"<link rel='alternate' type='text/html' href='{HOST}/{number}.html'/>"
        "<author><name>Ann</name><uri>http://www.blogger.com/profile/1</uri><email>"
        "noreply@blogger.com</email><gd:image rel='http://schemas.google.com/g/2005' "
        "width='16' height='16' src='/b.gif'/></author><thr:total>3</thr:total></entry>"
        for number, date in enumerate(_dates(count))
    )
    return (
        "<?xml version='1.0' encoding='UTF-8'?><?xml-stylesheet href='/atom.css' "
        "type='text/css'?><feed xmlns='http://www.w3.org/2005/Atom' "
        "xmlns:openSearch='http://a9.com/-/spec/opensearchrss/1.0/' "
        "xmlns:blogger='http://schemas.google.com/blogger/2008' "
        "xmlns:georss='http://www.georss.org/georss' "
        'xmlns:gd="http://schemas.google.com/g/2005" '
        "xmlns:thr='http://purl.org/syndication/thread/1.0'>"
        "<id>tag:blogger.com,1999:blog-1</id><updated>2026-10-01T06:30:00.000-07:00"
        "</updated><title type='text'>Ann</title><subtitle type='html'>A &lt;b&gt;blog"
        f"&lt;/b&gt;</subtitle><link rel='self' href='{HOST}/feeds/posts/default'/>"
        f"<link rel='alternate' type='text/html' href='{HOST}/'/><link rel='next' "
        f"href='{HOST}/feeds/posts/default?start-index=26&amp;max-results=25'/><author>"
        "<name>Ann</name></author><generator version='7.00' uri='http://www.blogger.com'>"
        f"Blogger</generator><openSearch:totalResults>3</openSearch:totalResults>{entries}"
        "</feed>"
    )


def podcast(count: int = 3, paragraphs: int = 1) -> str:
    items = "".join(
        f"<item><itunes:title>{number}</itunes:title><title>Episode {number}</title>"
        f"<description><![CDATA[{_text(number, paragraphs)}]]></description>"
        "<itunes:summary>What we talked about</itunes:summary>"
        f"<pubDate>{date:%a, %d %b %Y %H:%M:%S} GMT</pubDate>"
        "<itunes:author>Ann &amp; Bob</itunes:author><itunes:subtitle>Short"
        '</itunes:subtitle><itunes:image href="/a.jpg"/><itunes:duration>12:34'
        f'</itunes:duration><guid isPermaLink="false">{number}-a-b</guid>'
        f"<link>{HOST}/{number}</link><itunes:explicit>no</itunes:explicit>"
        '<enclosure url="/a.mp3" length="1" type="audio/mpeg"/><psc:chapters>'
        '<psc:chapter start="00:01:02.000" title="One"/></psc:chapters></item>'
        for number, date in enumerate(_dates(count))
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" '
        'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" '
        'xmlns:psc="http://podlove.org/simple-chapters"><channel><title>Talks</title>'
        f"<link>{HOST}</link><language>en</language><itunes:author>Ann</itunes:author>"
        "<itunes:owner><itunes:name>Bob</itunes:name><itunes:email>bob@blog.example"
        "</itunes:email></itunes:owner><description>About &lt;i&gt;it&lt;/i&gt;"
        '</description><itunes:summary>a</itunes:summary><itunes:image href="/a.jpg"/>'
        '<itunes:category text="Arts"><itunes:category text="Food"/></itunes:category>'
        f"<ttl>60</ttl>{items}</channel></rss>"
    )


def rdf(count: int = 3, paragraphs: int = 1) -> str:
    items = "".join(
        f'<item rdf:about="{HOST}/{number}"><title>日記 {number}</title>'
        f"<link>{HOST}/{number}</link><description>{escape(_text(number, paragraphs))}"
        f"</description><dc:date>{date:%Y-%m-%dT%H:%M:%S}+09:00</dc:date><dc:creator>Ann"
        "</dc:creator><dc:subject>a</dc:subject></item>"
        for number, date in enumerate(_dates(count))
    )
    seq = "".join(f'<rdf:li rdf:resource="{HOST}/{n}"/>' for n in range(count))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<rdf:RDF xmlns="http://purl.org/rss/1.0/" '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xml:lang="ja">'
        f'<channel rdf:about="{HOST}/index.rdf"><title>日記</title><link>{HOST}/</link>'
        f"<description>毎日</description><dc:language>ja</dc:language><items><rdf:Seq>{seq}"
        f"</rdf:Seq></items></channel>{items}</rdf:RDF>"
    )


def json_feed(count: int = 3, paragraphs: int = 1) -> str:
    items = [
        {
            "id": f"{HOST}/{number}",
            "url": f"{HOST}/{number}",
            "title": f"Post {number}",
            "content_html": _text(number, paragraphs),
            "date_published": date.isoformat(),
            "authors": [{"name": "Ann", "url": HOST}],
            "tags": ["a"],
        }
        for number, date in enumerate(_dates(count))
    ]
    feed = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": "Ann",
        "items": items,
    }
    return json.dumps(feed)


XML: tuple[Callable[..., str], ...] = (wordpress, hugo, jekyll, blogger, podcast, rdf)
