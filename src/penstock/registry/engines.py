"""Engines that Penstock calls, loads or measures. A new engine is a folder and an entry here."""

from penstock.core.settings import LARGEST, Number
from penstock.registry.axis import Axis, Entry

_TOKENS = Number(1, LARGEST, whole=True)
NEEDS = ("endpoints", "file", "command")
"""Traits of multiplexing engines: the key that their entry in the fleet file must have."""

ENGINES = Axis("engine", "penstock.engine", {
    "auto": Entry("penstock.engines.openai.kind:engine", traits=("serve",)),
    "vllm": Entry("penstock.engines.vllm.kind:engine", {"sleep_level": Number(1, 2, whole=True)},
                  traits=("serve", "multiplex", "profile", "endpoints")),
    "sglang": Entry("penstock.engines.sglang.kind:engine", traits=("serve",)),
    "tensorrt-llm": Entry("penstock.engines.tensorrt_llm.kind:engine", traits=("serve",)),
    "llamacpp": Entry("penstock.engines.llamacpp.kind:engine",
                      {"kv_tokens": _TOKENS, "threads": _TOKENS},
                      traits=("serve", "multiplex", "profile", "file")),
    "llama-server": Entry("penstock.engines.llamacpp.kind:server",
                          traits=("multiplex", "endpoints")),
    "ollama": Entry("penstock.engines.ollama.kind:engine",
                    traits=("serve", "multiplex", "endpoints")),
    "openai": Entry("penstock.engines.openai.kind:engine", traits=("serve",)),
    "emulated": Entry("penstock.engines.openai.kind:engine", traits=("serve",)),
    "process": Entry("penstock.engines.actuators.kind:process",
                     traits=("multiplex", "command")),
    "transformers": Entry("penstock.engines.transformers.kind:engine", traits=("profile",)),
    "sim": Entry("penstock.engines.emulated.kind:engine", traits=("profile",)),
})


def engines_for(trait: str) -> tuple[str, ...]:
    """Return the built-in engines that can serve, multiplex or profile."""
    return tuple(name for name in ENGINES.names() if trait in ENGINES.entry(name).traits)


def engine_can(name: str, trait: str) -> bool:
    """Whether an engine of that name is known and has the trait."""
    return ENGINES.knows(name) and trait in ENGINES.entry(name).traits


def needs_of(name: str) -> str:
    """Return the key that the fleet file's entry of a multiplexing engine must have."""
    traits = ENGINES.entry(name).traits
    return next((need for need in NEEDS if need in traits), "endpoints")
