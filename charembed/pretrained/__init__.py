"""Save, load and share trained models."""

from charembed.pretrained.model_folder import Pretrained, join, read_architecture

__all__ = ["Pretrained", "join", "read_architecture"]
