"""An Azure ML workspace as MLflow's plugin sees it: TLS in front of a real `mlflow server`, and artifacts."""

import http.client
import json
import ssl
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from azureml_service import SCOPE, AzureMLService, _Handler
from azurite import certificates

PREFIX = f"/mlflow/v2.0{SCOPE}"


class _Proxy(_Handler):
    behind: str  # the address of the `mlflow server`

    def answer(self) -> None:
        if not self.path.startswith(PREFIX):
            super().answer()
            return
        body = self._body()
        self.service.requests.append(f"{self.command} {self.path}")
        fault = self._fault(f"{self.command} {self.path}")
        if fault is not None:
            self._go_wrong(fault)
            return
        connection = http.client.HTTPConnection(urlsplit(self.behind).netloc, timeout=60)
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        connection.request(self.command, self.path.removeprefix(PREFIX), body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.getheader("Content-Type", "").startswith("application/json") and content:
            content = json.dumps(self._moved(json.loads(content))).encode()
        self._send(answer.status, content, {"Content-Type": "application/json"})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815 - http.server's names

    def _moved(self, found: Any) -> Any:
        """Let the runs' artifacts lie in the workspace."""
        if isinstance(found, list):
            return [self._moved(one) for one in found]
        if not isinstance(found, dict):
            return found
        moved = {key: self._moved(one) for key, one in found.items()}
        if "artifact_uri" in moved and "run_id" in moved:
            host = urlsplit(self.service.uri).netloc
            where = f"experiments/{moved['experiment_id']}/runs/{moved['run_id']}/artifacts"
            moved["artifact_uri"] = f"azureml://{host}{PREFIX}/{where}"
        return moved


@contextmanager
def workspace(folder, behind: str):
    """Run the workspace; yield its state, and the certificate that clients have to trust."""
    ca, certificate, key = certificates(folder)
    service = AzureMLService()
    handler = type("Handler", (_Proxy,), {"service": service, "behind": behind})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        service.uri = f"https://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield service, ca
        finally:
            server.shutdown()
            thread.join()
