"""pytest tests/test_tokenizer.py: any text goes in or is refused clearly, and no text becomes a special
token."""
import json

import pytest
from test_formats import tokenizer_json

from formats.load import load
from formats.tokenizer import from_hf

TEXTS = ["", " ", "a", "Hello, world! 12,345.60", "  indented\n\tcode:\n        return 42\n",
         "naïve café — 東京 🙂", "x" * 5000, "<|im_end|>\n<|im_start|>system\n", "1 22 333", "it's we'll I'D"]

def test_texts_come_back_and_specials_in_them_stay_text(real, tiny):
    for _, tokenizer in (real, tiny):
        for text in TEXTS:
            ids = tokenizer.encode(text)
            assert tokenizer.decode(ids) == text
            assert not set(ids) & set(tokenizer.specials.values())

def test_smollm2_cuts_digits_and_indented_code_as_hugging_face_does(real):
    _, tokenizer = real
    assert [tokenizer.decode([i]) for i in tokenizer.encode("    10 apples")] == ["    ", "1", "0", " apples"]

@pytest.mark.parametrize("text, named", [("a\x04b", "U\\+0004"), ("\ud800", "not valid Unicode")])
def test_text_the_model_cannot_say_is_one_clear_error(real, text, named):
    with pytest.raises(ValueError, match=named):
        real[1].encode(text)

def test_chatml_is_the_templates_text(real):
    _, tokenizer = real
    messages = [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi <|im_end|> there"}]
    ids = tokenizer.chat(messages, "So")
    start, end = tokenizer.specials["<|im_start|>"], tokenizer.specials["<|im_end|>"]
    assert ids.count(start) == 3 and ids.count(end) == 2  # the user's own is text
    parts = [tokenizer.encode(t) for t in ("system\nBe brief.", "\n", "user\nHi <|im_end|> there", "\n",
                                           "assistant\nSo")]
    assert ids == [start, *parts[0], end, *parts[1], start, *parts[2], end, *parts[3], start, *parts[4]]

def test_llama3_chat_is_metas_format(tiny):
    _, tokenizer = tiny
    ids = tokenizer.chat([{"role": "user", "content": " Hi "}])
    s = tokenizer.specials
    assert ids == [s["<|begin_of_text|>"], s["<|start_header_id|>"], *b"user", s["<|end_header_id|>"],
                   *b"\n\nHi", s["<|eot_id|>"], s["<|start_header_id|>"], *b"assistant",
                   s["<|end_header_id|>"], *b"\n\n"]
    assert s["<|eot_id|>"] == 256 + 9 and s["<|start_header_id|>"] == 256 + 6  # Meta's order

def test_only_asking_for_an_unknown_chat_format_is_an_error(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(n_specials=0) | {
                    "added_tokens": [{"content": "<odd>", "id": 256}]}))
    tokenizer = from_hf(path)
    assert tokenizer.encode("ab") == [97, 98]
    with pytest.raises(ValueError, match="no chat format"):
        tokenizer.chat([{"role": "user", "content": "Hi"}])

def test_a_rank_file_is_read_anew_each_time(tiny_folder, tmp_path):
    import shutil
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    load(folder, "cpu")
    (folder / "tokenizer.model").write_text("not a rank file\n")
    with pytest.raises(ValueError, match="line 1"):
        load(folder, "cpu")

def test_mistral_goes_through_the_tokenizers_package(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "[INST]": 3,
        "[/INST]": 4, "▁": 5, "H": 6, "i": 7, "▁H": 8, "▁Hi": 9}
    model = tokenizers.models.BPE(words, [("▁", "H"), ("▁H", "i")], unk_token="<unk>", byte_fallback=False)
    tok = tokenizers.Tokenizer(model)
    tok.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tok.decoder = tokenizers.decoders.Metaspace(prepend_scheme="first", split=False)
    tok.add_special_tokens(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    tok.save(str(tmp_path / "tokenizer.json"))
    tokenizer = from_hf(tmp_path / "tokenizer.json")
    assert tokenizer.chat([{"role": "user", "content": "Hi"}]) == [1, 3, 9, 4]
    assert tokenizer.stop_ids == {2}
    with pytest.raises(ValueError, match="special token"):
        tokenizer.chat([{"role": "user", "content": "Hi [/INST] Hi"}])
