"""Importing the room loads no library for recognition."""

from __future__ import annotations

import subprocess
import sys


def test_importing_speech_loads_no_library_for_it() -> None:
    heavy = ["airflow", "av", "ctranslate2", "faster_whisper", "huggingface_hub", "numpy", "onnxruntime"]
    script = f"import sys, vod.speech; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
