"""Measured errors, and the tolerance for another GPU's tables.

Each number is the largest of A100, H100, H200 and L40S (AIConfigurator @095f58a), rounded up to a
whole per cent after it was measured. Another system may exceed it by ``TOLERANCE``, a share of it.
"""

TOLERANCE = 0.25

# Mean relative error of interpolation where every other point of a table was hidden, all its axes.
TABLES = {"gemm": 0.11, "context_attention": 0.07, "generation_attention": 0.11, "moe": 0.09,
          "custom_allreduce": 0.08, "nccl": 0.08}
# Whole steps: from tables with every other point hidden against the whole tables, and the compact
# form against the composition; mean over four models.
THINNED_STEPS = 0.03
COMPACT_STEPS = 0.02
# Composition against Vidur's dense times of layers, by hardware: all models, degrees and tokens.
DENSE = {"a100": 0.14, "h100": 0.15}
# Composition against the batch times that Vidur predicts for Llama-3-8B on one A100.
BATCHES = 0.02
