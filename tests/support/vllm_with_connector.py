"""A program that is called as ``vllm serve`` and lends KV caches by NIXL's messages, for tests.

It listens at the side channel that its environment states, and answers with the text of the KV
cache that it fetched there, so a pair of them only answers if both were started as they need.
"""

import json
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ARGUMENTS = sys.argv[1:]
ROLES = {"kv_producer": "prefill", "kv_consumer": "decode"}


def stated(flag: str) -> str:
    return ARGUMENTS[ARGUMENTS.index(flag) + 1]


def channel() -> tuple[str, int]:
    return os.environ["VLLM_NIXL_SIDE_CHANNEL_HOST"], int(
        os.environ["VLLM_NIXL_SIDE_CHANNEL_PORT"])


def lend(server: socket.socket) -> None:
    while True:
        fetching, _ = server.accept()
        with fetching:
            fetching.sendall(f"computed by {os.getpid()}".encode())


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        models = {"object": "list", "data": [{"id": stated("--served-model-name")}]}
        self._answer(404 if self.path == "/metrics" else 200, models)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        config = json.loads(stated("--kv-transfer-config"))
        assert config["kv_connector"] == "NixlConnector"
        role, told = ROLES[config["kv_role"]], asked.get("kv_transfer_params") or {}
        text, more = "computed here", {}
        if told.get("do_remote_decode"):
            assert role == "prefill"
            assert asked["max_tokens"] == 1
            host, port = channel()
            more = {"kv_transfer_params": {"do_remote_prefill": True, "do_remote_decode": False,
                                           "remote_host": host, "remote_port": port}}
        elif told.get("do_remote_prefill"):
            assert role == "decode"
            with socket.create_connection((told["remote_host"], told["remote_port"])) as lender:
                text = lender.makefile().read()
        self._answer(200, {
            "object": "text_completion", **more,
            "choices": [{"index": 0, "text": text, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 4, "completion_tokens": asked["max_tokens"],
                      "total_tokens": 4 + asked["max_tokens"]}})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    assert ARGUMENTS[0] == "serve"
    lender = socket.create_server(channel())
    threading.Thread(target=lend, args=(lender,), daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(stated("--port"))), Handler).serve_forever()
