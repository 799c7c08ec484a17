"""A page as elements that tests can ask."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from medaug.report.page import write_report

VOID = {"meta", "img", "col", "br"}


class Element:
    """A tag, its attributes and what is inside."""

    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag, self.attributes = tag, attributes
        self.inside: list[Element | str] = []

    def walk(self) -> Iterator["Element"]:
        yield self
        for child in self.inside:
            if isinstance(child, Element):
                yield from child.walk()

    def find(self, tag: str | None = None, **attributes: str) -> list["Element"]:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.walk()
            if tag in (None, element.tag) and wanted.items() <= element.attributes.items()
        ]

    @property
    def text(self) -> str:
        parts = (child if isinstance(child, str) else child.text for child in self.inside)
        return " ".join("".join(parts).split())

    @property
    def figures(self) -> list[tuple[float, str]]:
        """Every figure inside: its exact value and what is shown."""
        return [(float(data.attributes["value"] or ""), data.text) for data in self.find("data")]


class Page(HTMLParser):
    """Parses strictly: every tag that opens closes, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.root = Element("page", {})
        self._open = [self.root]
        self.feed(self.source)
        self.close()
        assert [element.tag for element in self._open] == ["page"], "a tag is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> says {names} twice"
        element = Element(tag, dict(attrs))
        self._open[-1].inside.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].inside.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> at {self.getpos()} closes something else"

    def handle_data(self, data: str) -> None:
        self._open[-1].inside.append(data)


def report(run: Path) -> Page:
    path = write_report(run)
    assert path == run / "report.html"
    return Page(path)


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def change(run: Path, name: str, **changes: Any) -> None:
    (run / name).write_text(json.dumps(read(run, name) | changes), encoding="utf-8")
