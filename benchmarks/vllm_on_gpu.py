"""Real vLLM on this machine's GPU: speeds that simulations and plans assume, measured.

Run with the Python of an environment that has vLLM and Penstock, on a machine with one GPU:

    python benchmarks/vllm_on_gpu.py serving steps roles tiers adapters --out runs/gpu

The model is Llama-3.1-8B with random weights, or ``--model FOLDER`` with its config.json.
``serving`` loads stock vLLM with ``penstock bench``, and times steps that compute a prompt beside
decodes. ``steps`` runs ``penstock profile model``. ``roles`` pairs two servers through NIXL behind
``penstock serve``, times handovers, and kills the prefill server in load. ``tiers`` times prompts
whose KV cache is computed, held by the GPU, or held by the host. ``adapters`` times loads and steps
of LoRA adapters, and sleeping and waking of the engine. Each part writes DIR/PART.json; a part that
fails leaves its error and the end of the servers' logs there. ``--tiny`` takes a small model and
short loads, to try the script on a CPU.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time
import traceback
from pathlib import Path
from typing import Any

import aiohttp
from vllm_servers import (
    MODEL,
    Server,
    Setting,
    Timed,
    ask,
    free_port,
    gateway,
    made_model,
    median_ttft_ms,
    one,
    penstock,
    post,
    prompts,
    servers,
)


def room(setting: Setting, share: float) -> list[str]:
    """Arguments for the longest sequence and the memory."""
    return ["--max-model-len", "2048" if setting.tiny else "16384",
            *([] if setting.tiny else ["--gpu-memory-utilization", str(share)])]


def serving(setting: Setting) -> dict[str, Any]:
    """Stock vLLM under load, at stated rates and with lengths of Azure's trace."""
    loads = [(f"rate-{rate}", ["--rate", str(rate), "--prompt-tokens", "1000",
                               "--output-tokens", "200"]) for rate in (4, 10, 16, 22)]
    loads += [("azure-10", ["--rate", "10", "--lengths", "azure-2023-conv"]),
              ("long-2", ["--rate", "2", "--prompt-tokens", "8000", "--output-tokens", "100"])]
    if setting.tiny:
        loads = [("rate-4", ["--rate", "4", "--prompt-tokens", "100", "--output-tokens", "20"])]
    server = Server(setting, "stock", room(setting, 0.9))
    found: dict[str, Any] = {}
    with servers(server) as (start_s,):
        ask(server.url, [(MODEL, prompt) for prompt in prompts(setting, 8, 200, 1)], 8)
        for seed, (name, arguments) in enumerate(loads):  # other seeds: nothing is in the cache
            penstock("bench", server.url, *arguments, "--duration", "3" if setting.tiny else "10",
                     "--prompts", "ids", "--model", MODEL, "--seed", str(seed), "--no-report",
                     "--ttft", "2", "--itl", "0.1", "--out", str(setting.out / "serving" / name))
            found[name] = arguments
        return {"start_s": start_s, "loads": found, "mixed": mixed(setting, server.url),
                "cache": server.metrics("vllm:cache_config_info")}


def mixed(setting: Setting, url: str) -> dict[str, Any]:
    """Step times of decodes alone, of prompts alone, and of both in one step, ms.

    A step that computes a prompt beside running decodes is the longest gap between tokens of a
    decode after the prompt was sent.
    """
    sizes = (64, 256) if setting.tiny else (512, 2048, 4096, 8000)
    num, context, tokens = (4, 100, 1800) if setting.tiny else (64, 1000, 1000)

    beside = [(size, *prompts(setting, 1, size, 51 + 10 * repeat + size))
              for repeat in range(3) for size in sizes]

    async def measured() -> tuple[list[Timed], list[tuple[int, float, float]]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            running = [asyncio.create_task(one(session, url, prompt, tokens))
                       for prompt in prompts(setting, num, context, 50)]
            await asyncio.sleep(1 if setting.tiny else 3)  # their prompts are computed by then
            sent = []
            for size, prompt in beside:  # made before: work here would delay the tokens' times
                started_s = time.perf_counter()
                await one(session, url, prompt, 1)
                sent.append((size, started_s, time.perf_counter()))
                await asyncio.sleep(0.1)
            return await asyncio.gather(*running), sent

    decodes, sent = asyncio.run(measured())
    at_s = decodes[0].at_s
    gaps = [(end_s, end_s - start_s) for start_s, end_s in itertools.pairwise(at_s)]
    longest = {size: [max((gap for end_s, gap in gaps if start_s <= end_s <= done_s + 0.05),
                          default=0.0)
                      for one_size, start_s, done_s in sent if one_size == size] for size in sizes}
    # Decodes alone, among the last tokens, when the last prompt has ended.
    alone = [gap for end_s, gap in gaps if end_s > sent[-1][2] + 0.05]
    return {"num_decodes": num, "context_tokens": context, "output_tokens": tokens,
            "sent_at_token": [sum(end_s < start_s for end_s in at_s) for _, start_s, _ in sent],
            "decode_ms": 1e3 * statistics.median(alone) if alone else None,
            "mixed_ms": {size: [1e3 * gap for gap in found] for size, found in longest.items()},
            "prefill_ttft_ms": {size: median_ttft_ms(url, prompts(setting, 3, size, 90 + size), 1)
                                for size in sizes}}


def steps(setting: Setting) -> dict[str, Any]:
    """``penstock profile model`` on vLLM in its own process."""
    shape = ["32,100", "1,4"] if setting.tiny else ["128,512,2048", "1,8,32,64"]
    penstock("profile", "model", str(setting.model / "config.json"), "--engine", "vllm", "--out",
             str(setting.out / "steps"), "--prompt-tokens", shape[0], "--batch", shape[1],
             "--output-tokens", "16", "--warm-ups", "1", "--min-repeats", "3", "--max-repeats", "4",
             "--budget-s", "75", *([] if setting.tiny else ["--with", "max_step_tokens=8192"]),
             *(["--precision", "fp32", "--kv-precision", "fp32"] if setting.tiny else []))
    return {"profile": "steps"}


def roles(setting: Setting) -> dict[str, Any]:
    """Handovers between two servers, and the loss of one of them."""
    buffer = {"kv_buffer_device": "cpu"} if setting.tiny else {}
    found = {}
    for role, kind in (("prefill", "kv_producer"), ("decode", "kv_consumer")):
        connector = {"kv_connector": "NixlConnector", "kv_role": kind, **buffer}
        found[role] = Server(
            setting, role, [*room(setting, 0.31), "--no-enable-prefix-caching",
                            *([] if setting.tiny else ["--enforce-eager"]),
                            "--kv-transfer-config", json.dumps(connector)],
            {"VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
             "VLLM_NIXL_SIDE_CHANNEL_PORT": str(free_port()),
             **({"UCX_TLS": "tcp,sm,self"} if setting.tiny else {})})
    prefill, decode = found["prefill"], found["decode"]
    fleet = {"replicas": [{"role": role, "engine": "vllm", "endpoints": [server.url]}
                          for role, server in found.items()],
             "disaggregation": {"transfer": {"gb_per_s": 10}}}
    result: dict[str, Any] = {"handovers": {}}
    with servers(prefill, decode) as starts, gateway(setting, "roles", fleet) as url:
        result["start_s"] = starts
        ask(url, [(MODEL, prompts(setting, 1, 300, 9)[0])], 4)
        for tokens in (512, 1500) if setting.tiny else (512, 2048, 8192):
            before = decode.metrics("vllm:nixl")
            apart_ms = median_ttft_ms(url, prompts(setting, 6, tokens, tokens))
            after = decode.metrics("vllm:nixl")
            result["handovers"][tokens] = {
                "ttft_apart_ms": apart_ms,
                "ttft_alone_ms": median_ttft_ms(decode.url, prompts(setting, 6, tokens, tokens)),
                "nixl": {name: after[name] - before.get(name, 0.0) for name in after}}
        result["killed"] = lost_role(setting, url, prefill)
    return result


def lost_role(setting: Setting, url: str, victim: Server) -> dict[str, int]:
    """Answers to 40 requests, eight at a time, when a server is killed among them."""
    asked = prompts(setting, 40, 700, 7)
    whole = 0
    for start in range(0, 40, 8):
        if start == 8:
            victim.kill()
        whole += sum(timed.num_tokens == 24 for timed in
                     ask(url, [(MODEL, prompt) for prompt in asked[start:start + 8]], 24))
    return {"asked": len(asked), "answered_whole": whole}


def tiers(setting: Setting) -> dict[str, Any]:
    """TTFT of prompts that are computed, held by the GPU, and held by the host."""
    tokens = 1000 if setting.tiny else 8192
    server = Server(setting, "tiers", [
        *room(setting, 0.4), "--enable-prefix-caching",
        *([] if setting.tiny else ["--enforce-eager", "--kv-cache-memory-bytes", str(5 << 30)]),
        "--kv-offloading-size", "1" if setting.tiny else "14"])
    with servers(server) as (start_s,):
        asked = prompts(setting, 12, tokens, 3)
        median_ttft_ms(server.url, prompts(setting, 2, tokens, 4))
        computed_ms = median_ttft_ms(server.url, asked)
        held_ms = median_ttft_ms(server.url, [asked[-1]] * 4)
        time.sleep(1)
        before = server.metrics("vllm:")
        host_ms = median_ttft_ms(server.url, asked)  # the GPU holds fewer than twelve
        after = server.metrics("vllm:")
        return {"start_s": start_s, "tokens": tokens, "computed_ms": computed_ms,
                "gpu_ms": held_ms, "host_ms": host_ms,
                "metrics": {name: value - before.get(name, 0.0) for name, value in after.items()
                            if "offload" in name or "cache" in name}}


def adapter(folder: Path, config: dict[str, Any], seed: int, rank: int) -> Path:
    """An adapter of all linear matrices, as PEFT saves one."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"self_attn.q_proj": (hidden, queries), "self_attn.k_proj": (hidden, keys),
              "self_attn.v_proj": (hidden, keys), "self_attn.o_proj": (queries, hidden),
              "mlp.gate_proj": (hidden, inner), "mlp.up_proj": (hidden, inner),
              "mlp.down_proj": (inner, hidden)}
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank,
        "target_modules": [name.rpartition(".")[2] for name in shapes], "bias": "none",
        "base_model_name_or_path": MODEL}))
    torch.manual_seed(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, (inputs, outputs) in shapes.items():
            start = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{start}.lora_A.weight"] = 1e-3 * torch.randn(rank, inputs)
            tensors[f"{start}.lora_B.weight"] = 1e-3 * torch.randn(outputs, rank)
    save_file({name: value.to(torch.bfloat16) for name, value in tensors.items()},
              folder / "adapter_model.safetensors")
    return folder


def adapters(setting: Setting) -> dict[str, Any]:
    """Loads of adapters, steps with none, one and several of them, sleeping and waking."""
    rank, num, places = 8 if setting.tiny else 16, 12, 8
    config = json.loads((setting.model / "config.json").read_text())
    names = [f"adapter{number}" for number in range(num)]
    server = Server(setting, "adapters", [
        *room(setting, 0.85), "--enable-lora", "--max-loras", str(places), "--max-cpu-loras",
        str(num), "--max-lora-rank", str(rank), "--max-num-seqs", "64",
        *([] if setting.tiny else ["--enable-sleep-mode"])],
        {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1"})
    result: dict[str, Any] = {"loads_s": [], "first_use_ms": [], "steps_ms": {}}
    files = {name: adapter(setting.out / "adapters" / name, config, number, rank)
             for number, name in enumerate(names)}  # made while the server starts
    with servers(server) as (start_s,):
        result["start_s"] = start_s
        (prompt,) = prompts(setting, 1, 100, 5)
        ask(server.url, [(MODEL, prompt)] * 4, 8)
        for name in names:
            result["loads_s"].append(post(f"{server.url}/v1/load_lora_adapter", {
                "lora_name": name, "lora_path": str(files[name])})[0])
        base_ms = median_ttft_ms(server.url, prompts(setting, 5, 100, 6))
        for name in names:  # each takes a place on the device; the last ones displace the first
            result["first_use_ms"].append(1e3 * ask(server.url, [(name, prompt)], 2)[0].ttft_s)
        again = [1e3 * ask(server.url, [(names[-1], one)], 2)[0].ttft_s
                 for one in prompts(setting, 5, 100, 8)]
        result |= {"base_ttft_ms": base_ms, "placed_ttft_ms": statistics.median(again)}
        used = names[-places:]
        for batch in (1, 4) if setting.tiny else (1, 8, 32, 64):
            for kind, whose in (("base", [MODEL]), ("one", used[:1]), ("all", used)):
                tokens = 10 if setting.tiny else 128
                found = []
                for repeat in range(2):  # the first places the adapters
                    asked = prompts(setting, batch, 128, 100 * batch + repeat)
                    found = ask(server.url, [(whose[number % len(whose)], one)
                                             for number, one in enumerate(asked)], tokens)
                result["steps_ms"][f"{batch} {kind}"] = 1e3 * statistics.median(
                    timed.tpot_s for timed in found)
        if not setting.tiny:
            result["sleep_s"] = [
                {"sleep_s": post(f"{server.url}/sleep?level=1")[0],
                 "wake_s": post(f"{server.url}/wake_up")[0],
                 "token_s": ask(server.url, [(MODEL, prompt)], 1)[0].ttft_s} for _ in range(3)]
    return result


PARTS = {"serving": serving, "steps": steps, "roles": roles, "tiers": tiers, "adapters": adapters}


def machine() -> dict[str, Any]:
    from importlib.metadata import version

    import torch

    found: dict[str, Any] = {name: version(name) for name in ("torch", "vllm") if name}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        host, device = (torch.empty(1 << 30, dtype=torch.uint8, **where) for where in (
            {"pin_memory": True}, {"device": "cuda"}))
        for name, (to, of) in {"host_to_device": (device, host),
                               "device_to_host": (host, device)}.items():
            to.copy_(of)
            torch.cuda.synchronize()
            started_s = time.perf_counter()
            for _ in range(4):
                to.copy_(of)
            torch.cuda.synchronize()
            found[f"{name}_gb_per_s"] = 4 * (1 << 30) / (time.perf_counter() - started_s) / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    setting = Setting(out, options.model or made_model(out / "model", options.tiny), options.tiny)
    if not options.tiny:
        (out / "machine.json").write_text(json.dumps(machine(), indent=1))
    for part in options.parts:
        started_s = time.monotonic()
        try:
            found = PARTS[part](setting)
        except Exception:
            found = {"error": traceback.format_exc()[-4000:]}
        found["wall_s"] = time.monotonic() - started_s
        (out / f"{part}.json").write_text(json.dumps(found, indent=1))
        print(part, json.dumps(found)[:2500], flush=True)


if __name__ == "__main__":
    main()
