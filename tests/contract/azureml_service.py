"""An Azure ML workspace on 127.0.0.1: the REST services that azureml-core speaks to, kept in memory.

Discovery, resource manager, run history, metrics v2, artifacts, tokens, and blobs over plain HTTP; with
`blobs`, signed addresses of another storage (Azurite) are handed out instead. It is as strict as Azure is
documented to be: limits, write-once properties and artifacts, metric ids that count once.
"""

import base64
import http.server
import json
import re
import ssl
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUBSCRIPTION, GROUP, WORKSPACE = "sub", "rg", "ws"
SCOPE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
)
MOST_TEXTS, MOST_NAMES, MOST_ROWS, MOST_SERIES, MOST_COLUMNS = 50, 50, 250, 50, 15
STATUS = {"Start": "Running", "Completed": "Completed", "Failed": "Failed", "Canceled": "Canceled"}


def token(lifetime_s: float = 3600.0) -> str:
    """A token that reads like one of Azure's; nobody checks its signature."""
    parts = ({"alg": "none", "typ": "JWT"}, {"exp": int(time.time() + lifetime_s), "tid": "tenant"})
    words = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*words, "c2ln"))


def forget_tokens() -> None:
    """End the SDK's timer that renews the tokens of jobs: it would go on beside other tests."""
    from azureml.core.authentication import AzureMLTokenAuthentication

    if AzureMLTokenAuthentication._daemon is not None:
        AzureMLTokenAuthentication._daemon.stop()
        AzureMLTokenAuthentication._daemon = None
    AzureMLTokenAuthentication._registered_auth.clear()
    AzureMLTokenAuthentication._host_clientbase.clear()


@dataclass
class Fault:
    """What happens to requests whose "METHOD path" matches, `times` times; `times` None: for ever."""

    where: str
    status: int = 500
    times: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None  # None: an error as Azure ML spells it
    delay_s: float = 0.0
    is_dropped: bool = False  # the connection is closed without an answer
    is_lost: bool = False  # the request is carried out, and the answer is replaced


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str = "UserError") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def error_body(message: str, code: str = "UserError", *, details: Any = ()) -> dict[str, Any]:
    details = None if details is None else list(details)
    root = {"code": code, "severity": None, "message": message, "details": details, "innerError": None}
    return {"error": root, "correlation": {}, "environment": "test", "location": "here"}


@dataclass
class AzureMLService:
    """The workspace's state, and what it does to the next requests."""

    uri: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    artifacts: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    refused_metrics: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: (code, message), by 207
    valid_tokens: set[str] | None = None  # None: every token is taken
    new_tokens: list[str] = field(default_factory=list)  # what the next renewals of a run's token give
    signed: Callable[[str, str], str] | None = None  # (blob, permissions) -> address of another storage
    lock: threading.RLock = field(default_factory=threading.RLock)

    # --- what tests ask

    def environment(
        self, run_id: str, experiment: str = "job-experiment", *, jwt: str = ""
    ) -> dict[str, str]:
        """The environment of a job, whose run is made if it is missing."""
        with self.lock:
            if run_id not in self.runs:
                self.patch_run(experiment, run_id, {"status": "Running", "target": "cluster"})
                self.runs[run_id]["status"] = "Running"
        return {
            "AZUREML_ARM_SUBSCRIPTION": SUBSCRIPTION,
            "AZUREML_ARM_RESOURCEGROUP": GROUP,
            "AZUREML_ARM_WORKSPACE_NAME": WORKSPACE,
            "AZUREML_ARM_PROJECT_NAME": experiment,
            "AZUREML_RUN_ID": run_id,
            "AZUREML_RUN_TOKEN": jwt or token(),
            "AZUREML_SERVICE_ENDPOINT": self.uri,
            "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{self.uri}/discovery",
        }

    def fail(self, where: str, **fault: Any) -> Fault:
        """Make requests whose "METHOD path" matches go wrong."""
        self.faults.insert(0, Fault(where, **fault))
        return self.faults[0]

    def recover(self) -> None:
        self.faults.clear()

    # --- run history

    def experiment(self, name: str) -> dict[str, Any]:
        if name not in self.experiments:
            raise Refusal(404, f"experiment {name} not found", "UserError")
        return {"experimentId": self.experiments[name], "name": name, "description": None, "tags": {}}

    def create_experiment(self, name: str) -> dict[str, Any]:
        assert re.fullmatch(r"[a-zA-Z0-9][\w\-]{0,254}", name, re.ASCII), name
        self.experiments.setdefault(name, str(uuid.uuid4()))
        return self.experiment(name)

    def run(self, run_id: str, experiment: str | None = None) -> dict[str, Any]:
        found = self.runs.get(run_id)
        if found is None or experiment not in (None, found["_experiment"]):
            raise Refusal(404, f"Run {run_id} was not found")
        return {key: value for key, value in found.items() if not key.startswith("_")}

    def patch_run(self, experiment: str, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        assert re.fullmatch(r"[a-zA-Z0-9][\w\-]{0,255}", run_id, re.ASCII), run_id
        self.create_experiment(experiment)
        run = self.runs.get(run_id) or self._new_run(experiment, run_id, body)
        tags = {**run["tags"], **(body.get("tags") or {})}
        properties = dict(run["properties"])
        for name, text in (body.get("properties") or {}).items():
            if properties.get(name, text) != text:
                raise Refusal(400, f"property {name} is immutable")
            properties[name] = text
        for texts, what in ((tags, "tags"), (properties, "properties")):
            if len(texts) > MOST_TEXTS:
                raise Refusal(400, f"a run has at most {MOST_TEXTS} {what}")
            for name, text in texts.items():
                if len(name) > 100 or len(text or "") > 1000:
                    raise Refusal(400, f"{what}: {name} is too long")
        run |= {"tags": tags, "properties": properties}
        run |= {key: body[key] for key in ("displayName", "description") if body.get(key)}
        self.runs[run_id] = run
        return self.run(run_id)

    def _new_run(self, experiment: str, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        parent = body.get("parentRunId")
        if parent is not None and self.runs[parent]["_experiment"] != experiment:
            raise Refusal(400, "the parent is in another experiment")
        return {
            "_experiment": experiment,
            "runNumber": len(self.runs) + 1,
            "runId": run_id,
            "rootRunId": self.runs[parent]["rootRunId"] if parent else run_id,
            "parentRunId": parent,
            "experimentId": self.experiments[experiment],
            "dataContainerId": f"dcid.{run_id}",
            "status": body.get("status") or "NotStarted",
            "createdUtc": _iso(time.time()),
            "startTimeUtc": None,
            "endTimeUtc": None,
            "name": body.get("name"),
            "displayName": body.get("displayName"),
            "target": body.get("target"),
            "tags": {},
            "properties": {},
        }

    def post_event(self, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        run, name, data = self.runs[run_id], body["name"].rpartition(".")[2], body["data"]
        self.events.append((run_id, name))
        if name == "Error":
            run["error"] = data["ErrorResponse"]
        if name in STATUS:
            run["status"] = STATUS[name]
        if "StartTime" in data:
            run |= {"startTimeUtc": data["StartTime"], "endTimeUtc": None}
        if "EndTime" in data:
            run["endTimeUtc"] = data["EndTime"]
        return {}

    def delete_tags(self, run_id: str, names: list[str]) -> dict[str, Any]:
        for name in names:
            self.runs[run_id]["tags"].pop(name, None)
        return self.run(run_id)

    # --- metrics

    def post_metrics(self, run_id: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        held, errors = self.metrics.setdefault(run_id, {}), []
        if len(body["values"]) > MOST_SERIES:
            raise Refusal(400, f"at most {MOST_SERIES} metrics in a batch")
        for metric in body["values"]:
            message = self._refusal(held, metric)
            if message is not None:
                code, text = message
                errors.append({"metric": metric, "errorResponse": error_body(text, code)})
                continue
            known = held.setdefault(metric["name"], {**metric, "value": [], "_ids": set()})
            for row in metric["value"]:
                if row["metricId"] not in known["_ids"]:
                    known["_ids"].add(row["metricId"])
                    known["value"].append(row)
        return (207, {"errors": errors}) if errors else (200, {})

    def _refusal(self, held: dict[str, Any], metric: dict[str, Any]) -> tuple[str, str] | None:
        name = metric["name"]
        if name in self.refused_metrics:
            return self.refused_metrics[name]
        if name not in held and len(held) >= MOST_NAMES:
            return "UserError", f"a run has at most {MOST_NAMES} metrics"
        if len(metric["value"]) > MOST_ROWS:
            return (
                "UserError",
                "A field of the entity is over the size limit. FieldName=MetricV2Dto.Value/Count",
            )
        if len(metric["columns"]) > MOST_COLUMNS or any(len(one) > 255 for one in metric["columns"]):
            return "UserError", "too many columns, or a name that is too long"
        if name in held and held[name]["columns"] != metric["columns"]:
            return "UserError", f"metric {name} has other columns"
        for row in metric["value"]:
            if set(row["data"]) != set(metric["columns"]):
                return "UserError", "a row has other columns"
            if any(isinstance(one, str) and len(one) > 255 for one in row["data"].values()):
                return "UserError", "a cell is too long"
        return None

    def list_metrics(self, run_id: str) -> dict[str, Any]:
        held = self.metrics.get(run_id, {})
        rows = [
            {"metricKey": {"namespace": "", "name": one}, "columns": held[one]["columns"]} for one in held
        ]
        return {"value": rows, "continuationToken": None}

    def full_metric(self, run_id: str, name: str) -> dict[str, Any]:
        found = self.metrics.get(run_id, {}).get(name)
        if found is None:
            raise Refusal(404, f"metric {name} not found")
        public = {key: value for key, value in found.items() if not key.startswith("_")}
        return {**public, "dataContainerId": f"dcid.{run_id}", "continuationToken": None}

    def register_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        known = next((one for one in self.datasets if _definition(one) == _definition(body)), None)
        if known is None:
            known = {**body, "datasetId": str(uuid.uuid4())}
            version = str(1 + sum(one["name"] == body["name"] for one in self.datasets))
            known["latest"] |= {"savedDatasetId": str(uuid.uuid4()), "versionId": version}
            self.datasets.append(known)
        return known

    def data_version(self, saved_id: str) -> dict[str, Any]:
        found = next(one for one in self.datasets if one["latest"]["savedDatasetId"] == saved_id)
        return {"legacyDataflow": found["latest"]["dataflow"]}

    # --- artifacts

    def create_artifacts(self, container: str, paths: list[str]) -> dict[str, Any]:
        held = self.artifacts.setdefault(container, {})
        made, contents, errors = {}, {}, {}
        for given in paths:
            path = given.removeprefix("./")
            if path in held:
                words = f"Resource Conflict: ArtifactId ExperimentRun/{container}/{path} already exists."
                errors[given] = error_body(words)
                continue
            held[path] = self._artifact(container, path)
            made[given] = held[path]
            contents[given] = self.content(container, path, "rcw")
        return {"artifacts": made, "artifactContentInformation": contents, "errors": errors}

    def _artifact(self, container: str, path: str) -> dict[str, Any]:
        known = {"origin": "ExperimentRun", "container": container, "path": path}
        return {**known, "artifactId": f"ExperimentRun/{container}/{path}", "createdTime": _iso(time.time())}

    def content(self, container: str, path: str, permissions: str = "r") -> dict[str, Any]:
        if path not in self.artifacts.get(container, {}):
            raise Refusal(404, f"artifact {path} not found")
        blob = f"ExperimentRun/{container}/{path}"
        if self.signed is not None:
            uri = self.signed(blob, permissions)
        else:
            uri = f"{self.uri}/account/azureml/{urllib.parse.quote(blob)}?sig=x&sp={permissions}"
        return {"contentUri": uri, "origin": "ExperimentRun", "container": container, "path": path}

    def list_contents(self, container: str, prefix: str) -> dict[str, Any]:
        paths = [one for one in self.artifacts.get(container, {}) if one.startswith(prefix)]
        return {"value": [self.content(container, one) for one in paths], "continuationToken": None}

    def list_artifacts(self, container: str) -> dict[str, Any]:
        return {"value": list(self.artifacts.get(container, {}).values()), "continuationToken": None}


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"


def _answer(service: AzureMLService, method: str, path: str, body: Any) -> tuple[int, Any]:
    """The table of the services: the first pattern that matches answers."""
    for pattern, action in ROUTES:
        match = re.fullmatch(pattern, f"{method} {path}")
        if match:
            answer = action(service, body, *match.groups())
            return answer if isinstance(answer, tuple) else (200, answer)
    raise Refusal(404, f"no such service: {method} {path}")


def _addresses(service: AzureMLService) -> dict[str, str]:
    names = ("api", "experimentation", "history", "hyperdrive", "modelmanagement", "studio")
    return dict.fromkeys(names, service.uri)


def _workspace(service: AzureMLService) -> dict[str, Any]:
    properties = {"discoveryUrl": f"{service.uri}/discovery", "workspaceId": "wsid"}
    return {"id": SCOPE, "name": WORKSPACE, "location": "here", "properties": properties}


def _definition(dataset: dict[str, Any]) -> tuple[str, str]:
    return dataset["name"], dataset["latest"]["dataflow"]


def _details(service: AzureMLService, run_id: str) -> dict[str, Any]:
    run = service.run(run_id)
    known = {key: run[key] for key in ("runId", "status", "properties")}
    return {
        **known,
        "logFiles": {},
        "inputDatasets": [],
        "outputDatasets": [],
        "startTimeUtc": run["startTimeUtc"],
    }


def _children(service: AzureMLService, run_id: str) -> dict[str, Any]:
    found = [service.run(one) for one, run in service.runs.items() if run["parentRunId"] == run_id]
    return {"value": found, "continuationToken": None}


def _new_token(service: AzureMLService) -> dict[str, Any]:
    if not service.new_tokens:
        raise Refusal(401, "no new token", "AuthenticationError")
    return {"token": service.new_tokens.pop(0), "expiryTimeUtc": _iso(time.time() + 3600)}


_SUBSCRIPTION = {
    "id": f"/subscriptions/{SUBSCRIPTION}",
    "subscriptionId": SUBSCRIPTION,
    "displayName": "one",
    "state": "Enabled",
}
_W, _H = re.escape(SCOPE), rf"/history/v1\.0{re.escape(SCOPE)}"
_E = rf"{_H}/experiments/([^/]+)"
ROUTES: list[tuple[str, Callable[..., Any]]] = [
    (rf"GET {_W}", lambda s, _: _workspace(s)),
    (r"GET /subscriptions", lambda *_: {"value": [_SUBSCRIPTION]}),
    (r"GET /rp/workspaces.*", lambda s, _: _workspace(s)),
    (r"GET /discovery", lambda s, _: _addresses(s)),
    (rf"GET {_E}", lambda s, _, name: s.experiment(name)),
    (rf"POST {_E}", lambda s, _, name: s.create_experiment(name)),
    (rf"GET {_H}/runs/([^/]+)", lambda s, _, run: s.run(run)),
    (
        rf"GET {_H}/experimentids/([^/]+)",
        lambda s, _, one: s.experiment({i: n for n, i in s.experiments.items()}[one]),
    ),
    (rf"GET {_H}/experimentids/[^/]+/runs/([^/]+)", lambda s, _, run: s.run(run)),
    (rf"GET {_E}/runs/([^/]+)", lambda s, _, name, run: s.run(run, name)),
    (rf"PATCH {_E}/runs/([^/]+)", lambda s, body, name, run: s.patch_run(name, run, body)),
    (rf"DELETE {_E}/runs/([^/]+)/tags", lambda s, body, _, run: s.delete_tags(run, body)),
    (rf"POST {_E}/runs/([^/]+)/events", lambda s, body, _, run: s.post_event(run, body)),
    (rf"GET {_E}/runs/([^/]+)/children.*", lambda s, _, _name, run: _children(s, run)),
    (rf"GET {_E}/runs/([^/]+)/details", lambda s, _, _name, run: _details(s, run)),
    (rf"GET {_E}/runs/([^/]+)/token", lambda s, _, _name, _run: _new_token(s)),
    (rf"GET {_E}/runs/([^/]+)/metricsingest/wait", lambda *_: {}),
    (
        rf"POST {_E}/runs/([^/]+)/artifacts/batch/metadata",
        lambda s, body, _, run: s.create_artifacts(f"dcid.{run}", [one["path"] for one in body["paths"]]),
    ),
    (rf"GET {_E}/runs/([^/]+)/artifacts", lambda s, _, _name, run: s.list_artifacts(f"dcid.{run}")),
    (rf"POST /dataset/v1\.0{_W}/datasets", lambda s, body: s.register_dataset(body)),
    (
        rf"GET /data/v1\.0{_W}/dataversion/unregistered-([^/]+)/versions/1",
        lambda s, _, one: s.data_version(one),
    ),
    (rf"POST /metric/v2\.0{_W}/runs/([^/]+)/batch", lambda s, body, run: s.post_metrics(run, body)),
    (rf"POST /metric/v2\.0{_W}/runs/([^/]+)/list", lambda s, _, run: s.list_metrics(run)),
    (
        rf"POST /metric/v2\.0{_W}/runs/([^/]+)/full",
        lambda s, body, run: s.full_metric(run, body["metricName"]),
    ),
    (
        rf"POST /artifact/v2\.0{_W}/artifacts/batch/metadata/ExperimentRun/([^/]+)",
        lambda s, body, container: s.create_artifacts(container, [one["path"] for one in body["paths"]]),
    ),
    (
        rf"GET /artifact/v2\.0{_W}/artifacts/prefix/contentinfo/ExperimentRun/([^/]+)/(.*)",
        lambda s, _, container, prefix: s.list_contents(container, prefix),
    ),
    (
        rf"GET /artifact/v2\.0{_W}/artifacts/contentinfo/ExperimentRun/([^/]+)/(.+)",
        lambda s, _, container, path: s.content(container, path),
    ),
    (
        rf"GET /artifact/v2\.0{_W}/artifacts/ExperimentRun/([^/]+)",
        lambda s, _, container: s.list_artifacts(container),
    ),
]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: AzureMLService

    def answer(self) -> None:
        service = self.service
        raw = self._body()
        path = urllib.parse.unquote(self.path.partition("?")[0])
        asked = f"{self.command} {path}"
        with service.lock:
            service.requests.append(asked)
            fault = self._fault(asked)
        if fault is not None and fault.delay_s:
            time.sleep(fault.delay_s)
        if fault is not None and not fault.is_lost:
            self._go_wrong(fault)
            return
        if path.startswith("/account/"):
            self._blob(path, raw, is_silent=fault is not None)
        else:
            self._json(*self._served(path, raw), is_silent=fault is not None)
        if fault is not None:
            self._go_wrong(fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _fault(self, asked: str) -> Fault | None:
        for fault in self.service.faults:
            if fault.times != 0 and re.search(fault.where, asked):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def _go_wrong(self, fault: Fault) -> None:
        if fault.is_dropped:
            self.close_connection = True
            self.connection.close()
            return
        body = error_body("the test says so", "ServiceError") if fault.body is None else fault.body
        self._json(fault.status, body, headers=fault.headers)

    def _served(self, path: str, raw: bytes) -> tuple[int, Any]:
        service = self.service
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with service.lock:
            try:
                if (
                    path != "/discovery"
                    and service.valid_tokens is not None
                    and given not in service.valid_tokens
                ):
                    return 401, error_body("the token is not valid", "AuthenticationError")
                return _answer(service, self.command, path, json.loads(raw) if raw else None)
            except Refusal as refusal:
                return refusal.status, error_body(refusal.message, refusal.code)

    def _json(
        self, status: int, body: Any, *, headers: dict[str, str] | None = None, is_silent: bool = False
    ) -> None:
        if is_silent:
            return
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._send(status, content, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _blob(self, path: str, raw: bytes, *, is_silent: bool = False) -> None:
        """The part of Azure's blob storage that a client needs for block blobs in one piece."""
        blobs, name = self.service.blobs, path.removeprefix("/account/azureml/")
        if self.command == "PUT":
            with self.service.lock:
                blobs[name] = raw
            if is_silent:
                return
            self._send(201, b"", {"ETag": '"1"', "Last-Modified": self.date_time_string()})
            return
        content = blobs.get(name)
        if content is None:
            self._send(404, b"", {"x-ms-error-code": "BlobNotFound"})
            return
        known = {"ETag": '"1"', "Last-Modified": self.date_time_string(), "x-ms-blob-type": "BlockBlob"}
        wanted = self.headers.get("x-ms-range") or self.headers.get("Range")
        if wanted and self.command == "GET" and content:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
            end = int(first) + len(part) - 1
            self._send(206, part, {**known, "Content-Range": f"bytes {first}-{end}/{len(content)}"})
        elif wanted and self.command == "GET":
            self._send(416, b"", {"x-ms-error-code": "InvalidRange"})
        else:
            self._send(200, content, known)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output quiet."""


@contextmanager
def azureml_service(
    port: int = 0, service: AzureMLService | None = None, certificate: tuple[Path, Path] | None = None
):
    """Run the workspace; yield its state. With a state and a port it is the same workspace again.

    `certificate` and its key: over TLS.
    """
    service = service or AzureMLService()
    handler = type("Handler", (_Handler,), {"service": service})
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        service.uri = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
