"""Penstock: the control plane for LLM inference."""

from importlib.metadata import version as _version

__version__ = _version("penstock")
