"""Penstock: the control plane for LLM inference."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    # Reading installed metadata takes 20 to 50 ms, which most commands never need.
    if name == "__version__":
        from importlib.metadata import version

        return version("penstock")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
