# ruff: noqa: INP001 - mkdocs reads it as a file
"""What turns README.md and docs/ into a site; the files themselves stay as a code host shows them.

- The home page is README.md, and its list under "Documentation" is the table of contents.
- The reference of Python is made from the docstrings, that of the command line from the commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PYTHON, COMMANDS, CHANGES, LICENCE = (
    "reference/python.md",
    "reference/commands.md",
    "changes.md",
    "licence.md",
)
_LINK = re.compile(r"\[(?P<title>[^\]]+)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
_SECTIONS = {"how-to": "How to", "reference": "Reference", "decisions": "Decisions"}
_MARKER = re.compile(r"(?:[-*]|\d+\.) +")  # of a list's item
_FENCE = re.compile(r"(?P<fence> *```\w*)(?: .*)?$")
_ITEM = re.compile(r"^- (?P<words>.*(?:\n  .*)*)", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the table of contents."""
    pages = sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))
    config.nav = contents((ROOT / "README.md").read_text(encoding="utf-8"), pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/."""
    pages = {
        "index.md": home((ROOT / "README.md").read_text(encoding="utf-8")),
        CHANGES: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        LICENCE: f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text(encoding='utf-8')}\n```\n",
        PYTHON: python_reference(),
        COMMANDS: command_reference(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Spell what MkDocs' dialect of Markdown takes otherwise than code hosts do."""
    return "\n".join(_spelled_for_mkdocs(markdown.splitlines()))


def _spelled_for_mkdocs(lines: Iterable[str]) -> Iterator[str]:
    """Fences without the remarks behind their language; 4 spaces where a list goes on; air before a list."""
    width, before, is_fenced = 0, "", False
    for line in lines:
        marker = None if is_fenced else _MARKER.match(line)
        if marker is not None:
            if before and width == 0:
                yield ""
            width = len(marker[0])
        elif line and not line.startswith(" " * width):
            width = 0
        spelled = f"    {line[width:]}" if width and marker is None and line else line
        if _FENCE.match(line):
            is_fenced = not is_fenced
            spelled = _FENCE.sub(r"\g<fence>", spelled)
        yield spelled
        before = line


def home(readme: str) -> str:
    """README.md with its links as they are from the site's home."""

    def moved(match: re.Match[str]) -> str:
        target = {"CHANGELOG.md": CHANGES, "LICENSE": LICENCE}.get(match["target"], match["target"])
        return f"[{match['title']}]({target.removeprefix('docs/')}{match['anchor'] or ''})"

    return _LINK.sub(moved, readme)


def contents(readme: str, pages: Iterable[str]) -> list[Any]:
    """The table of contents: README.md's list of pages, one entry for each of its items.

    `pages` are those of docs/; one that the list leaves to another page comes last in its folder's section.
    """
    listed = readme.partition("\n## Documentation\n")[2].partition("\n## ")[0]
    sections: dict[str, list[Any]] = {}
    for item in _ITEM.finditer(listed):
        links = [(one["title"].strip("`"), one["target"]) for one in _LINK.finditer(item["words"])]
        name = item["words"].partition(":")[0]
        name = name if "](" not in name else links[0][0]
        sections[name] = [{_title(title): target.removeprefix("docs/")} for title, target in links]
    known = {path for section in sections.values() for entry in section for path in entry.values()}
    for page in pages:
        if page not in known:
            sections.setdefault(_SECTIONS.get(page.partition("/")[0], "More"), []).append(page)
    sections["Reference"] += [{"Python, from its docstrings": PYTHON}, {"Commands, from --help": COMMANDS}]
    sections["Changes"] = [{"Changes": CHANGES}, {"Licence": LICENCE}]
    return [{"Home": "index.md"}, *({name: of} for name, of in sections.items())]


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def python_reference() -> str:
    """A page that mkdocstrings fills: every public name, what it is, and its docstring."""
    import mlobs
    from mlobs import backends

    public = [name for name in mlobs.__all__ if name not in ("__version__", "backends")]
    kinds: dict[str, list[str]] = {"Classes": [], "Errors": [], "Functions": []}
    for name in public:
        kinds[_kind(getattr(mlobs, name))].append(f"mlobs.{name}")
    kinds["Backends"] = [f"mlobs.backends.{name}" for name in backends.__all__]
    kinds["For authors of backends"] = ["mlobs.backend"]
    sections = [f"## {kind}\n\n{_directives(names)}" for kind, names in kinds.items()]
    about = "Made from the docstrings. [Python](api.md) says the same by subject, with examples."
    return "\n\n".join(["# Python, from its docstrings", about, *sections])


def _kind(thing: object) -> str:
    if isinstance(thing, type):
        return "Errors" if issubclass(thing, Exception) else "Classes"
    return "Functions"


def _directives(names: Iterable[str]) -> str:
    return "\n\n".join(f"::: {name}" for name in names)


def command_reference() -> str:
    """Every command with its help and a table of its options."""
    import typer

    from mlobs.cli.app import app

    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    about = "Made from the commands themselves. [Command line](command-line.md) explains what they print."
    sections = [_command(name, command) for name, command in commands.items()]
    return "\n\n".join(["# Commands, from `--help`", about, *sections])


def _command(name: str, command: Any) -> str:
    arguments = " ".join(
        one.metavar or one.name.upper() for one in command.params if one.param_type_name == "argument"
    )
    rows = [f"| {_spelled(one)} | {_cell(one.help or '')} |" for one in command.params]
    usage = f"```text\nmlobs {name} [OPTIONS] {arguments}".rstrip() + "\n```"
    table = "\n".join(["| argument or option | what it does |", "| --- | --- |", *rows])
    return "\n\n".join([f"## mlobs {name}", usage, _help(command.help or ""), table])


def _help(text: str) -> str:
    r"""Paragraphs; those that begin with \b keep their lines, as they do in a terminal."""
    paragraphs = [one.strip("\n") for one in text.replace("\b\n", "\b").split("\n\n")]
    return "\n\n".join(f"```text\n{one[1:]}\n```" if one.startswith("\b") else one for one in paragraphs)


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    takes = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(f"`{one}{takes}`" for one in parameter.opts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
