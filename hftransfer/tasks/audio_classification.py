"""audio-classification: a recording to one label or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.answers import multi_label, single_label
from hftransfer.inputs.audio import AUDIO
from hftransfer.tasks._heard import Heard
from hftransfer.tasks.base import Known, Role, truth


class AudioClassification(Heard):
    """Audio classification over a feature extractor; recordings are cut at what a model is shown at once."""

    name = "audio-classification"
    about = "a recording to one label or several"
    roles = (
        Role("audio", AUDIO, "a recording", ("audio", "sound", "recording", "speech", "clip", "wav", "audio_filepath",
             "file", "file_name", "path")),
        truth("label", "a name, a number, or a list of names", ("label", "labels", "class", "category", "target",
              "intent_class", "intent", "keyword", "command", "genre", "emotion", "language", "y")),
    )  # fmt: skip
    answers = (single_label.ANSWER, multi_label.ANSWER)
    known_models = (
        Known("openai/whisper-tiny", "The encoder of a recogniser of 99 languages.", "38 M", "apache-2.0"),
        Known("facebook/wav2vec2-base", "Features of English speech.", "95 M", "apache-2.0"),
        Known("facebook/hubert-base-ls960", "The same, often better for emotions.", "95 M", "apache-2.0"),
        Known("MIT/ast-finetuned-audioset-10-10-0.4593", "Sounds of every kind.", "87 M", "bsd-3-clause"),
    )
    auto_model, auto_processor = "AutoModelForAudioClassification", "AutoFeatureExtractor"
    pipeline = "audio-classification"
    also = ("sound-classification", "speech-classification", "keyword-spotting", "audio-tagging")
    browser = "audio-classification"

    def conditions(self, said: Mapping[str, Any]) -> list[str]:
        """Say what `pipeline()` does not do of itself."""
        found = [
            "Without ffmpeg and torchaudio `pipeline()` takes samples alone, of the model's own rate: "
            "soundfile.read() and scipy.signal.resample_poly() give them."
        ]
        if said.get("max_seconds"):
            found.append(f"A recording must be cut at {said['max_seconds']:g} seconds first.")
        return found

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, Any] | None:
        """Give it the samples at the model's rate."""
        rate = pipeline.feature_extractor.sampling_rate
        answers = pipeline(row["audio"].at(rate), top_k=len(pipeline.model.config.id2label))
        return {"scores": {answer["label"]: answer["score"] for answer in answers}}


TASK = AudioClassification()
