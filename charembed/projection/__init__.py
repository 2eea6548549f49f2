"""Reduce vectors to fewer dimensions."""

from charembed.projection.principal_components import Projection, check_dim

__all__ = ["Projection", "check_dim"]
