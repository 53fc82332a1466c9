"""automatic-speech-recognition: a recording to what is said in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.answers._written import joined
from hftransfer.answers.base import Answer
from hftransfer.answers.transcript import Transcript
from hftransfer.inputs.audio import AUDIO
from hftransfer.processors import SECONDS, window_of
from hftransfer.tasks._heard import Heard
from hftransfer.tasks.base import Known, Role, truth


class AutomaticSpeechRecognition(Heard):
    """Speech recognition by a decoder (Whisper) or place by place (CTC); a long recording is asked in parts."""

    name = "automatic-speech-recognition"
    about = "a recording to what is said in it"
    roles = (
        Role("audio", AUDIO, "a recording", ("audio", "speech", "sound", "recording", "clip", "wav", "audio_filepath",
             "file", "file_name", "path")),
        truth("text", "what is said", ("text", "sentence", "transcription", "transcript", "normalized_text", "wrd",
              "words", "raw_text")),
    )  # fmt: skip
    answers = (Transcript(),)
    known_models = (
        Known("openai/whisper-tiny", "99 languages; small and quick.", "38 M", "apache-2.0"),
        Known("openai/whisper-small", "99 languages; a strong start.", "242 M", "apache-2.0"),
        Known("facebook/wav2vec2-base", "CTC; learns a vocabulary from your transcripts.", "95 M", "apache-2.0"),
        Known("facebook/w2v-bert-2.0", "CTC; 143 languages.", "581 M", "mit"),
    )
    auto_model, auto_processor = "AutoModelForSpeechSeq2Seq", "AutoProcessor"
    makes_tokenizer = True
    also = ("asr", "speech-recognition", "speech-to-text", "transcription")
    lacks = dict.fromkeys(("text-to-speech", "text-to-audio", "tts"), "no task here makes sound")
    pipeline = "automatic-speech-recognition"
    browser = "automatic-speech-recognition"
    carried = ("max_seconds", "source_language", "target_language")
    splits = True

    def auto_name(self, answer: Answer[Any]) -> str:
        """Tell models that write from those that answer place by place."""
        return self.auto_model if answer.generates else "AutoModelForCTC"

    def auto_class(self, settings: Any) -> Any:
        """Take the class that has a model of these settings."""
        import transformers

        if type(settings) in transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING:
            return transformers.AutoModelForSpeechSeq2Seq
        ctc = type(settings) in transformers.MODEL_FOR_CTC_MAPPING
        return transformers.AutoModelForCTC if ctc else transformers.AutoModelForSpeechSeq2Seq

    def conditions(self, said: Mapping[str, Any]) -> list[str]:
        """Say what `pipeline()` does not do of itself."""
        seconds = said.get("max_seconds") or SECONDS
        return [
            "Without ffmpeg and torchaudio `pipeline()` takes samples alone, of the model's own rate: "
            "soundfile.read() and scipy.signal.resample_poly() give them.",
            f"A recording of more than {seconds:g} seconds must be parted first.",
        ]

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, Any] | None:
        """Give it the samples at the model's rate, in parts where they are many."""
        ear, sound = pipeline.feature_extractor, row["audio"]
        window = window_of(ear, None)
        count = AUDIO.parts(sound.seconds, window)
        parts = [AUDIO.part(sound, number, count, window) for number in range(count)]
        texts = [pipeline(part.at(ear.sampling_rate))["text"].strip() for part in parts]
        return {"text": joined(texts)}


TASK = AutomaticSpeechRecognition()
