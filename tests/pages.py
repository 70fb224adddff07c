"""A page taken apart, as a browser would: tags, attributes, text."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects tags, attributes and text; fails where tags do not nest."""

    VOID = ("meta", "img", "br", "link", "rect", "input")

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def foreign(page: Page) -> list[tuple[str, str]]:
    """Return every attribute by which something could be loaded from elsewhere or run."""
    ours = ("#", "data:image/png;base64,", "data:image/svg+xml;base64,")
    return [
        (name, value)
        for name, value in page.attributes
        if name.startswith("on")
        or name == "style"
        or (name in ("src", "href", "srcset", "data", "action") and not value.startswith(ours))
    ]
