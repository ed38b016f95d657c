"""Events of engines about the blocks of their KV caches: as bytes, as keys that requests share, and
over ZeroMQ."""
