"""Fixtures of the proofs."""

from tests.support.secrecy import scene

__all__ = ["scene"]
