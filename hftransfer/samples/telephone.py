"""Prompts of a telephone exchange in five languages, and numbers, times and dates spoken with them in two."""

from __future__ import annotations

import io
import random
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.samples import rows
from hftransfer.samples.sample import Package, Sample

if TYPE_CHECKING:
    import numpy as np

    from hftransfer.samples.archives import Archive

_SHA256 = {
    "en": ("2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d", 18_272_864),
    "es": ("9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903", 23_767_256),
    "fr": ("8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e", 18_516_060),
    "it": ("5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb", 18_262_124),
    "ru": ("ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201", 18_788_860),
}
ASTERISK = {
    language: Package(
        "Debian",
        f"asterisk-core-sounds-{language}-wav",
        "1.6.1-1",
        sha256,
        size,
        f"./usr/share/doc/asterisk-core-sounds-{language}-wav/copyright",
        source="asterisk-core-sounds",
    )
    for language, (sha256, size) in _SHA256.items()
}
SHORTEST, LONGEST = 0.3, 6.0  # seconds of a prompt
FAINTEST = 33  # of 32768: below are silences
# tones and a joke's monkeys
_NO_SPEECH = {"beep", "beeperr", "confbridge-join", "confbridge-leave", "tt-monkeys"}


def prompts(folder: Path, *archives: Archive) -> None:
    """Write audio (the packages' own WAV files), label (the language), prompt (one name in all) and speaker."""
    found = []
    for archive in archives:
        for place, name, content in _clips(archive):
            if name not in _NO_SPEECH and not name.startswith("silence/") and _is_heard(content):
                language, *_, speaker = place.split("_")  # en_US_f_Allison
                found.append(({"bytes": content, "path": f"{language}/{name}.wav"}, language, name, speaker))
    found.sort(key=lambda row: row[1:3])
    rows.write(folder, ("audio", "label", "prompt", "speaker"), found, audio=rows.AUDIO)


def _clips(archive: Archive) -> Iterator[tuple[str, str, bytes]]:
    """Yield a voice's folder, a prompt's name (digits/1) and its WAV file."""
    root = "./usr/share/asterisk/sounds/"
    for path, content in archive.files(root, ".wav"):
        place, _, name = path.removeprefix(root).removesuffix(".wav").partition("/")
        yield place, name, content


def _is_heard(content: bytes) -> bool:
    samples, rate = _sound(content)
    return SHORTEST <= len(samples) / rate <= LONGEST and abs(samples.astype(int)).max() >= FAINTEST


def _sound(content: bytes) -> tuple[np.ndarray, int]:
    import numpy as np

    with wave.open(io.BytesIO(content)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


# --- what is said by joining prompts, as the exchange itself does ---

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth",
)  # fmt: skip
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_LETTERS = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima",
    "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey",
    "x-ray", "yankee", "zulu",
)  # fmt: skip
WORDS = {
    **{f"digits/{number}": word for number, word in enumerate([*_ONES, *_TEENS])},
    **{f"digits/{number}": word for number, word in zip(range(20, 100, 10), _TENS, strict=True)},
    **{f"digits/h-{number}": word for number, word in enumerate(_ORDINALS, 1)},
    **{f"digits/day-{number}": word for number, word in enumerate(_DAYS)},
    **{f"digits/mon-{number}": word for number, word in enumerate(_MONTHS)},
    **{f"phonetic/{word[0]}_p": word for word in _LETTERS},
    "digits/h-30": "thirtieth",
    "digits/hundred": "hundred",
    "digits/thousand": "thousand",
    "digits/oh": "oh",
    "digits/oclock": "o'clock",
    "digits/a-m": "a m",
    "digits/p-m": "p m",
}


def _string(draw: random.Random) -> list[str]:
    return [f"digits/{draw.randrange(10)}" for _ in range(3 + draw.randrange(5))]


def _number(draw: random.Random) -> list[str]:
    return _cardinal(draw.randrange(1, 10 ** (2 + draw.randrange(3))))


def _cardinal(number: int) -> list[str]:
    for value, name in ((1000, "thousand"), (100, "hundred")):
        if number >= value:
            rest = number % value
            return [*_cardinal(number // value), f"digits/{name}", *(_cardinal(rest) if rest else [])]
    if number < 20 or number % 10 == 0:
        return [f"digits/{number}"]
    return [f"digits/{number // 10 * 10}", f"digits/{number % 10}"]


def _time(draw: random.Random) -> list[str]:
    hour, minute = 1 + draw.randrange(12), draw.randrange(60)
    past = ["digits/oclock"] if minute == 0 else [*(["digits/oh"] if minute < 10 else []), *_cardinal(minute)]
    return [f"digits/{hour}", *past, ("digits/a-m", "digits/p-m")[draw.randrange(2)]]


def _date(draw: random.Random) -> list[str]:
    day = 1 + draw.randrange(31)
    last = [f"digits/h-{day}"] if day <= 20 or day == 30 else [f"digits/{day // 10 * 10}", f"digits/h-{day % 10}"]
    return [f"digits/day-{draw.randrange(7)}", f"digits/mon-{draw.randrange(12)}", *last]


def _code(draw: random.Random) -> list[str]:
    letters = [f"phonetic/{'abcdefghijklmnopqrstuvwxyz'[draw.randrange(26)]}_p" for _ in range(2 + draw.randrange(2))]
    return [*letters, f"digits/{draw.randrange(10)}", f"digits/{draw.randrange(10)}"]


FORMS: dict[str, Callable[[random.Random], list[str]]] = {
    "digits": _string,
    "number": _number,
    "time": _time,
    "date": _date,
    "code": _code,
}

# --- the same in Spanish: which prompts say a number is the exchange's rule, what each says follows from its name ---

_UNOS = (
    "cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez", "once", "doce", "trece",
    "catorce", "quince", "dieciséis", "diecisiete", "dieciocho", "diecinueve", "veinte", "veintiuno", "veintidós",
    "veintitrés", "veinticuatro", "veinticinco", "veintiséis", "veintisiete", "veintiocho", "veintinueve",
)  # fmt: skip
_DECENAS = ("treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa")
_CENTENAS = (
    "doscientos", "trescientos", "cuatrocientos", "quinientos", "seiscientos", "setecientos", "ochocientos",
    "novecientos",
)  # fmt: skip
_DIAS = ("domingo", "lunes", "martes", "miércoles", "jueves", "viernes", "sábado")
_MESES = (
    "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
    "diciembre",
)  # fmt: skip
PALABRAS = {
    **{f"digits/{number}": word for number, word in enumerate(_UNOS)},
    **{f"digits/{number}": word for number, word in zip(range(30, 100, 10), _DECENAS, strict=True)},
    **{f"digits/{number}": word for number, word in zip(range(200, 1000, 100), _CENTENAS, strict=True)},
    **{f"digits/day-{number}": word for number, word in enumerate(_DIAS)},
    **{f"digits/mon-{number}": word for number, word in enumerate(_MESES)},
    "digits/and": "y",
    "digits/hundred": "cien",
    "digits/100-and": "ciento",
    "digits/thousand": "mil",
    "digits/es-de": "de",
}


def _numero(draw: random.Random) -> list[str]:
    return _cardinal_es(draw.randrange(1, 10 ** (2 + draw.randrange(3))))


def _cardinal_es(number: int) -> list[str]:
    if number >= 1000:
        before, rest = _cardinal_es(number // 1000) if number >= 2000 else [], number % 1000
        return [*before, "digits/thousand", *(_cardinal_es(rest) if rest else [])]
    if number == 100:
        return ["digits/hundred"]
    if number > 100:
        before, rest = ["digits/100-and" if number < 200 else f"digits/{number // 100 * 100}"], number % 100
        return [*before, *(_cardinal_es(rest) if rest else [])]
    if number < 30 or number % 10 == 0:
        return [f"digits/{number}"]
    return [f"digits/{number // 10 * 10}", "digits/and", f"digits/{number % 10}"]


def _fecha(draw: random.Random) -> list[str]:
    day = _cardinal_es(1 + draw.randrange(31))
    return [f"digits/day-{draw.randrange(7)}", *day, "digits/es-de", f"digits/mon-{draw.randrange(12)}"]


FORMAS: dict[str, Callable[[random.Random], list[str]]] = {"digits": _string, "number": _numero, "date": _fecha}
EACH = 120


def numbers(folder: Path, archive: Archive) -> None:
    """Write audio, text and form: EACH different ones of every form in English, drawn alike each time."""
    _spoken(folder, archive, WORDS, FORMS)


def numeros(folder: Path, archive: Archive) -> None:
    """Write the same in Spanish."""
    _spoken(folder, archive, PALABRAS, FORMAS)


def _spoken(
    folder: Path, archive: Archive, words: dict[str, str], forms: dict[str, Callable[[random.Random], list[str]]]
) -> None:
    clips = {name: content for _, name, content in _clips(archive) if name in words}
    draw = random.Random(0)
    found: dict[str, tuple[Any, str, str]] = {}
    for before, (form, drawn) in enumerate(forms.items()):
        while len(found) < EACH * (before + 1):
            names = drawn(draw)
            text = " ".join(words[name] for name in names)
            if text not in found:
                audio = {"bytes": _joined([clips[name] for name in names]), "path": f"{form}-{len(found):03}.wav"}
                found[text] = (audio, text, form)
    rows.write(folder, ("audio", "text", "form"), found.values(), audio=rows.AUDIO)


def _joined(clips: list[bytes]) -> bytes:
    sounds = [_sound(clip) for clip in clips]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sounds[0][1])
        file.writeframes(b"".join(samples.tobytes() for samples, _ in sounds))
    return buffer.getvalue()


SAMPLES = (
    Sample(
        "telephone-prompts",
        "data",
        "audio-classification",
        "2530 prompts of a telephone exchange, 8 kHz, in English, Spanish, French, Italian and Russian, which is the "
        "label; one voice a language, the same in English and Spanish.",
        "CC-BY-SA-3.0 and CC-BY-3.0 (Italian and Russian)",
        tuple(ASTERISK.values()),
        prompts,
        group="prompt",
    ),
    Sample(
        "telephone-prompts-en-es",
        "data",
        "audio-classification",
        "Those in English and Spanish alone, 966 by one voice.",
        "CC-BY-SA-3.0",
        (ASTERISK["en"], ASTERISK["es"]),
        prompts,
        group="prompt",
    ),
    Sample(
        "telephone-numbers",
        "data",
        "automatic-speech-recognition",
        "600 spoken numbers, digits, times, dates and codes in English, 8 kHz, one voice: a telephone exchange's "
        "prompts joined at random, so that text is what they say.",
        "CC-BY-SA-3.0",
        (ASTERISK["en"],),
        numbers,
    ),
    Sample(
        "telephone-numbers-es",
        "data",
        "automatic-speech-recognition",
        "360 spoken numbers, digits and dates in Spanish, 8 kHz, by the same voice: prompts joined as the exchange "
        "says numbers; the text is what the prompts' names stand for, nobody wrote it down from listening.",
        "CC-BY-SA-3.0",
        (ASTERISK["es"],),
        numeros,
    ),
)
