"""As much of KQL as the backend's own queries need, over the loopback service's tables.

`where COLUMN == 'text'`, `where hash(EXPRESSION, n) == k`, `project NAME = COLUMN, ...` and
`summarize NAME = count(), NAME = count_distinct(EXPRESSION)`; anything else is an error.
"""

import json
import re
import zlib

WORKSPACE = {
    "AppMetrics": ("customMetrics", {"TimeGenerated": "timestamp", "Name": "name", "Sum": "valueSum"}),
    "AppEvents": (
        "customEvents",
        {"TimeGenerated": "timestamp", "Name": "name", "Measurements": "customMeasurements"},
    ),
    "AppTraces": (
        "traces",
        {"TimeGenerated": "timestamp", "Message": "message", "SeverityLevel": "severityLevel"},
    ),
    "AppExceptions": (
        "exceptions",
        {"TimeGenerated": "timestamp", "ExceptionType": "type", "OuterMessage": "outerMessage"},
    ),
}
SHARED = {"Properties": "customDimensions", "OperationId": "operation_Id"}
DYNAMIC = {"customDimensions", "customMeasurements"}
PROPERTY = re.compile(r"tostring\((\w+)\.(\w+)\)")


def evaluate(query, tables):
    """The columns and rows of a query's answer, as the query service's JSON has them."""
    source, *steps = [one.strip() for one in query.split("\n| ")]
    names = {}
    if source in WORKSPACE:
        source, names = WORKSPACE[source]
        names = names | SHARED
    rows = tables[source]
    answer = None
    for step in steps:
        word, _, rest = step.partition(" ")
        match word:
            case "where":
                rows = [row for row in rows if holds(rest, row, names)]
            case "summarize":
                answer = summarized(rest, rows, names)
            case "project":
                answer = projected(rest, rows, names)
            case _:
                raise ValueError(f"no query of ours has the step {step!r}")
    return answer


def holds(condition, row, names):
    if match := re.fullmatch(r"(\w+) == '((?:[^'\\]|\\.)*)'", condition):
        return row[names.get(match[1], match[1])] == re.sub(r"\\(.)", r"\1", match[2])
    if match := re.fullmatch(r"hash\((.*), (\d+)\) == (\d+)", condition):
        return zlib.crc32(value_of(match[1], row, names).encode()) % int(match[2]) == int(match[3])
    raise ValueError(f"no query of ours has the condition {condition!r}")


def value_of(expression, row, names):
    match = PROPERTY.fullmatch(expression)
    return row[names.get(match[1], match[1])].get(match[2], "")


def summarized(text, rows, names):
    answer = {}
    for part in text.split(", "):
        name, _, aggregate = part.partition(" = ")
        match = re.fullmatch(r"count_distinct\((.*)\)", aggregate)
        if match:
            answer[name] = len({value_of(match[1], row, names) for row in rows})
        else:
            assert aggregate == "count()", aggregate
            answer[name] = len(rows)
    return [{"name": name, "type": "long"} for name in answer], [list(answer.values())]


def projected(text, rows, names):
    pairs = [part.partition(" = ")[::2] for part in text.split(", ")]
    columns = [(ours, names.get(theirs, theirs)) for ours, theirs in pairs]
    kinds = {"timestamp": "datetime", "value": "real", "valueSum": "real", "severityLevel": "int"}
    described = [
        {"name": ours, "type": "dynamic" if theirs in DYNAMIC else kinds.get(theirs, "string")}
        for ours, theirs in columns
    ]
    cells = [
        [json.dumps(row[theirs]) if theirs in DYNAMIC else row[theirs] for _, theirs in columns]
        for row in rows
    ]
    return described, cells
