"""Three hours of sound take the memory of ten minutes, and a kill in the middle costs no more than a window.

What it took when it was last run is in docs/transcription.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vod.media import find_ffmpeg

HOURS = 3
TINY = "SpeechOptions(model='tiny.en', beam_size=1, cpu_threads=1)"
HEAR = f"""
import json, os, resource, signal, sys
from pathlib import Path
from vod.speech import SpeechOptions, models
from vod.speech.engines import Watch
from vod.speech.engines.whisper import WhisperEngine
from vod.speech.passages import from_lines, to_lines
from vod.speech.transcribing import transcribe

audio, part, until = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
done = from_lines(part.read_text()) if part.exists() else []
models.installed_multilingual = lambda: None  # a second model would be most of what a start costs
engine = WhisperEngine()

def used():
    # The child is still running: what it has used is in /proc.
    ticks = Path(f"/proc/{{engine.pid}}/stat").read_text().rpartition(")")[2].split()[11:13]
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = int(Path(f"/proc/{{engine.pid}}/status").read_text().partition("VmHWM:")[2].split()[0])
    cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") + sum(each.ru_utime + each.ru_stime for each in own)
    return {{"cpu": cpu, "memory": peak + own[0].ru_maxrss}}

heard = [done[-1].end if done else 0.0]

def told(seconds):
    # Where a kill costs most: all of a window is heard, and not yet kept.
    heard.append(seconds)
    if seconds > until:
        print(json.dumps({{**used(), "heard": seconds - heard[0]}}), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

def keep(passages):
    part.write_text(to_lines(passages))

spoken = transcribe(audio, engine, {TINY}, done=done, keep=keep, watch=Watch(heard=told))
told = {{"heard": heard[-1] - heard[0], "text": spoken.text, "duration": spoken.duration}}
print(json.dumps({{**used(), **told}}))
engine.close()
"""


def record(target: Path, video: Path, minutes: int) -> Path:
    """A minute for each of three voices in turn, most of it silence."""
    sources = [video, video.with_name("train.mkv"), video.with_name("lake.mov")]
    minute = ";".join(f"[{n}:a:0]aresample=16000,apad=whole_dur=60[voice{n}]" for n in range(3))
    command = [find_ffmpeg(), "-v", "error", "-y"]
    for source in sources:
        command += ["-i", str(source)]
    three = target.with_name("three.wav")
    mixed = f"{minute};[voice0][voice1][voice2]concat=n=3:v=0:a=1"
    subprocess.run([*command, "-filter_complex", mixed, "-ac", "1", str(three)], check=True)
    command = [find_ffmpeg(), "-v", "error", "-stream_loop", "-1", "-i", str(three)]
    subprocess.run([*command, "-t", str(minutes * 60), str(target)], check=True)
    return target


def hear(audio: Path, part: Path, until: float = 1e9) -> dict[str, float]:
    """Recognise in a process of its own, which is killed as soon as it has heard so many seconds."""
    command = [sys.executable, "-c", HEAR, str(audio), str(part), str(until)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if until == 1e9 else -9), done.stderr
    used: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return used


@pytest.mark.slow
@pytest.mark.long
def test_three_hours_killed_in_the_middle(tmp_path: Path, video: Path) -> None:
    short = hear(record(tmp_path / "short.flac", video, 10), tmp_path / "short.part")
    audio = record(tmp_path / "long.flac", video, HOURS * 60)
    whole = hear(audio, tmp_path / "whole.part")
    killed = hear(audio, tmp_path / "killed.part", until=HOURS * 1800 - 90)
    resumed = hear(audio, tmp_path / "killed.part")
    assert whole["duration"] == pytest.approx(HOURS * 3600, abs=1)
    assert resumed["text"] == whole["text"]
    work = (killed["heard"] + resumed["heard"]) / whole["heard"]
    cpu = (killed["cpu"] + resumed["cpu"]) / whole["cpu"]
    memory = max(whole["memory"], killed["memory"], resumed["memory"]) / short["memory"]
    print(f"killed: {work:.3f} times the sound heard, {cpu:.3f} times {whole['cpu']:.0f} CPU s", end="; ")
    print(f"memory {memory:.3f} times {short['memory'] / 1e3:.0f} MB")
    assert killed["heard"] > HOURS * 1800 - 90
    assert work <= 1.1
    assert memory <= 1.15
