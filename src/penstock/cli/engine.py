"""``penstock lab engine``: a real engine whose every step Penstock's scheduler plans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import (
    AsJson,
    FromFleet,
    Host,
    JournalDir,
    KvPrecisionOr16,
    KvTokensOrUsual,
    MaxStepTokens,
    Port,
    WhichReplica,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.engines.embedded.options import EmbeddedOptions
    from penstock.engines.llamacpp.serve import LlamaSettings

app = App()
_LEAST_KV_TOKENS = 64


@app.command(epilog="Example: penstock lab engine model.gguf --fleet gateway.yaml --port 8001",
             words={
    "--fleet": "Fleet file with the policy and the step time."})
def engine(
    model: Annotated[Path, typer.Argument(
        metavar="MODEL", help="A model in GGUF format.", show_default=False)],
    port: Port = 8001, host: Host = "127.0.0.1", fleet_file: FromFleet = None,
    kv_tokens: KvTokensOrUsual = 8192,
    threads: Annotated[int, typer.Option(
        "--threads", min=1, metavar="N", help="Number of computing threads.")] = 2,
    replica: WhichReplica = 0,
    policy: Annotated[str | None, typer.Option(
        "--policy", metavar="NAME", show_default=False,
        help="Scheduling policy if there is no fleet file; default: penstock.")] = None,
    name: Annotated[str | None, typer.Option(
        "--name", metavar="NAME", show_default=False,
        help="Model name for clients; default: the file name.")] = None,
    max_num_seqs: Annotated[int, typer.Option(
        "--max-num-seqs", min=1, max=256, metavar="N",
        help="Most sequences with a KV cache at once.")] = 16,
    max_step_tokens: MaxStepTokens = 512, kv_precision: KvPrecisionOr16 = "f16",
    journal: JournalDir = None, as_json: AsJson = False,
) -> int:
    """Serve a model with llama.cpp until interrupted; Penstock's scheduler plans every step.

    Serves OpenAI's API (completions and chat, streamed or not) and vLLM's /metrics. Learns step
    times while serving. Needs the extra llamacpp. Prints the URL when it listens.
    """
    import asyncio

    from penstock.engines.embedded.options import embedded_options
    from penstock.engines.llamacpp.serve import LlamaSettings

    if fleet_file is not None and policy is not None:
        raise InputError("--fleet and --policy exclude each other; the fleet file names a policy")
    document: dict[str, Any] = {"policy": policy or "penstock"}
    if fleet_file is not None:
        document = {"fleet": str(fleet_file), "replica": replica}
    if journal is not None:
        document["journal"] = str(journal)
    if kv_precision not in ("f16", "f32"):
        raise InputError(f"--kv-precision {kv_precision!r}; expected f16 or f32")
    if kv_tokens < _LEAST_KV_TOKENS:
        raise InputError(f"--kv-tokens {kv_tokens}: expected at least {_LEAST_KV_TOKENS}")
    settings = LlamaSettings(model, name or model.stem, kv_tokens, max_num_seqs,
                             max(max_step_tokens, max_num_seqs), threads,
                             "f32" if kv_precision == "f32" else "f16", host, port)
    asyncio.run(_serve(settings, embedded_options(document), as_json=as_json))
    return OK


async def _serve(settings: "LlamaSettings", options: "EmbeddedOptions", *, as_json: bool) -> None:
    import asyncio
    import sys

    from penstock.cli.console import note, print_json
    from penstock.engines.http import stop_signal
    from penstock.engines.llamacpp.serve import llama_engine

    stopped = stop_signal()
    async with llama_engine(settings, options, note) as (url, _, running):
        if as_json:
            print_json({"url": url, "model": settings.name})
        else:
            typer.echo(f"engine {url} {settings.name}")
        sys.stdout.flush()
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        stopping.cancel()
