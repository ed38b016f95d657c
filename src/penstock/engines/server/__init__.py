"""HTTP server of the engines that Penstock drives: OpenAI's API and vLLM's /metrics."""
