"""The documentation as text: its pages, and the fenced blocks in them."""

import re
from dataclasses import dataclass
from pathlib import Path

from source_tree import ROOT

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
FILE = re.compile(r"# file: (?P<name>[\w.]+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is that of its first line of code, counted from 1."""

    page: Path
    line: int
    language: str
    remark: str
    code: str

    @property
    def reason_not_to_run(self) -> str | None:
        """What stands behind `no-run:`, None if the block is to be run."""
        mark, _, reason = self.remark.partition(":")
        return reason.strip() if mark == "no-run" else None

    @property
    def file_name(self) -> str | None:
        """The name of the file that a reader saves the block as: its first line is `# file: NAME`."""
        match = FILE.match(self.code)
        return match["name"] if match else None


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, _, remark = match["info"].strip().partition(" ")
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(page, line, language, remark.strip(), match["code"]))
    return found


def page_id(page: Path) -> str:
    """The page's path, for the names of tests."""
    return page.relative_to(ROOT).as_posix()


def text_of(path: str) -> str:
    """The text of one page, by its path from the root."""
    return (ROOT / path).read_text(encoding="utf-8")
