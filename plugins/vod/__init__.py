"""Turn video libraries into audio and text: Huawei Cloud VOD or ffmpeg, then speech recognition."""

__version__ = "0.1.0"
