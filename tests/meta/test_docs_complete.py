"""Documentation is complete: every setting, command, event kind and public name is described as it is."""

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pages import blocks, page_id, pages, text_of

import mlobs
from mlobs import backends
from mlobs.backend import Batch, Capabilities, Receipt, Viewer
from mlobs.cli.app import app
from mlobs.config import load_settings
from mlobs.delivery.report import COUNTS, BackendReport
from mlobs.delivery.state import LaneState
from mlobs.events import Known, Role, Status
from mlobs.journal.format import HEAD_BYTES, MAGIC, SEGMENT_BYTES, Header
from mlobs.read.record import RunRecord
from mlobs.settings import SETTINGS, Setting

API = text_of("docs/reference/api.md")
SETTINGS_PAGE = text_of("docs/how-to/configure.md")
JOURNAL = text_of("docs/reference/journal.md")
CONCEPTS = text_of("docs/concepts.md")
COMMANDS_PAGE = text_of("docs/reference/command-line.md")
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
INTERNAL = {"log_final", "log_inputs", "note_seeding"}  # of Run: what mlobs itself calls


def default_of(setting: Setting) -> str:
    default = setting.default
    return "none" if default == () else f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_every_setting_has_its_row(setting: Setting) -> None:
    kind = setting.kind.allowed
    row = f"| `{setting.name}` | `{setting.variable}` | {default_of(setting)} | {kind} | {setting.about} |"

    assert row in SETTINGS_PAGE


def test_no_row_describes_a_setting_that_is_gone() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| `MLOBS_", SETTINGS_PAGE, re.MULTILINE)) == set(SETTINGS)


@pytest.mark.parametrize("kind", get_args(Known), ids=lambda kind: kind.__struct_config__.tag)
def test_every_kind_of_event_has_its_row(kind: Any) -> None:
    fields = ", ".join(kind.__struct_fields__)

    assert f"| `{kind.__struct_config__.tag}` | `{fields}` |" in JOURNAL


def test_the_byte_layout_is_the_one_that_is_written() -> None:
    assert " ".join(f"{byte:02x}" for byte in MAGIC) in JOURNAL
    assert f"{SEGMENT_BYTES:,}" in JOURNAL
    assert f"{HEAD_BYTES} bytes" in JOURNAL
    assert f"`journal, {', '.join(Header.__struct_fields__)}`" in JOURNAL


@pytest.mark.parametrize("role", get_args(Role))
def test_every_role_is_named(role: str) -> None:
    assert f"`{role}`" in JOURNAL


@pytest.mark.parametrize("word", [*get_args(Status), *COUNTS, *get_args(LaneState)])
def test_every_status_outcome_and_state_of_a_lane_is_explained(word: str) -> None:
    assert re.search(rf"^\| \*{{0,2}}{word}\*{{0,2}} \|", CONCEPTS, re.MULTILINE)


def signatures() -> Iterator[tuple[str, str]]:
    """Each public function, and method of a public class, as the reference has to spell it."""
    for name in mlobs.__all__:
        thing = getattr(mlobs, name)
        if inspect.isfunction(thing):
            yield name, f"{name}{plain(thing)}"
    for cls in (mlobs.Tracker, mlobs.Run, RunRecord):
        for name, method in inspect.getmembers(cls, inspect.isfunction):
            if not name.startswith("_") and not (cls is mlobs.Run and name in INTERNAL):
                yield f"{cls.__name__}.{name}", f"{name}{plain(method)}"
    for cls in (mlobs.Tracker, *(getattr(backends, name) for name in backends.__all__)):
        yield cls.__name__, f"{cls.__name__}{plain(cls)}"


def plain(thing: Any) -> str:
    """A signature without types and without `self`."""
    signature = inspect.signature(thing)
    parameters = [
        one.replace(annotation=inspect.Parameter.empty)
        for name, one in signature.parameters.items()
        if name != "self"
    ]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


@pytest.mark.parametrize(("name", "signature"), [pytest.param(*one, id=one[0]) for one in signatures()])
def test_every_function_is_described_with_its_signature(name: str, signature: str) -> None:
    assert f"`{signature}`" in API, name


@pytest.mark.parametrize("name", mlobs.__all__)
def test_every_public_name_is_described(name: str) -> None:
    assert re.search(rf"`(mlobs\.)?{re.escape(name)}\b", API)


@pytest.mark.parametrize(
    ("cls", "page"),
    [
        (RunRecord, "docs/reference/api.md"),
        (BackendReport, "docs/reference/api.md"),
        (Capabilities, "docs/how-to/write-a-backend.md"),
        (Batch, "docs/how-to/write-a-backend.md"),
        (Receipt, "docs/how-to/write-a-backend.md"),
        (Viewer, "docs/how-to/write-a-backend.md"),
    ],
)
def test_every_field_is_described(cls: Any, page: str) -> None:
    text = text_of(page)

    fields = [name for name in cls.__dataclass_fields__ if not name.startswith("_")]
    assert not [name for name in fields if f"`{name}`" not in text]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_described_with_its_options(name: str) -> None:
    section = COMMANDS_PAGE.partition(f"\n## mlobs {name}\n")[2].partition("\n## ")[0]

    assert section, "it has no section"
    options = [option for one in COMMANDS[name].params for option in one.opts if option.startswith("--")]
    assert not [one for one in options if f"`{one}" not in section]


@pytest.mark.parametrize("page", [pytest.param(page, id=page_id(page)) for page in pages()])
def test_configuration_files_on_a_page_are_taken(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "toml" and not block.code.startswith("# pyproject.toml"):
            (tmp_path / "mlobs.toml").write_text(block.code, encoding="utf-8")
            assert load_settings(cwd=tmp_path, env={}).backends, f"line {block.line}"


def test_the_command_lines_on_the_pages_can_be_typed() -> None:
    for page in pages():
        for block in blocks(page):
            if block.language not in ("sh", "console"):
                continue
            for line in block.code.splitlines():
                words = shlex.split(
                    line.removeprefix("$ ").partition(" | ")[0].partition("   ")[0], comments=True
                )
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words = words[1:]
                if words[:1] == ["mlobs"] and words[1:] and not words[1].startswith("-"):
                    assert words[1] in COMMANDS, f"{page_id(page)}:{block.line}: {line}"
                    parse(COMMANDS[words[1]], words[2:])


def parse(command: Any, arguments: list[str]) -> None:
    """Parse the arguments as the command would; raise if they cannot be typed so."""
    command.make_context(command.name, arguments)
