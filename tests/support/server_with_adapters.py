"""A program that is called as ``vllm serve`` or ``python3 -m sglang.launch_server`` and loads
adapters as that engine does, for tests.

Its answers say which weights computed them. As SGLang it takes an adapter by ``model:adapter`` or
by ``lora_path``, and answers any other name with the model itself; as vLLM it refuses such names.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ARGUMENTS = sys.argv[1:]
IS_VLLM = ARGUMENTS[:1] == ["serve"]
PREFIX = "/v1" if IS_VLLM else ""
loaded: dict[str, str] = {}


def stated(flag: str) -> str:
    return ARGUMENTS[ARGUMENTS.index(flag) + 1]


def room() -> int:
    """The most loaded adapters; none without the flags and leave to load."""
    if "--enable-lora" not in ARGUMENTS:
        return 0
    if IS_VLLM:
        allowed = os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "1"
        return int(stated("--max-cpu-loras")) if allowed else 0
    return int(stated("--max-loaded-loras"))


def weights(asked: dict[str, Any]) -> str | None:
    """The weights by which a request is answered, None where it is refused."""
    model, name = stated("--served-model-name"), asked["model"]
    if IS_VLLM:
        return name if name == model or name in loaded else None
    adapter = name.partition(":")[2] or asked.get("lora_path")
    return model if adapter is None else adapter if adapter in loaded else None


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        model = stated("--served-model-name")
        cards = [{"id": model, "root": model, "parent": None},
                 *({"id": name, "root": path, "parent": model} for name, path in loaded.items())]
        self._answer(404 if self.path == "/metrics" else 200, {"object": "list", "data": cards})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == f"{PREFIX}/load_lora_adapter" and room():
            found = Path(asked["lora_path"]).is_dir() and len(loaded) < room()
            if found:
                loaded[asked["lora_name"]] = asked["lora_path"]
            self._answer(200 if found else 400, {"said": "lora"})
        elif self.path == f"{PREFIX}/unload_lora_adapter" and room():
            del loaded[asked["lora_name"]]
            self._answer(200, {})
        elif self.path == "/v1/completions" and (by := weights(asked)) is not None:
            self._answer(200, {
                "object": "text_completion", "model": asked["model"],
                "choices": [{"index": 0, "text": f"by {by}", "finish_reason": "length"}],
                "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}})
        else:
            self._answer(404, {"detail": "Not Found"})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    assert IS_VLLM or ARGUMENTS[:2] == ["-m", "sglang.launch_server"], ARGUMENTS
    ThreadingHTTPServer(("127.0.0.1", int(stated("--port"))), Handler).serve_forever()
