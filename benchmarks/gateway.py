"""Speed of ``penstock serve`` against a bare aiohttp relay before the same upstream, in one run.

    python benchmarks/gateway.py [--seconds 5] [--rounds 3] [--spread] [--keys] [--workers N]
                                 [--litellm PYTHON] [--streams 1000] [--pace 1] [--rate R]

All parts are processes of their own on this machine: an upstream that streams a chat answer of 17
chunks from memory (in one piece, or with ``--spread`` each on its own), a bare relay, the gateway,
and Debian's ``wrk`` as the client. ``--keys`` adds a gateway with a key, limits, a budget and a
ledger, ``--workers`` one of several processes. ``--litellm`` names the Python of an environment
that has ``litellm[proxy]``. ``--streams`` are held open, each with a chunk in ``--pace`` seconds
(``--rounds 0 --streams 10000 --pace 20`` measures them alone). ``--rate`` adds latencies at so many
requests/s, of which each is sent when it is due, however late the answers are. Rounds alternate
between the parts, so that other work on the machine falls on all of them; ratios are medians over
rounds. Requests per second of processor time tell what a core to itself would do where other work
shares the machine.
"""

import argparse
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import orjson
from common import REPOSITORY, show

PARTS = str(REPOSITORY / "benchmarks" / "gateway_parts.py")
PATH = "/v1/chat/completions"
SLOW_S = 20  # so that a proxy of some tens of requests per second answers enough of them
BODY = {"model": "llama-3-8b", "messages": [{"role": "user", "content": "Tell me of rivers."}],
        "stream": True, "max_tokens": 64}
FLEET = """\
name: benchmark
accelerators: [{{name: a100-80gb, count: 1}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.05}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 400}}, output: {{fixed: 40}}}}, rate_per_s: 5,
           num_requests: 60}}]
replicas: [{{endpoints: ["{upstream}"]}}]
"""
KEYS = """\
gateway:
  tenants:
    - {{name: shop, requests_per_minute: 100000000, tokens_per_minute: 1000000000,
       max_in_flight: 100, budget: {{amount: 1000000}}}}
"""
LITELLM = """\
model_list:
  - model_name: llama-3-8b
    litellm_params: {{model: openai/benchmark, api_base: "{upstream}/v1", api_key: none}}
general_settings: {{disable_spend_logs: true}}
litellm_settings: {{set_verbose: false, json_logs: true, request_timeout: 600}}
"""


@contextmanager
def process(*command: str, environment: dict[str, str] | None = None, pipe: bool = True):
    """A process that ends with the context."""
    with subprocess.Popen(command, stdout=subprocess.PIPE if pipe else subprocess.DEVNULL,
                          stdin=subprocess.PIPE, text=True, stderr=None if pipe else
                          subprocess.DEVNULL,
                          env={**os.environ, **(environment or {})}) as found:
        try:
            yield found
        finally:
            found.send_signal(signal.SIGTERM)
            try:
                found.wait(5)
            except subprocess.TimeoutExpired:
                found.kill()


def port_of(part: subprocess.Popen) -> int:
    return int(part.stdout.readline().split(":")[-1])


@contextmanager
def gateway(folder: Path, upstream: str, num_workers: int = 1, most: int = 4096):
    """(URL, process id) of ``penstock serve`` before an upstream, for ``most`` requests at once."""
    fleet = folder / f"{upstream.rpartition(':')[2]}.yaml"
    fleet.write_text(FLEET.format(upstream=upstream))
    with process(sys.executable, "-m", "penstock", "serve", str(fleet), "--port", "0",
                 "--workers", str(num_workers), "--max-in-flight", str(most)) as found:
        yield f"http://127.0.0.1:{port_of(found)}", found.pid


@contextmanager
def keyed(folder: Path, upstream: str):
    """(URL, process id, key) of a gateway whose tenant has limits, and a budget in a ledger."""
    fleet = folder / "keyed.yaml"
    text = FLEET.replace("{{name: llama-3-8b}}", "{{name: llama-3-8b, price: {{input_per_million: "
                         "0.15, output_per_million: 0.6}}}}") + KEYS
    fleet.write_text(text.format(upstream=upstream))
    penstock = [sys.executable, "-m", "penstock"]
    key = subprocess.run([*penstock, "keys", "create", str(fleet), "shop"], check=True, text=True,
                         capture_output=True).stdout.strip()
    with process(*penstock, "serve", str(fleet), "--port", "0") as found:
        yield f"http://127.0.0.1:{port_of(found)}", found.pid, key


@contextmanager
def litellm(folder: Path, upstream: str, python: str, port: int = 14000):
    """(URL, process id) of LiteLLM's proxy, set up as its page on production advises: one worker,
    errors only in the log, no debug, prices from the package, no telemetry, no database."""
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(upstream=upstream))
    command = Path(python).with_name("litellm")
    environment = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "HF_HUB_OFFLINE": "1",
                   "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": "",
                   "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    with process(str(command), "--config", str(config), "--port", str(port), "--host", "127.0.0.1",
                 "--num_workers", "1", "--telemetry", "False", pipe=False,
                 environment=environment) as found:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/health/liveliness", timeout=2).read()
                break
            except OSError:
                time.sleep(0.5)
        yield url, found.pid


def wrk(folder: Path, url: str, connections: int, seconds: int,
        key: str = "none") -> dict[str, float]:
    """Requests per second and the median latency (ms) that wrk saw; errors are counted, too."""
    script = folder / "post.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.body = [[{orjson.dumps(BODY).decode()}]]\n'
                      'wrk.headers["Content-Type"] = "application/json"\n'
                      f'wrk.headers["Authorization"] = "Bearer {key}"\n')
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
                          "--timeout", "30s", "-s", str(script), url + PATH], text=True,
                         capture_output=True, check=True).stdout
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    lost = re.search(r"Socket errors: (.*)", out)
    if bad or lost:
        raise SystemExit(f"{url}: {(bad or lost)[0]}")
    done = re.search(r"(\d+) requests in", out)
    return {"requests": int(done[1]), "requests_per_s": float(rate[1]),
            "median_ms": float(median[1]) * unit[median[2]]}


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process and its workers have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(
        map(cpu_s, map(int, workers)))


def checked(url: str, key: str = "none") -> None:
    """One request whose answer must be whole: every token, no usage, [DONE]."""
    request = urllib.request.Request(url + PATH, data=orjson.dumps(BODY), headers={
        "Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    missing = [n for n in range(14) if f" token{n}" not in text]
    if missing or "[DONE]" not in text:
        raise SystemExit(f"{url}: the answer is not whole: {text[:400]}")


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1000


def allow_files(num_files: int) -> None:
    """Let this process, and those that it starts, open so many files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (num_files, max(hard, num_files)))
    except (OSError, ValueError):
        raise SystemExit(f"--streams: needs {num_files} open files, and {hard} are allowed "
                         "(ulimit -Hn)") from None


def open_streams(folder: Path, num_streams: int, pace_s: float) -> dict[str, float]:
    """Memory of the gateway with that many streams open, each with a chunk in ``pace_s``."""
    allow_files(2 * num_streams + 150)
    with process(sys.executable, PARTS, "upstream", str(pace_s)) as slow, gateway(
            folder, f"http://127.0.0.1:{port_of(slow)}", most=2 * num_streams) as (url, pid):
        before, used_s = resident_mb(pid), cpu_s(pid)
        with process(sys.executable, PARTS, "hold", url, str(num_streams),
                     orjson.dumps(BODY).decode()) as holder:
            opened_ms = int(holder.stdout.readline())
            opened_s, begun_s = cpu_s(pid) - used_s, time.monotonic()
            time.sleep(pace_s)
            held_s = cpu_s(pid) - used_s - opened_s
            return {"num_streams": num_streams, "pace_s": pace_s, "idle_mb": before,
                    "open_mb": resident_mb(pid), "opened_in_ms": opened_ms,
                    "cpu_s_to_open": opened_s,
                    "cpu_share_while_open": held_s / (time.monotonic() - begun_s)}


def paced(parts: dict[str, tuple], rate: int, seconds: int, rounds: int) -> dict[str, object]:
    """Latencies (ms) at a rate, from when each request is due to its answer's end, in rounds that
    alternate, and what the gateway adds to the upstream's in the same round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in parts}
    for _ in range(max(1, rounds)):
        for name, (url, _, *key) in parts.items():
            done = subprocess.run([sys.executable, PARTS, "paced", url, str(rate), str(seconds),
                                   orjson.dumps(BODY).decode(), *key], check=True, text=True,
                                  capture_output=True).stdout
            found[name].append(orjson.loads(done))
    result: dict[str, object] = {"rate_per_s": rate, "rounds": found}
    for name in parts:
        result[f"{name}_added_ms"] = {share: statistics.median(
            one[share] - bare[share]
            for one, bare in zip(found[name], found["upstream"], strict=True))
            for share in ("p50", "p99")}
    return result


def measured(folder: Path, parts: dict[str, tuple], options) -> dict[str, object]:
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in parts}
    for _ in range(options.rounds):
        for name, (url, pid, *key) in parts.items():
            seconds = SLOW_S if name == "litellm" else options.seconds
            before_s = cpu_s(pid)
            many = wrk(folder, url, 32, seconds, *key)
            used_s = cpu_s(pid) - before_s
            one = wrk(folder, url, 1, max(1, seconds // 2), *key)
            rows[name].append({"requests_per_s": many["requests_per_s"],
                               "requests_per_cpu_s": many["requests"] / used_s,
                               "median_ms_at_32": many["median_ms"],
                               "median_ms_at_1": one["median_ms"]})
    medians = {name: {key: statistics.median(row[key] for row in found) for key in found[0]}
               for name, found in rows.items()}

    def ratio(above: str, below: str, what: str = "requests_per_s") -> float:
        return statistics.median(a[what] / b[what]
                                 for a, b in zip(rows[above], rows[below], strict=True))

    found: dict[str, object] = {
        "medians": medians, "bare_over_gateway": ratio("bare", "gateway"),
        "bare_over_gateway_per_cpu_s": ratio("bare", "gateway", "requests_per_cpu_s"),
        "added_median_ms_at_1": statistics.median(
            a["median_ms_at_1"] - b["median_ms_at_1"]
            for a, b in zip(rows["gateway"], rows["upstream"], strict=True))}
    if "keyed" in parts:
        found["gateway_over_keyed"] = ratio("gateway", "keyed")
        found["gateway_over_keyed_per_cpu_s"] = ratio("gateway", "keyed", "requests_per_cpu_s")
    if "workers" in parts:
        found["workers_over_gateway"] = ratio("workers", "gateway")
        found["workers_over_gateway_per_cpu_s"] = ratio("workers", "gateway", "requests_per_cpu_s")
    if "litellm" in parts:
        found["gateway_over_litellm"] = ratio("gateway", "litellm")
        found["gateway_over_litellm_per_cpu_s"] = ratio("gateway", "litellm", "requests_per_cpu_s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--pace", type=float, metavar="S", default=1.0,
                        help="seconds between two chunks of a stream that is held open")
    parser.add_argument("--rate", type=int, metavar="R", default=0,
                        help="also latencies at so many requests/s")
    parser.add_argument("--spread", action="store_true",
                        help="the upstream writes every chunk on its own")
    parser.add_argument("--keys", action="store_true",
                        help="also a gateway with keys, limits, a budget and a ledger")
    parser.add_argument("--workers", type=int, metavar="N", default=1,
                        help="also a gateway of so many processes")
    parser.add_argument("--litellm", metavar="PYTHON")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (apt-get install wrk)")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        pace = ["0"] if options.spread else []
        raw = stack.enter_context(process(sys.executable, PARTS, "upstream", *pace))
        upstream = f"http://127.0.0.1:{port_of(raw)}"
        bare = stack.enter_context(process(sys.executable, PARTS, "bare", upstream))
        parts = {"upstream": (upstream, raw.pid),
                 "bare": (f"http://127.0.0.1:{port_of(bare)}", bare.pid),
                 "gateway": stack.enter_context(gateway(folder, upstream))}
        if options.keys:
            parts["keyed"] = stack.enter_context(keyed(folder, upstream))
        if options.workers > 1:
            parts["workers"] = stack.enter_context(gateway(folder, upstream, options.workers))
        if options.litellm:
            parts["litellm"] = stack.enter_context(litellm(folder, upstream, options.litellm))
        for url, _, *key in parts.values():
            checked(url, *key)
        result = measured(folder, parts, options) if options.rounds else {}
        if options.rate:
            result["paced"] = paced({name: part for name, part in parts.items()
                                     if name != "litellm"}, options.rate, options.seconds,
                                    options.rounds)
        if options.streams:
            result["streams"] = open_streams(folder, options.streams, options.pace)
    show(result)


if __name__ == "__main__":
    main()
