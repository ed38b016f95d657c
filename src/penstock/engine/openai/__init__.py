"""What engines that Penstock drives have in common over HTTP: OpenAI's API, vLLM's /metrics."""
