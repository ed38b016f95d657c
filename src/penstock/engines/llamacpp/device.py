"""A model that llama.cpp has loaded, through the low-level API of llama-cpp-python."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, missing_extra

_MOST_PIECE_BYTES = 256
KvPrecision = Literal["f16", "f32"]
_GGML_TYPES = {"f32": 0, "f16": 1}


class Row(NamedTuple):
    """One token of a batch: its position in its sequence, and whether its logits are wanted."""

    token_id: int
    position: int
    sequence: int
    wanted: bool


class LlamaDevice:
    """A model with a KV cache of ``kv_tokens`` that up to ``max_num_seqs`` sequences share.

    One batch has at most ``max_batch_tokens``. A token's logits depend slightly on the rest of its
    batch. With a cache in ``f16`` that can change an answer where two tokens are almost equally
    likely: about one token in several hundred of a random model. ``close`` frees the memory.
    """

    def __init__(self, path: Path, kv_tokens: int, max_num_seqs: int, max_batch_tokens: int,
                 num_threads: int, kv_precision: KvPrecision = "f16") -> None:
        """Load the model. Raises InputError without the extra, and for a file that is not a
        model."""
        self._lib: Any = _library()
        self._lib.llama_backend_init()
        self._lib.llama_log_set(_silence(), None)
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected a model in GGUF format")
        settings = self._lib.llama_model_default_params()
        self._model = self._lib.llama_model_load_from_file(str(path).encode(), settings)
        if not self._model:
            raise InputError(f"{path}: llama.cpp cannot load it; expected a model in GGUF format")
        self._context = self._lib.llama_init_from_model(
            self._model, self._parameters(kv_tokens, max_num_seqs, max_batch_tokens, num_threads,
                                          kv_precision))
        if not self._context:
            self._lib.llama_model_free(self._model)
            raise InputError(f"{path}: llama.cpp has no room for a KV cache of {kv_tokens:,} "
                             "tokens; give fewer")
        self._memory = self._lib.llama_get_memory(self._context)
        self._batch = self._lib.llama_batch_init(max_batch_tokens, 0, 1)
        self._most = max_batch_tokens
        self._vocabulary = self._lib.llama_model_get_vocab(self._model)
        self.vocabulary_size = int(self._lib.llama_vocab_n_tokens(self._vocabulary))
        self.context_tokens = int(self._lib.llama_model_n_ctx_train(self._model))
        self.kv_tokens = int(self._lib.llama_n_ctx(self._context))

    def _parameters(self, kv_tokens: int, max_num_seqs: int, max_batch_tokens: int,
                    num_threads: int, kv_precision: KvPrecision) -> Any:
        wanted = self._lib.llama_context_default_params()
        wanted.n_ctx = kv_tokens
        wanted.n_batch = wanted.n_ubatch = max_batch_tokens
        wanted.n_seq_max = max_num_seqs
        wanted.type_k = wanted.type_v = _GGML_TYPES[kv_precision]
        if kv_precision == "f32":
            wanted.flash_attn_type = 0  # it computes in half precision, independent of the cache
        wanted.kv_unified = True  # any sequence may use any part of the cache
        wanted.n_threads = wanted.n_threads_batch = num_threads
        return wanted

    # -- steps ----------------------------------------------------------------------------------

    def run(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """Compute rows in one batch. Returns the logits, (vocabulary,), of each wanted row in
        order.

        More rows than a batch holds take several batches, as with a policy that never cuts prompts.
        """
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(rows), self._most):
            found += self._run_batch(rows[start:start + self._most])
        return found

    def _run_batch(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, row in enumerate(rows):
            batch.token[index] = row.token_id
            batch.pos[index] = row.position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = row.sequence
            batch.logits[index] = row.wanted
        status = self._lib.llama_decode(self._context, batch)
        if status != 0:
            raise RuntimeError(f"llama.cpp could not compute a step (status {status})")
        return [self._logits(index) for index, row in enumerate(rows) if row.wanted]

    def _logits(self, index: int) -> NDArray[np.float32]:
        pointer = self._lib.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,)).copy()

    def forget(self, sequence: int) -> None:
        """Free the KV cache of a sequence."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def close(self) -> None:
        """Free all memory. The device must not be used afterwards."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    # -- vocabulary -----------------------------------------------------------------------------

    def tokens(self, text: bytes, *, special: bool = False) -> tuple[int, ...]:
        """Tokenize a text, with the model's initial token. ``special`` reads names of control
        tokens as control tokens."""
        room = len(text) + 8
        buffer = (self._lib.llama_token * room)()
        num = self._lib.llama_tokenize(self._vocabulary, text, len(text), buffer, room, True,
                                       special)
        return tuple(buffer[:num])

    def piece(self, token_id: int) -> bytes:
        """Return the bytes of a token, empty for control tokens."""
        import ctypes

        buffer = ctypes.create_string_buffer(_MOST_PIECE_BYTES)
        num = self._lib.llama_token_to_piece(self._vocabulary, token_id, buffer, len(buffer), 0,
                                             False)
        return buffer.raw[:max(0, num)]

    def is_end(self, token_id: int) -> bool:
        """Whether an answer ends with this token."""
        return bool(self._lib.llama_vocab_is_eog(self._vocabulary, token_id))

    def conversation(self, messages: Sequence[tuple[str, str]]) -> bytes:
        """Format messages (role, text) by the model's own template, or as plain lines without
        one."""
        import ctypes

        template = self._lib.llama_model_chat_template(self._model, None)
        array = (self._lib.llama_chat_message * len(messages))()
        for place, (role, text) in zip(array, messages, strict=True):
            place.role, place.content = role.encode(), text.encode()
        room = 4 * sum(len(text.encode()) for _, text in messages) + 4096
        buffer = ctypes.create_string_buffer(room)
        num = -1 if not template else self._lib.llama_chat_apply_template(
            template, array, len(messages), True, buffer, room)
        if 0 <= num <= room:
            return buffer.raw[:num]
        lines = [f"{role}: {text}\n" for role, text in messages]
        return "".join([*lines, "assistant:"]).encode()


@cache
def _silence() -> Any:
    """Return a log callback that prints nothing. The library keeps it forever, so it must stay
    referenced."""
    return _library().llama_log_callback(lambda *_: None)


def _library() -> Any:
    try:
        import llama_cpp
    except ImportError as error:
        raise missing_extra("llama.cpp", "llamacpp", error) from error
    return llama_cpp
