"""The HTML page of a report."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "hr", "link", "input"}


class Strict(HTMLParser):
    """Holds that elements are closed in order; keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        self.note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.note(tag, attrs)

    def note(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def test_page(run, results, tmp_path, matplotlib):
    run("report", results, "-o", "r.html")
    text = (tmp_path / "r.html").read_text()
    page = Strict()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert "<script" not in text
    tags = [tag for tag, _ in page.seen]
    assert (tags.count("h1"), tags.count("h2"), tags.count("svg")) == (1, 4, 6)
    assert tags.count("table") == tags.count("caption") > 10
    for tag, attributes in page.seen:
        for key, value in attributes.items():
            assert key.startswith("xmlns") or not re.search(r"https?:|//", value or ""), (tag, key, value)
            if key in ("href", "xlink:href", "clip-path", "aria-labelledby"):
                names = value.split() if key == "aria-labelledby" else re.findall("#([^)]*)", value)
                assert names, (tag, key, value)
                assert {*names} <= {*page.ids}, (tag, key, value)
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if tag == "svg":
            assert attributes["role"] == "img"
    assert not re.search(r"url\((?!#)|@import", text)
    assert "base 100 at 4k, 0 at 16k; tiny-dpe 88 at 4k" in text  # for who does not see the picture
    assert "a &lt;small&gt; machine" in text
    assert "<strong>At 16k tokens, dpe: −2.59 nats; base: −10.50 nats; " in text
    assert "<td><strong>88</strong> <span" in text
    assert "Perplexity (names without “tiny-”)" in text
    assert "prefers-color-scheme: dark" in text


def test_names_are_short_and_the_best_is_bold(run, results, tmp_path, matplotlib):
    run("report", results / "tiny" / "passkey.jsonl", "-o", "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "Exact match, percent of the questions (names without “tiny-”)" in text
    assert '<th scope="row">yarn</th><td>' in text
    assert "--lengths: 2" in text
