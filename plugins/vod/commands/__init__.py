"""The commands of ``python -m vod``."""
