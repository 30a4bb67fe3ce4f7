"""A VOD service for demos, tests and development: real HTTP, real signatures, real extraction."""

from __future__ import annotations

from vod.standin.command import add_arguments, serve
from vod.standin.server import Standin, running
from vod.standin.settings import Behaviour, StandinSettings

__all__ = ["Behaviour", "Standin", "StandinSettings", "add_arguments", "running", "serve"]
