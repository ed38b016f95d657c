"""A stock vLLM behind Penstock's gateway: its KV events, and adapters that are loaded on demand."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from vllm_server import MODEL, Server, free_port, gateway, with_tokenizer

pytestmark = pytest.mark.filterwarnings("default")
pytest.importorskip("zmq", reason="the extra 'kv-events' is not installed")

FLEET = """
name: events-and-adapters
accelerators: [{name: a100-80gb, count: 1}]
models:
  - name: llama-3.1-8b
    adapters: [{name: sql, path: FOLDER/sql, rank: 8}, {name: poem, path: FOLDER/poem},
               {name: gone, path: FOLDER/gone}]
service_classes: [{name: chat}]
traffic: [{rate_per_s: 1, lengths: {prompt: {fixed: 100}, output: {fixed: 10}}}]
replicas:
  - {endpoints: [URL], kv_events: ["tcp://*:EVENTS"], kv_replay: ["tcp://*:REPLAY"],
     lora: {max_loras: 1, max_cpu_loras: 1, max_rank: 8}}
policies: {route: prefix_aware}
"""
TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}"
PROMPT = " ".join(f"t{number % 500}" for number in range(200))
BLOCK = 32


class Stack(NamedTuple):
    url: str
    engine: Server


def adapter(folder: Path, seed: int) -> None:
    """An adapter of the tiny model, as PEFT saves one."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16,
        "target_modules": ["o_proj"], "bias": "none", "base_model_name_or_path": "tiny"}))
    torch.manual_seed(seed)
    layer = "base_model.model.model.layers.{}.self_attn.o_proj.lora_{}.weight"
    save_file({layer.format(number, part): torch.randn(shape)
               for number in range(2) for part, shape in (("A", (8, 128)), ("B", (128, 8)))},
              folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def stack(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("events")
    with_tokenizer(tiny_llama)
    for seed, name in enumerate(("sql", "poem")):
        adapter(folder / name, seed)
    events, replay = free_port(), free_port()
    (folder / "template.jinja").write_text(TEMPLATE)
    engine = Server(tiny_llama, None, folder / "engine.log",
                    {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
                    ["--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-lora",
                     "--max-loras", "1", "--max-cpu-loras", "2", "--max-lora-rank", "8",
                     "--chat-template", str(folder / "template.jinja"),
                     "--kv-events-config", json.dumps({
                         "enable_kv_cache_events": True, "publisher": "zmq",
                         "endpoint": f"tcp://*:{events}",
                         "replay_endpoint": f"tcp://*:{replay}"})])
    try:
        engine.wait_until_ready()
        ask(engine.url, prompt=PROMPT)  # before there is a gateway
        fleet = folder / "fleet.yaml"
        text = FLEET.replace("FOLDER", str(folder)).replace("URL", engine.url)
        fleet.write_text(text.replace("EVENTS", str(events)).replace("REPLAY", str(replay)))
        with gateway(fleet) as url:
            until(lambda: followed(url)["is_whole"])
            yield Stack(url, engine)
    finally:
        engine.kill()


def until(holds: Callable[[], bool], patience_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.1)


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        found: bytes = answer.read()
        return found


def ask(url: str, path: str = "/v1/completions", model: str = MODEL,
        **body: Any) -> tuple[dict[str, Any], Mapping[str, str]]:
    request = urllib.request.Request(
        f"{url}{path}", data=json.dumps({"model": model, "max_tokens": 4, "temperature": 0,
                                         **body}).encode(),
        headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer), answer.headers


def followed(url: str) -> dict[str, Any]:
    (found,) = json.loads(get(f"{url}/v1/penstock/status"))["kv_events"]
    return dict(found)


def cached(stack: Stack, **body: Any) -> tuple[int, int]:
    """Prompt tokens in the cache, as the router expects and as the engine tells."""
    answer, headers = ask(stack.url, **body)
    decision = json.loads(get(f"{stack.url}/v1/penstock/decisions/"
                              f"{headers['X-Penstock-Decision']}"))
    told = (answer["usage"]["prompt_tokens_details"] or {}).get("cached_tokens") or 0
    return int(decision["terms"]["cached_tokens"]), told


def test_the_router_knows_what_the_engine_holds(stack: Stack) -> None:
    assert followed(stack.url)["num_blocks"] >= 200 // BLOCK
    expected, told = cached(stack, prompt=PROMPT)
    assert expected == told == 200 // BLOCK * BLOCK
    other = "t9 " + PROMPT
    assert cached(stack, prompt=other) == (0, 0)
    metrics = get(f"{stack.url}/metrics").decode()
    assert 'penstock:kv_prompts_total{tokens="tokenized"} 2.0' in metrics
    assert 'what="broken"} 0.0' in metrics


def test_token_ids_and_chats_have_the_engine_s_blocks(stack: Stack) -> None:
    ids = [(7 * number) % 500 for number in range(150)]
    held = followed(stack.url)["num_blocks"]
    assert cached(stack, prompt=ids) == (0, 0)
    until(lambda: followed(stack.url)["num_blocks"] >= held + 150 // BLOCK)
    assert cached(stack, prompt=ids) == (150 // BLOCK * BLOCK,) * 2
    messages = [{"role": "user", "content": "t8 " * 100}]
    chat = {"path": "/v1/chat/completions", "messages": messages}
    held = followed(stack.url)["num_blocks"]
    assert cached(stack, **chat) == (0, 0)
    until(lambda: followed(stack.url)["num_blocks"] > held)
    expected, told = cached(stack, **chat)
    assert expected == told > 0


def test_salts_set_blocks_apart(stack: Stack) -> None:
    prompt = "t3 " * 100
    held = followed(stack.url)["num_blocks"]
    cached(stack, prompt=prompt, cache_salt="pepper")
    until(lambda: followed(stack.url)["num_blocks"] > held)
    assert cached(stack, prompt=prompt, cache_salt="cumin") == (0, 0)
    expected, told = cached(stack, prompt=prompt, cache_salt="pepper")
    assert expected == told > 0


def test_adapters_are_loaded_on_demand_and_have_blocks_of_their_own(stack: Stack) -> None:
    answers = {}
    for name in (MODEL, "sql", "poem"):
        answer, _ = ask(stack.url, model=name, prompt=PROMPT, max_tokens=16)
        assert answer["model"] == name
        answers[name] = answer["choices"][0]["text"]
    assert len(set(answers.values())) == 3
    cards = json.loads(get(f"{stack.engine.url}/v1/models"))["data"]
    assert [card["id"] for card in cards if card["parent"]] == ["poem"], "room for one"
    until(lambda: cached(stack, model="poem", prompt=PROMPT)[0] > 0)
    expected, told = cached(stack, model="poem", prompt=PROMPT)
    assert expected == told == 200 // BLOCK * BLOCK
    again, _ = ask(stack.url, model="sql", prompt=PROMPT, max_tokens=16)
    assert again["choices"][0]["text"] == answers["sql"]


def test_an_adapter_that_is_not_there_is_a_503(stack: Stack) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        ask(stack.url, model="gone", prompt="t1")
    assert error.value.code == 503
    assert int(error.value.headers["Retry-After"]) >= 1
    assert json.load(error.value)["error"]["code"] == "adapter_unavailable"
