"""Names of everything that can be chosen: built-in implementations and plug-ins.

A plug-in needs this package and ``penstock.core.settings``; see docs/howto/write-a-plugin.md.
"""

from penstock.registry.axis import PlugIn

__all__ = ["PlugIn"]
