"""vLLM: the scheduler plug-in, sleep and wake, and profiling (extra ``vllm``)."""
