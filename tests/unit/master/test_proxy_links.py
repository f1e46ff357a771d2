"""Links of pages behind a proxy: which lead back through it, however the page is cut; and what stays as it is."""

from __future__ import annotations

import gzip

import pytest

from barque.master.apiserver.proxying import headers, links
from barque.master.apiserver.proxying.links import MAX_TAG_BYTES, Links, Page

PREFIX, BACKEND, HOST = "/api/v1/namespaces/default/pods/p/proxy", "10.244.0.2:80", "masters:6443"


def led(link: str) -> str:
    return headers.rewritten(link, PREFIX, BACKEND, HOST)


def page(text: str, size: int = 1 << 20) -> str:
    """The page once it is through, in pieces of `size` bytes."""
    data, made = text.encode("utf-8", "surrogateescape"), Links(led)
    pieces = [made.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join([*pieces, made.end()]).decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/x", f"{PREFIX}/x"),
        ("/", f"{PREFIX}/"),
        ("/x/?a=1&b=2#c", f"{PREFIX}/x/?a=1&b=2#c"),
        (f"http://{BACKEND}/x", f"{PREFIX}/x"),
        (f"https://{HOST}/x", f"https://{HOST}{PREFIX}/x"),
        (f"{PREFIX}/x", f"{PREFIX}/x"),
        ("x", "x"),
        ("../x", "../x"),
        ("#x", "#x"),
        ("?x", "?x"),
        ("//elsewhere/x", "//elsewhere/x"),
        ("https://elsewhere/x", "https://elsewhere/x"),
        ("javascript:go('/x')", "javascript:go('/x')"),
        ("data:text/plain,/x", "data:text/plain,/x"),
        ("http://[/x", "http://[/x"),
    ],
)
def test_where_a_link_leads(before: str, after: str) -> None:
    assert led(before) == after


PAGE = f"""<!DOCTYPE html>
<HTML lang=en><head profile="/p"><title><a href="/in-title"></title>
<!-- <a href="/in-comment"> --><!--><link rel=stylesheet HREF='/a.css'><base href="/"/>
<script src="/a.js">if (1 </x/.test('<a href="/in-script">')) {{}}</script >
<style>a {{ background: url("/in-style") }} <img src="/in-style"></style></head>
<body background = "/b" data-src="/data"><a\thref="/one" href="rel" title="<a href='/in-title'>" >1</a>
<a title=it's href=/two>2</a><img src=/i.png longdesc="/l" alt="/alt"/><form action="/f?a=1&amp;b=2&copy=3">
<button formaction="/g">&lt;a href="/text"&gt;</button><textarea><img src="/in-text"></textarea>
<a href>3</a><a href="">4</a><a href="https://elsewhere/x">5</a><video src="/v" poster=/p.png></video>
<a href="http://{BACKEND}/six">6</a> a < b <3 <> </a href="/end"> \udcff
<svg><image href="/image"></svg><a href="/held"""
SEEN = f"""<!DOCTYPE html>
<HTML lang=en><head profile="{PREFIX}/p"><title><a href="/in-title"></title>
<!-- <a href="/in-comment"> --><!--><link rel=stylesheet HREF='{PREFIX}/a.css'><base href="{PREFIX}/"/>
<script src="{PREFIX}/a.js">if (1 </x/.test('<a href="/in-script">')) {{}}</script >
<style>a {{ background: url("/in-style") }} <img src="/in-style"></style></head>
<body background = "{PREFIX}/b" data-src="/data"><a\thref="{PREFIX}/one" href="rel" title="<a href='/in-title'>" >1</a>
<a title=it's href={PREFIX}/two>2</a><img src={PREFIX}/i.png longdesc="{PREFIX}/l" alt="/alt"/>\
<form action="{PREFIX}/f?a=1&amp;b=2&amp;copy=3">
<button formaction="{PREFIX}/g">&lt;a href="/text"&gt;</button><textarea><img src="/in-text"></textarea>
<a href>3</a><a href="">4</a><a href="https://elsewhere/x">5</a><video src="{PREFIX}/v" poster={PREFIX}/p.png></video>
<a href="{PREFIX}/six">6</a> a < b <3 <> </a href="/end"> \udcff
<svg><image href="/image"></svg><a href="/held"""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_links_of_a_page_are_led_back_wherever_it_is_cut(size: int) -> None:
    assert page(PAGE, size) == SEEN


def test_what_is_no_tag_goes_out_at_once_and_a_tag_when_it_ends() -> None:
    made = Links(led)
    assert made.feed(b"one<b>two <a hr") == b"one<b>two "
    assert made.feed(b'ef="/x"') == b""
    assert made.feed(b">three") == f'<a href="{PREFIX}/x">three'.encode()


def test_a_tag_without_an_end_is_held_so_far_and_no_further() -> None:
    made = Links(led)
    endless = b'<a href="' + b"x" * MAX_TAG_BYTES
    assert made.feed(endless) == endless
    assert made.feed(b'"><a href="/x">') == b'"><a href="/x">'


def test_a_gzipped_page_is_unpacked_and_packed_in_parts() -> None:
    packed = gzip.compress(PAGE.encode("utf-8", "surrogateescape") + b">" + b" " * 1_000_000)
    made, out, largest = Page(led, packed=True), b"", 0
    for at in range(0, len(packed), 100):
        for part in made.feed(packed[at : at + 100]):
            largest = max(largest, len(part))
            out += part
    plain = gzip.decompress(out + made.end()).decode("utf-8", "surrogateescape")
    assert plain.rstrip() == SEEN.rstrip() + ">"
    assert len(plain) - len(SEEN) == 1_000_001
    assert largest < 64 * 1024


@pytest.mark.parametrize("data", [b"<html>", gzip.compress(b"<a href='/x'>")[:-9]])
def test_what_is_no_whole_gzip_breaks_off(data: bytes) -> None:
    made = Page(led, packed=True)
    with pytest.raises(OSError, match="gzip"):
        b"".join([*made.feed(data), made.end()])


@pytest.mark.parametrize(
    ("status", "named", "is_page"),
    [
        (200, {"Content-Type": "text/html"}, True),
        (404, {"content-type": "Text/HTML ; charset=utf-8", "Content-Encoding": "gzip"}, True),
        (200, {"Content-Type": "text/html", "Content-Encoding": "br"}, False),
        (200, {"Content-Type": "text/htmlx"}, False),
        (200, {"Content-Type": "application/json"}, False),
        (200, {}, False),
        (302, {"Content-Type": "text/html", "Location": "/x"}, False),
        (206, {"Content-Type": "text/html"}, False),
    ],
)
def test_which_answers_are_pages(status: int, named: dict[str, str], is_page: bool) -> None:
    assert links.are_in(status, named.items()) is is_page
