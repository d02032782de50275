"""`simplestore doctor`. Rule: the checks know nothing of their order, the order nothing of the display."""

from ._command import doctor

__all__ = ["doctor"]
