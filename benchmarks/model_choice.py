"""How well is the model chosen? APGR and the cost of 50, 80 and 95 % of the weak-to-strong gap.

    python benchmarks/model_choice.py ROWS.csv.gz [--embedder hashed|minilm|hashed+minilm]
        [--seeds 3] [--folds 5] [--by random|subset] [--json]

Every figure is of prompts that no contender, embedders included, has learnt from. RouteLLM's
routers are re-trained on the same rows, on the same vectors.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from common import REPOSITORY

from penstock.core.errors import InputError
from penstock.predict.embed.hashed import fit_hashed
from penstock.predict.embed.joined import JoinedEmbedder
from penstock.predict.embed.make import EMBEDDERS
from penstock.predict.embed.minilm import load_minilm
from penstock.predict.embed.protocol import Embedder, Vectors

sys.path.insert(0, str(REPOSITORY / "tests"))
from support.model_choice.contenders import CONTENDERS
from support.model_choice.rows import read_choice_rows
from support.model_choice.validation import (
    LEVELS,
    difference,
    held_out_scores,
    judge,
    random_folds,
    subset_folds,
)


class Remembering:
    """An embedder that does not learn, asked only once for each prompt; kept in a file."""

    def __init__(self, inner: Embedder, prompts: tuple[str, ...], cache: Path | None) -> None:
        self._inner = inner
        if cache is not None and cache.exists():
            vectors = np.load(cache)
        else:
            vectors = inner.embed(prompts)
            if cache is not None:
                np.save(cache, vectors)
        self._vectors = dict(zip(prompts, vectors, strict=True))

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def num_dimensions(self) -> int:
        return self._inner.num_dimensions

    def embed(self, prompts: Sequence[str]) -> Vectors:
        return np.stack([self._vectors[prompt] for prompt in prompts])


FOLDS = {"random": random_folds, "subset": subset_folds}
OURS = "penstock"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--embedder", choices=EMBEDDERS, default="hashed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--by", choices=FOLDS, default="random")
    parser.add_argument("--contenders", default="", help="only those with one of these in the name")
    parser.add_argument("--cache", type=Path, help="file (.npy) for vectors of minilm")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = read_choice_rows(options.rows)
    words = [word for word in options.contenders.split(",") if word]
    contenders = {name: contender for name, contender in CONTENDERS.items()
                  if name == OURS or not words or any(word in name for word in words)}

    def embedding(prompts: tuple[str, ...], rng: np.random.Generator) -> Embedder:
        if minilm is None:
            return fit_hashed(prompts, rng)
        if options.embedder == "minilm":
            return minilm
        return JoinedEmbedder(fit_hashed(prompts, rng), minilm)

    minilm = (Remembering(load_minilm(), rows.prompts, options.cache)
              if "minilm" in options.embedder else None)
    runs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in contenders}
    for seed in range(options.seeds):
        folds = FOLDS[options.by](rows, options.folds, np.random.default_rng(seed))
        ranks = held_out_scores(
            rows, folds, embedding, contenders, seed, lambda text: print(text, file=sys.stderr))
        for name, found in ranks.items():
            runs[name].append((found, folds))
    scores = [judge(name, held, rows, np.random.default_rng(0)) for name, held in runs.items()]
    ahead = {name: difference([ranks for ranks, _ in runs[OURS]], [ranks for ranks, _ in held],
                              rows, np.random.default_rng(0))
             for name, held in runs.items() if name != OURS}
    if options.json:
        print(json.dumps({"options": {**vars(options), "rows": len(rows)},
                          "scores": [asdict(score) for score in scores], "ahead": ahead}, indent=1,
                         default=str))
        return
    print(f"{len(rows)} prompts, weak {rows.weak.mean():.4f}, strong {rows.strong.mean():.4f}, "
          f"best of both {np.maximum(rows.weak, rows.strong).mean():.4f}; embedder "
          f"{options.embedder}, {options.folds} folds by {options.by}, seeds 0 to "
          f"{options.seeds - 1}\n")
    print("| contender | APGR (95 %) | " + " | ".join(f"cost at {x:.0%}" for x in LEVELS)
          + " | calls, gap at the threshold for 80 % | penstock ahead (95 %) |")
    print("|---" * (5 + len(LEVELS)) + "|")
    for score in scores:
        share, gap = score.operating[1]
        lead = ahead.get(score.name)
        print(f"| {score.name} | {score.apgr:.4f} ({score.apgr_interval[0]:.4f} to "
              f"{score.apgr_interval[1]:.4f}) | " + " | ".join(f"{x:.1%}" for x in score.costs)
              + f" | {share:.1%}, {gap:.1%} | "
              + (f"{lead[0]:+.4f} ({lead[1]:+.4f} to {lead[2]:+.4f})" if lead else "") + " |")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
