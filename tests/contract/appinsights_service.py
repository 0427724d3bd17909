"""A loopback Application Insights: strict ingestion with scripted faults, tables, and a query service.

The rules and answers are those of Microsoft's ingestion protocol as documented; what the real service
would cut, this one refuses, so that nothing is cut unnoticed. Run as a script it serves until its
standard input closes, and prints its address.
"""

import contextlib
import gzip
import json
import math
import re
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from appinsights_kql import evaluate

KEY = "11111111-2222-3333-4444-555555555555"
MAX_AGE_S = 172_800
TYPES = {"MetricData": "customMetrics", "EventData": "customEvents"} | {
    "MessageData": "traces",
    "ExceptionData": "exceptions",
}


class Invalid(Exception):
    """What the service says against an item."""


class Service:
    """The service as a test sees it: `tables` by name, the requests, and `script`, one fault a request.

    A fault is None, "close" (no answer, nothing stored), "lost" (stored, no answer), ("status", code,
    headers, body), ("partial", n, code) (every n-th item fails), ("stall", seconds), or "html".
    """

    def __init__(self, *, key=KEY, token=None, certificate=None):
        self.key, self.token, self._certificate = key, token, certificate
        self.tables = {name: [] for name in TYPES.values()}
        self.requests, self.script, self.queries = [], [], []
        self.unanswered = 0  # rows that were stored without an answer
        self.lock = threading.RLock()
        self._server = None
        self.port = 0
        self.start()

    @property
    def endpoint(self):
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def connection_string(self):
        return f"InstrumentationKey={self.key};IngestionEndpoint={self.endpoint}/"

    def start(self):
        self._server = _Server(("127.0.0.1", self.port), type("Handler", (_Handler,), {"service": self}))
        if self._certificate:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """Go away: connections are refused until `start`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def away(self, seconds):
        """Go away, and come back by itself."""
        self.stop()
        threading.Timer(seconds, self.start).start()

    def rows(self, table="customMetrics", *, distinct=True):
        """The rows of a table; with `distinct` each key once."""
        with self.lock:
            rows = list(self.tables[table])
        return list({row["customDimensions"]["key"]: row for row in rows}.values()) if distinct else rows

    def copies(self):
        """How many rows repeat another one."""
        return sum(len(self.rows(name, distinct=False)) - len(self.rows(name)) for name in self.tables)

    def points(self, run_id):
        """The points of one run as a dashboard would read them."""
        found = Counter()
        for row in self.rows():
            properties = row["customDimensions"]
            if properties["run_id"] == run_id:
                found[row["name"], int(properties["step"]), row["value"]] += 1
        return found

    def ingest(self, items, raw_sizes, fault):
        """Store what is valid; return the errors as the answer lists them."""
        errors = []
        with self.lock:
            for index, item in enumerate(items):
                if isinstance(fault, tuple) and fault[0] == "partial" and index % fault[1] == 0:
                    errors.append({"index": index, "statusCode": fault[2], "message": "as the script says"})
                    continue
                try:
                    table, row = self._row(item, raw_sizes[index])
                except Invalid as invalid:
                    errors.append({"index": index, "statusCode": 400, "message": str(invalid)})
                    continue
                self.tables[table].append(row)
        return errors

    def _row(self, item, size_bytes):
        _check(size_bytes <= 65_536, f"the item has {size_bytes} bytes; expected at most 65536")
        _check(str(item.get("iKey", "")).lower() == self.key, "Invalid instrumentation key")
        at = _time(item.get("time"))
        kind, data = item["data"]["baseType"], item["data"]["baseData"]
        _check(kind in TYPES, f"{kind} is not known")
        _check(item["name"] == f"Microsoft.ApplicationInsights.{kind.removesuffix('Data')}", "name")
        _check(data.get("ver") == 2, "ver")
        properties = data.get("properties") or {}
        for name, text in properties.items():
            _check(isinstance(text, str), f"property {name} is no text")
            _check(0 < len(name) <= 150, f"property {name[:20]}... has a name of {len(name)} characters")
            _check(_units(text) <= 8192, f"property {name} has {_units(text)} characters")
        tags = item["tags"]
        row = {
            "timestamp": at,
            "itemCount": 1,
            "customDimensions": properties,
            "operation_Id": tags.get("ai.operation.id", ""),
            "operation_Name": tags.get("ai.operation.name", ""),
            "operation_ParentId": tags.get("ai.operation.parentId", ""),
            "cloud_RoleName": tags.get("ai.cloud.role", ""),
            "cloud_RoleInstance": tags.get("ai.cloud.roleInstance", ""),
        }
        return TYPES[kind], row | getattr(self, f"_{TYPES[kind]}")(data)

    @staticmethod
    def _customMetrics(data):  # noqa: N802 - the table's name
        (metric,) = data["metrics"]
        value = metric["value"]
        _check(isinstance(value, int | float) and math.isfinite(value), "value is no number")
        _check(0 < len(metric["name"]) <= 150, "the metric's name")
        return {
            "name": metric["name"],
            "value": value,
            "valueCount": metric.get("count", 1),
            "valueSum": value,
        }

    @staticmethod
    def _customEvents(data):  # noqa: N802
        _check(0 < len(data["name"]) <= 512, "the event's name")
        measurements = data.get("measurements") or {}
        _check(
            all(isinstance(one, int | float) for one in measurements.values()), "a measurement is no number"
        )
        return {"name": data["name"], "customMeasurements": measurements}

    @staticmethod
    def _traces(data):
        _check(0 < _units(data["message"]) <= 32_768, "the message's length")
        return {"message": data["message"], "severityLevel": data.get("severityLevel")}

    @staticmethod
    def _exceptions(data):
        chain = data["exceptions"]
        _check(len(chain) > 0, "exceptions")
        for one in chain:
            _check(0 < _units(one["message"]) <= 32_768, "the exception's message")
        outer, inner = chain[0], chain[-1]
        return {
            "type": outer["typeName"],
            "outerType": outer["typeName"],
            "outerMessage": outer["message"],
            "innermostType": inner["typeName"],
            "innermostMessage": inner["message"],
            "severityLevel": data.get("severityLevel"),
            "details": chain,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Say nothing: clients that give up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    service = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if re.fullmatch(r"/v2(\.1)?/track", self.path):
            self._track(body)
        elif self.path.startswith("/v1/") and self.path.endswith("/query"):
            self._query(json.loads(body))
        else:
            self._send(404, {"error": "not found"})

    def _track(self, body):
        with self.service.lock:
            fault = self.service.script.pop(0) if self.service.script else None
            self.service.requests.append((dict(self.headers), len(body)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if callable(fault):
            fault = fault()
        match fault:
            case "close":
                return self._hang_up()
            case "html":
                return self._send(200, "<html>please log in</html>")
            case ("stall", seconds):
                time.sleep(seconds)
                return self._hang_up()
            case ("status", code, headers, text):
                return self._send(code, text, headers)
        if (
            self.service.token is not None
            and self.headers.get("Authorization") != f"Bearer {self.service.token}"
        ):
            return self._send(401, {"error": "no valid token"})
        try:
            items = json.loads(body, parse_constant=_no_constant)
            json.dumps(items, ensure_ascii=False).encode()  # half a surrogate pair is no Unicode
        except ValueError as error:
            return self._send(400, f"no JSON: {error}")
        sizes = [len(json.dumps(one)) for one in items]
        errors = self.service.ingest(items, sizes, fault)
        if fault == "lost":
            self.service.unanswered += len(items) - len(errors)
            return self._hang_up()
        answer = {
            "itemsReceived": len(items),
            "itemsAccepted": len(items) - len(errors),
            "errors": errors,
        }
        code = 200 if not errors else 206 if answer["itemsAccepted"] else errors[0]["statusCode"]
        return self._send(code, answer)

    def _query(self, asked):
        with self.service.lock:
            self.service.queries.append(asked["query"])
            columns, rows = evaluate(asked["query"], self.service.tables)
        table = {"name": "PrimaryResult", "columns": columns, "rows": rows}
        self._send(200, {"tables": [table]})

    def _send(self, code, content, headers=None):
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(code)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def _hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)


def _time(text):
    _check(bool(text), "109: Field 'time' on type 'Envelope' is required but missing or empty.")
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise Invalid("102: Field 'time' on type 'Envelope' is not a valid time string.") from error
    age_s = (datetime.now(timezone.utc) - at).total_seconds()
    _check(
        age_s <= MAX_AGE_S,
        "103: Field 'time' on type 'Envelope' is older than the allowed min date. "
        f"Expected: now - {MAX_AGE_S * 1000}ms, Actual: now - {age_s * 1000:.0f}ms",
    )
    return text


def _check(holds, message):
    if not holds:
        raise Invalid(message)


def _units(text):
    return len(text.encode("utf-16-le")) // 2


def _no_constant(word):
    raise ValueError(f"{word} is not JSON")


if __name__ == "__main__":
    serving = Service()
    print(serving.connection_string, flush=True)  # noqa: T201 - whoever started it reads it
    sys.stdin.read()
    counts = {name: len(rows) for name, rows in serving.tables.items()}
    sizes = {"requests": len(serving.requests), "bytes": sum(size for _, size in serving.requests)}
    print(json.dumps(counts | sizes), flush=True)  # noqa: T201
