"""Whisper with faster-whisper, on the worker's CPU or GPU, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vod.errors import InvalidInputError
from vod.logs import get_logger
from vod.speech import models
from vod.speech.engines import Watch
from vod.speech.engines.in_windows import Window, passages
from vod.speech.errors import (
    LanguageMismatchError,
    RecognitionFailedError,
    SpeechError,
    SpeechNotInstalledError,
    UnsupportedLanguageError,
    UnusableModelError,
)
from vod.speech.languages import OF_WHISPER, base_code
from vod.speech.passages import Passage
from vod.speech.process import Child

if TYPE_CHECKING:
    from vod.speech.options import SpeechOptions

_LOADING = 600.0
"""Seconds that a model may take to load: large ones come from slow disks."""

log = get_logger(__name__)


class WhisperEngine:
    """The process is started with the first audio, and keeps its model until it dies or is closed.

    If it dies, or hangs, that costs the audio that it was hearing; the next one gets a new process.

    :param models: Folder in which models are looked for first, each in a folder of its name.
    :param elsewhere: Speech is recognised on other machines: :meth:`check` loads no model, and needs none.
    """

    def __init__(self, models: Path | None = None, *, elsewhere: bool = False) -> None:
        self._models = models
        self._elsewhere = elsewhere
        self._child: Child | None = None
        self._loaded: tuple[Any, ...] = ()
        self._languages: list[str] = []

    def check(self, options: SpeechOptions) -> None:
        """Load the model, and see that it knows the language.

        For other machines the model's name says which languages it knows. Options of the detector of speech
        are left to them where faster-whisper is not installed.

        :raises ModelNotFoundError: see :func:`vod.speech.models.resolve_model`.
        :raises UnusableModelError: the model's files cannot be loaded.
        :raises UnsupportedLanguageError: the model does not know the language.
        :raises InvalidInputError: an option that faster-whisper does not know.
        """
        _check_device(options)
        if _has_library() or not self._elsewhere:
            _check_detector(options)
        if self._elsewhere:
            english = options.model.endswith(".en") and not Path(options.model).is_absolute()
            self._languages = ["en"] if english else OF_WHISPER
        else:
            self._start(options, Watch())
        self._check_language(options)

    def revision(self, options: SpeechOptions) -> str:
        """Digest of the model's files, as far as is needed to tell two apart."""
        return models.revision(models.resolve_model(options.model, self._models))

    def passages(
        self, audio: Path, options: SpeechOptions, *, watch: Watch, done: Sequence[Passage] = ()
    ) -> Iterator[Passage]:
        """See :class:`vod.speech.engines.SpeechEngine`."""
        started = time.monotonic()

        def hear(window: Window) -> Passage:
            self._start(options, watch)
            return self._hear(window, options, started + window.limit)

        try:
            yield from passages(audio, options, watch, done, hear)
        except RecognitionFailedError as error:
            error.asset = str(audio)
            raise
        except (LanguageMismatchError, GeneratorExit):
            raise
        except SpeechError:
            self.close()
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    @property
    def pid(self) -> int | None:
        """Id of the process, if there is one."""
        return self._child.pid if self._child else None

    def _start(self, options: SpeechOptions, watch: Watch) -> None:
        wanted = (
            options.model,
            options.device,
            options.compute_type,
            options.cpu_threads,
            options.memory_limit,
        )
        if self._child is not None and self._loaded == wanted:
            return
        self.close()
        _require_library()
        folder = models.resolve_model(options.model, self._models)
        request = {
            "folder": str(folder),
            "device": options.device,
            "compute_type": options.compute_type,
            "threads": options.cpu_threads,
            "memory": options.memory_limit,
            "teller": models.installed_multilingual(),
        }
        started = time.monotonic()
        self._child = Child()
        try:
            answers = self._child.ask(request, deadline=started + _LOADING, cancelled=watch.cancelled)
            answer = next(answers)
        except RecognitionFailedError as error:
            self.close()
            raise UnusableModelError(
                f"The speech model {options.model!r} cannot be loaded: {error.message}",
                remedy=None
                if options.device == options.compute_type == "auto"
                else "Set device and compute_type to auto: this machine may not have what they ask for.",
            ) from error
        except BaseException:
            self.close()
            raise
        self._loaded = wanted
        self._languages = answer["languages"]
        if answer["fallback"]:
            log.warning("The GPU cannot be used, so the CPU is: %s", answer["fallback"])
        log.info(
            "Loaded the speech model %s on %s with %s in %.1f s.",
            options.model,
            answer["loaded"],
            answer["compute_type"],
            time.monotonic() - started,
        )

    def _hear(self, window: Window, options: SpeechOptions, deadline: float) -> Passage:
        assert self._child is not None
        request = {"start": window.start, "options": asdict(options), "language": window.language}
        payload = window.samples.data.cast("B")
        watch = window.watch
        for answer in self._child.ask(request, payload, deadline=deadline, cancelled=watch.cancelled):
            if "heard" in answer:
                watch.heard(answer["heard"])
            elif "passage" in answer:
                passage = Passage.from_json(answer["passage"])
                watch.heard(passage.end)
                return passage
            else:
                raise _mismatch(options.model, answer)
        raise AssertionError("the answers do not end")

    def _check_language(self, options: SpeechOptions) -> None:
        code, supported = base_code(options.language), self._languages
        if not code or code in supported:
            if options.task == "translate" and supported == ["en"]:
                raise UnsupportedLanguageError(
                    f"The speech model {options.model!r} knows only English, and cannot translate.",
                    remedy="Choose a multilingual model such as 'base' or 'large-v3'.",
                )
            return
        if supported == ["en"]:
            raise UnsupportedLanguageError(
                f"The speech model {options.model!r} knows only English, and {options.language!r} was asked "
                "for.",
                remedy="Choose a multilingual model such as 'base' or 'large-v3'.",
            )
        raise UnsupportedLanguageError(
            f"The speech model {options.model!r} does not know the language {options.language!r}.",
            remedy=f"Leave the language out to have it recognised, or give one of: {', '.join(supported)}.",
        )


def _mismatch(model: str, answer: dict[str, Any]) -> LanguageMismatchError:
    if answer["language"]:
        return LanguageMismatchError(
            f"The speech is in {answer['language']!r} (probability {answer['probability']:.2f}), and the "
            f"speech model {model!r} knows only English."
        )
    return LanguageMismatchError(
        f"The speech model {model!r} knows only English, and understood too few words: the speech seems to "
        "be in another language."
    )


def _has_library() -> bool:
    from importlib.util import find_spec

    return find_spec("faster_whisper") is not None


def _require_library() -> None:
    if not _has_library():
        raise SpeechNotInstalledError("faster-whisper, which recognises speech, is not installed.")


def _check_device(options: SpeechOptions) -> None:
    if options.device not in ("auto", "cpu", "cuda"):
        raise InvalidInputError(
            f"The device {options.device!r} is unknown.", remedy="Choose auto, cpu or cuda."
        )


def _check_detector(options: SpeechOptions) -> None:
    if options.vad:
        _require_library()
        from dataclasses import fields

        from faster_whisper.vad import VadOptions

        known = {entry.name for entry in fields(VadOptions)}
        if unknown := sorted(set(options.vad) - known):
            raise InvalidInputError(
                f"The detector of speech has no option {unknown[0]!r}.",
                remedy=f"Choose from: {', '.join(sorted(known))}.",
            )
