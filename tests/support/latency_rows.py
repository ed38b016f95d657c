"""Rows as ``penstock collect`` writes them, from a replica whose latencies follow a known law."""

from typing import Any

import numpy as np

from penstock.predict.learned.training import CollectedRows


def collected_rows(num: int, seed: int = 0, noise: float = 0.05) -> list[dict[str, Any]]:
    """TTFT = 20 ms + 0.1 ms per pending and own prompt token; TPOT = 10 ms + 1 ms per running."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(num):
        prompt, predicted = int(rng.integers(10, 2000)), float(rng.integers(20, 200))
        running, pending = int(rng.integers(0, 16)), float(rng.integers(0, 4000))
        output = int(max(2, predicted * rng.lognormal(0, 0.1)))
        wobble = rng.lognormal(0.0, noise, 2)
        ttft_s = (0.02 + 1e-4 * (pending + prompt)) * wobble[0]
        tpot_s = (0.01 + 1e-3 * running) * wobble[1]
        rows.append({
            "prompt_id": place, "prompt": f"prompt {place}", "model": "one",
            "replica": f"replica-{place % 2}", "asked_at_s": 100.0 + place,
            "prompt_tokens": prompt, "predicted_output_tokens": predicted,
            "output_tokens": output, "max_tokens": 512, "outcome": "finished",
            "num_running": float(running), "num_waiting": 0.0, "pending_prefill_tokens": pending,
            "pending_decode_tokens": 50.0 * running, "kv_use": running / 16,
            "ttft_s": ttft_s, "tpot_s": tpot_s, "e2e_s": ttft_s + (output - 1) * tpot_s,
            "mean_kv_use": min((running + 1) / 17 * wobble[0], 1.0)})
    return rows


def as_columns(rows: list[dict[str, Any]]) -> CollectedRows:
    names = [name for name, value in rows[0].items()
             if isinstance(value, float | int) and name not in ("prompt_id", "output_tokens",
                                                                "max_tokens", "asked_at_s")]
    return CollectedRows({name: np.array([row[name] for row in rows], float) for name in names},
                         tuple(row["replica"] for row in rows))
