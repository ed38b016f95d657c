"""Decisions as pure code: state in, decision out. No clock, randomness, I/O, logging or asyncio."""
