"""`simplestore doctor`: settings, network, requests, shared tokens, installation."""

from ._command import doctor

__all__ = ["doctor"]
