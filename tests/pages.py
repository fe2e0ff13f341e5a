"""What a page of `mmnet.evaluation.html_page` holds, as its reader's browser parses it."""

from html import unescape as unescaped
from html.parser import HTMLParser

__all__ = ["Page", "unescaped"]


class Page(HTMLParser):
    """Tables, scripts and text of a page.

    Attributes:
        tables: caption -> rows of (text, number behind it or None); the header is the first row.
        scripts: how many script elements there are.
        text: all text outside style and script.
    """

    def __init__(self, text):
        super().__init__()
        self.tables, self.scripts, self.text, self.tags = {}, 0, "", []
        self._rows, self._caption = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.scripts += tag == "script"
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            value = dict(attributes).get("data-value")
            self._rows[-1].append(["", None if value is None else float(value)])

    def handle_endtag(self, tag):
        if tag == "table":
            rows = [row for row in self._rows if row]
            header = next(n for n, row in enumerate(rows) if row[0][0])
            self.tables[self._caption] = [[tuple(cell) for cell in row] for row in rows[header:]]
        while self.tags and self.tags.pop() != tag:
            pass

    def handle_data(self, data):
        inside = self.tags[-1] if self.tags else ""
        if inside in ("style", "script"):
            return
        self.text += data
        if inside == "caption":
            self._caption += data.replace("\xa0", " ")
        elif self._rows and {"td", "th"} & set(self.tags):
            self._rows[-1][-1][0] += data.strip("\n").replace("\xa0", " ")

    def values(self, caption):
        """Name of the row -> the numbers behind its other cells."""
        return {row[0][0]: [value for _, value in row[1:]] for row in self.tables[caption][1:]}
