"""pytest tests/test_checkpoints.py: no folder and no file loads as another model than it is.

Folders whose files contradict each other, configurations that leave keys out, keys that nobody looked at.
"""
import base64
import inspect
import json
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest
import regex
import test_formats
import torch
from conftest import ARGS, random_state, write_meta
from gguf import GGUFEndian, GGUFReader, GGUFWriter
from gguf.constants import Keys
from safetensors.torch import load_file, save_file
from test_formats import CHATML, TOKENS, tokenizer_json, write_gguf, write_hf_by_hand, write_tokenizer

from formats import gguf_file
from formats.gguf_file import HARMLESS, NEUTRAL, USED, check_keys
from formats.huggingface import CHANGING, DEFAULTS, FACTORS, HF_KEYS, hf_args
from formats.load import load
from formats.tokenizer_files import GGUF_CUTS, from_hf
from formats.vocabulary import BytePairs, byte_of_character
from model import Transformer

INDEX = "model.safetensors.index.json"
OTHER = random_state(seed=1)

def other_weights(folder, shards=1):
    """Another model's files of weights, in this folder, too."""
    kept = test_formats.random_state
    test_formats.random_state = lambda args=ARGS: random_state(1, args)
    try:
        other = write_hf_by_hand(folder.parent / "other", shards)
    finally:
        test_formats.random_state = kept
    for file in other.glob("model*"):
        shutil.copy(file, folder)

def change_json(file, **changes):
    read = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(read | changes))

# -- weights -------------------------------------------------------------------------------------------------

def with_old_shards(folder):
    other_weights(folder, shards=3)

def with_shards_and_no_index(folder):
    other_weights(folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    save_file(load_file(folder / "model-00001-of-00001.safetensors"), folder / "model.safetensors")

def with_metas_model(folder):
    write_meta(folder, [OTHER])

def with_an_adapter(folder):
    (folder / "adapter_config.json").write_text("{}")

@pytest.mark.parametrize("spoil, named", [
    (with_old_shards, r"two sets of weights, model.safetensors and model-0.safetensors"),
    (with_shards_and_no_index, "two sets of weights, model.safetensors and model-00001-of-00001"),
    (with_metas_model, r"two models, Meta's \(consolidated.00.pth\) and Hugging Face's \(model.safe"),
    (with_an_adapter, "adapter_config.json")])
def test_a_folder_with_two_models_is_refused_and_both_are_named(tmp_path, spoil, named):
    folder = write_hf_by_hand(tmp_path / "hf")
    spoil(folder)
    with pytest.raises(ValueError, match=named):
        load(folder, "cpu")

def an_index_without_its_shards(folder):
    other_weights(folder, shards=3)
    for file in folder.glob("model-*"):
        file.unlink()

def an_index_of_the_whole_file(folder):
    names = load_file(folder / "model.safetensors")
    change_json(folder / INDEX, weight_map=dict.fromkeys(names, "model.safetensors"))

def a_pickle(folder):
    torch.save(OTHER, folder / "pytorch_model.bin")

def mistrals_own_format(folder):
    save_file(OTHER, folder / "consolidated.safetensors")
    (folder / "params.json").write_text("{}")

def metas_weights_elsewhere(folder):
    write_meta(folder / "original", [OTHER])

@pytest.mark.parametrize("add", [an_index_without_its_shards, an_index_of_the_whole_file, a_pickle,
                                 mistrals_own_format, metas_weights_elsewhere])
def test_files_that_transformers_does_not_read_are_not_read(tmp_path, add):
    folder = write_hf_by_hand(tmp_path / "hf")
    expected = load(folder, "cpu")[0](TOKENS)
    add(folder)
    assert torch.equal(load(folder, "cpu")[0](TOKENS), expected)

def changed_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))

def norm_in_two_shards(folder):
    for i in range(2):
        file = folder / f"model-{i}.safetensors"
        save_file(load_file(file) | {"model.norm.weight": torch.full((48,), i + 1.0)}, file)

def norm_in_another_shard(folder):
    has_it = [f"model-{i}.safetensors" for i in range(3)
              if "model.norm.weight" in load_file(folder / f"model-{i}.safetensors")]
    wrong = "model-0.safetensors" if has_it != ["model-0.safetensors"] else "model-1.safetensors"
    changed_index(folder, lambda names: names.update({"model.norm.weight": wrong}))

def a_shard_elsewhere(folder):
    changed_index(folder, lambda names: names.update({"model.norm.weight": "../other/model-0.safetensors"}))

@pytest.mark.parametrize("spoil, named", [
    (norm_in_two_shards, "the tensor model.norm.weight is in two files, model-0.safetensors and model-1"),
    (norm_in_another_shard, r"says that model-\d.safetensors has the tensor model.norm.weight, and"),
    (a_shard_elsewhere, "'../other/model-0.safetensors' is no file of this folder")])
def test_shards_that_contradict_their_index_are_named(tmp_path, spoil, named):
    folder = write_hf_by_hand(tmp_path / "hf", shards=3)
    spoil(folder)
    with pytest.raises(ValueError, match=named):
        load(folder, "cpu")

def test_a_shard_or_an_index_that_is_gone_is_named(tmp_path):
    folder = write_hf_by_hand(tmp_path / "hf", shards=3)
    (folder / "model-1.safetensors").rename(folder / "model-00002-of-00003.safetensors")
    with pytest.raises(FileNotFoundError, match="names model-1.safetensors, which is not there"):
        load(folder, "cpu")
    (folder / INDEX).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {INDEX} of its shards"):
        load(folder, "cpu")

@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_in_the_file_beats_a_configuration_that_ties_it(tmp_path, dtype):
    folder = write_hf_by_hand(tmp_path / "hf")
    expected = load(folder, "cpu", dtype)[0](TOKENS)
    change_json(folder / "config.json", tie_word_embeddings=True)
    model, _ = load(folder, "cpu", dtype)
    assert torch.equal(model(TOKENS), expected) and not model.args.tied_embeddings
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    save_file(state, folder / "model.safetensors")
    model, _ = load(folder, "cpu", dtype)
    assert model.output is None  # an equal copy is the tied one
    del state["lm_head.weight"]
    save_file(state, folder / "model.safetensors")
    assert torch.equal(load(folder, "cpu", dtype)[0](TOKENS), model(TOKENS))
    change_json(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(ValueError, match="output.weight is missing"):
        load(folder, "cpu", dtype)

# -- tokenizers and templates --------------------------------------------------------------------------------

def test_two_chat_templates_that_differ_are_named(tmp_path):
    folder = write_tokenizer(tmp_path / "model")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("another")
    for name, write in (("chat_template.jinja", str), ("additional_chat_templates/default.jinja", str),
                        ("chat_template.json", lambda text: json.dumps({"chat_template": text}))):
        (folder / name).write_text(write(CHATML + "\n"))  # Jinja drops a last line break
        assert from_hf(folder).chat([{"role": "user", "content": "Hi"}])
        (folder / name).write_text(write(CHATML + "!"))
        with pytest.raises(ValueError, match=f"tokenizer_config.json and {name} differ in the chat template"):
            from_hf(folder)
        (folder / name).unlink()
    named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": "another"}]
    change_json(folder / "tokenizer_config.json", chat_template=named)
    assert from_hf(folder).chat([{"role": "user", "content": "Hi"}])
    change_json(folder / "tokenizer_config.json", chat_template=[*named, named[1] | {"name": "default"}])
    with pytest.raises(ValueError, match="1 and 2 differ in the default template of tokenizer_config.json"):
        from_hf(folder)

def rank_file(shift=0):
    lines = [base64.b64encode(bytes([b])) + b" %d" % ((b + shift) % 256) for b in range(256)]
    return b"\n".join(lines)

def sentence_pieces(texts):
    """A SentencePiece model of these pieces, as protobuf writes it: text, a score, a kind; then a trainer."""
    message = b""
    for text in texts:
        piece = b"\x0a" + bytes([len(text.encode())]) + text.encode() + b"\x15" + bytes(4) + b"\x18\x01"
        message += b"\x0a" + bytes([len(piece)]) + piece
    return message + b"\x12\x02\x18\x07"

WORDS = tokenizer_json()["model"]["vocab"]
IN_ORDER = sorted(WORDS, key=WORDS.get)

@pytest.mark.parametrize("file, agrees, differs", [
    ("vocab.json", json.dumps(WORDS).encode(), json.dumps(WORDS | {"a": 98, "b": 97}).encode()),
    ("tokenizer.model", rank_file(), rank_file(shift=1)),
    ("tokenizer.model", sentence_pieces(IN_ORDER), sentence_pieces(IN_ORDER[::-1]))])
def test_two_tables_of_tokens_that_differ_are_named(tmp_path, file, agrees, differs):
    folder = write_hf_by_hand(tmp_path / "hf")
    (folder / file).write_bytes(agrees)
    assert load(folder, "cpu")[1].encode("ab") == [97, 98]
    (folder / file).write_bytes(differs)
    with pytest.raises(ValueError, match=rf"the token '.+' is \d+ in tokenizer.json and \d+ in {file}"):
        load(folder, "cpu")

def decoder_of(i, text, **changes):
    return {"added_tokens_decoder": {str(i): PLAIN | {"content": text} | changes}}

def test_metas_folder_with_the_tokenizer_of_another_model_is_refused(tmp_path):
    folder = write_meta(tmp_path / "meta", [random_state()])
    written = tokenizer_json(0)
    (folder / "tokenizer.json").write_text(json.dumps(written))
    assert load(folder, "cpu")[1].encode("ab") == [97, 98]
    written["model"]["vocab"] |= {"a": 98, "b": 97}
    (folder / "tokenizer.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match="the token 'a' is 98 in tokenizer.json and 97 in tokenizer.model"):
        load(folder, "cpu")

def test_a_tensor_of_any_of_metas_shards_is_looked_at(tmp_path):
    halves = [{}, {}]
    for key, w in random_state().items():
        cut_by_input = key.split(".")[-2] in ("wo", "w2")
        for i in range(2):
            halves[i][key] = w if w.dim() == 1 else w.chunk(2, dim=int(cut_by_input))[i].clone()
    halves[1]["extra.weight"] = torch.ones(2)
    with pytest.raises(ValueError, match="extra.weight is unknown"):
        load(write_meta(tmp_path / "m", halves), "cpu")

def test_merges_that_differ_are_named(tmp_path):
    folder = write_hf_by_hand(tmp_path / "hf")
    written = tokenizer_json()
    written["model"]["vocab"] |= {"ab": 258, "cd": 259}
    written["model"]["merges"] = ["a b", ["c", "d"]]
    (folder / "tokenizer.json").write_text(json.dumps(written))
    (folder / "merges.txt").write_text("#version: 0.2\na b\nc d\n")
    assert load(folder, "cpu")[1].encode("abcd") == [258, 259]
    (folder / "merges.txt").write_text("#version: 0.2\nc d\na b\n")
    with pytest.raises(ValueError, match="tokenizer.json and merges.txt differ in merges"):
        load(folder, "cpu")

def test_two_names_of_one_tensor_are_named(tmp_path):
    folder = write_hf_by_hand(tmp_path / "hf")
    state = load_file(folder / "model.safetensors")
    state["model.text_model.norm.weight"] = torch.ones(48)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match="model.norm.weight and model.text_model.norm.weight are two names"):
        load(folder, "cpu")

PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}

@pytest.mark.parametrize("file, said, named", [
    ("tokenizer_config.json", decoder_of(258, "<x>"), "adds the token '<x>'"),
    ("tokenizer_config.json", decoder_of(256, "<|im_end|>"), "differ in id of '<|im_end|>'"),
    ("tokenizer_config.json", decoder_of(257, "<|im_end|>", lstrip=True),
     "differ in lstrip of '<|im_end|>'"),
    ("tokenizer_config.json", {"split_special_tokens": True}, "split_special_tokens"),
    ("tokenizer_config.json", {"add_prefix_space": True}, "differ in add_prefix_space"),
    ("added_tokens.json", {"<x>": 258}, "adds the token '<x>'"),
    ("added_tokens.json", {"<|im_end|>": 258}, "differ in id of '<|im_end|>'")])
def test_added_tokens_that_another_file_contradicts_are_named(tmp_path, file, said, named):
    folder = write_tokenizer(tmp_path / "model")
    change_json(folder / file, **said)
    with pytest.raises(ValueError, match=re.escape(named)):
        from_hf(folder)

def test_a_token_is_special_where_any_file_says_so(tmp_path):
    written = tokenizer_json()
    written["added_tokens"] += [PLAIN | {"id": 258 + i, "content": f"<{i}>"} for i in range(4)]
    ours = from_hf(write_tokenizer(
        tmp_path / "model", written, additional_special_tokens=["<1>"], pad_token="<2>",
        added_tokens_decoder={"258": PLAIN | {"content": "<0>", "special": True}}))
    assert [258 + i in ours.special_ids for i in range(4)] == [True, True, True, False]

@pytest.mark.parametrize("entry, named", [
    ({"special": None}, "special = None"), ({"lstrip": 1}, "lstrip = 1"),
    ({"stretch": True}, "stretch = True")])
def test_an_added_token_that_lacks_a_field_or_has_another_is_named(tmp_path, entry, named):
    """The tokenizers package reads no file in which a token does not say whether it is special."""
    written = tokenizer_json()
    token = {"id": 258, "content": "12", "special": False} | entry
    written["added_tokens"].append({field: value for field, value in token.items() if value is not None})
    with pytest.raises(ValueError, match=f"the added token '12' has {named}"):
        from_hf(write_tokenizer(tmp_path / "model", written))

def test_added_tokens_that_are_no_list_are_named(tmp_path):
    with pytest.raises(ValueError, match="added_tokens is {} and no list"):
        from_hf(write_tokenizer(tmp_path / "model", tokenizer_json() | {"added_tokens": {}}))

def test_a_token_that_the_vocabulary_numbers_otherwise_is_named(tmp_path):
    written = tokenizer_json()
    written["model"]["vocab"]["<|im_end|>"] = 300
    with pytest.raises(ValueError, match=re.escape("differ in the id of '<|im_end|>'")):
        from_hf(write_tokenizer(tmp_path / "model", written))

@pytest.mark.parametrize("word", ["abc", "xyz", "กา"])
def test_a_word_that_no_merge_makes_is_read_as_the_tokenizers_package_does(tmp_path, word):
    """Never, or where it stands alone; tiktoken looks for whole words first, and merges what it can."""
    tokenizers = pytest.importorskip("tokenizers")
    written = tokenizer_json(0)
    printable = {byte: character for character, byte in byte_of_character().items()}
    written["model"]["vocab"] |= {"ab": 256, "".join(printable[b] for b in word.encode()): 257}
    written["model"]["merges"] = ["a b"]
    written["pre_tokenizer"]["trim_offsets"] = True
    for ignore_merges in (False, True):
        written["model"]["ignore_merges"] = ignore_merges
        folder = write_tokenizer(tmp_path / f"{ignore_merges}", written)
        oracle = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        for text in (word, f"{word}ab {word}", f"!{word}!"):
            assert from_hf(folder).encode(text) == oracle.encode(text, add_special_tokens=False).ids
        by_tiktoken = isinstance(from_hf(folder).vocabulary, BytePairs)
        assert by_tiktoken == (word != "abc" or not ignore_merges)

# -- configurations ------------------------------------------------------------------------------------------

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 128,
         "vocab_size": 512}
QWEN2, QWEN3, SMOLLM3 = "Qwen2ForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM"

def args_of(folder, architecture, **changes):
    file = folder / "config.json"
    config = SMALL | {"architectures": [architecture], "num_key_value_heads": 2, "head_dim": 8} | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value != "left out"}))
    return hf_args(file)

@pytest.mark.parametrize("architecture, changes, expected", [  # as transformers 5.24 reads them
    (QWEN2, {"sliding_window": 64}, {"max_seq_len": 32768}),
    (QWEN3, {"sliding_window": 64}, {"max_seq_len": 32768}),
    (SMOLLM3, {"sliding_window": 64}, {"max_seq_len": 32768}),
    (QWEN2, {"sliding_window": 64, "use_sliding_window": True}, {"max_seq_len": 32768}),  # from layer 28 on
    (QWEN2, {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1}, {"max_seq_len": 64}),
    (QWEN3, {"sliding_window": 64, "use_sliding_window": True, "layer_types": ["full_attention"] * 2,
             "max_window_layers": 0}, {"max_seq_len": 32768}),
    (SMOLLM3, {"sliding_window": 64, "use_sliding_window": True, "no_rope_layers": [1, 0]},
     {"max_seq_len": 64}),
    ("MistralForCausalLM", {}, {"max_seq_len": 4096}),
    ("MistralForCausalLM", {"sliding_window": None}, {"max_seq_len": 131072}),
    ("MistralForCausalLM", {"num_key_value_heads": "left out", "num_attention_heads": 8}, {"n_kv_heads": 8}),
    ("LlamaForCausalLM", {"num_key_value_heads": "left out"}, {"n_kv_heads": 6, "max_seq_len": 2048}),
    ("LlamaForCausalLM", {"head_dim": "left out"}, {"head_dim": 8, "norm_eps": 1e-6, "rope_theta": 1e4}),
    (QWEN3, {"head_dim": "left out"}, {"head_dim": 128}),
    (SMOLLM3, {}, {"rope_theta": 2e6, "tied_embeddings": True}),
    (QWEN2, {"architectures": "left out", "model_type": "qwen2"}, {"qkv_bias": True})])
def test_what_a_configuration_leaves_out_is_its_familys_default(tmp_path, architecture, changes, expected):
    args = args_of(tmp_path, architecture, **changes)
    assert {key: getattr(args, key) for key in expected} == expected

LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 64}

@pytest.mark.parametrize("architecture, changes, named", [
    ("LlamaForCausalLM", {"model_type": "qwen2"}, "its model_type differ in the model's family"),
    ("LlamaForCausalLM", {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}, "differ in rope_theta"),
    ("LlamaForCausalLM", {"rope_scaling": LLAMA3_SCALING,
                          "rope_parameters": LLAMA3_SCALING | {"factor": 32.0}},
     "rope_parameters and rope_scaling differ in rotary positions"),
    ("LlamaForCausalLM", {"rope_scaling": LLAMA3_SCALING, "original_max_position_embeddings": 8192},
     "differ in original_max_position_embeddings"),
    ("LlamaForCausalLM", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5"),
    (QWEN2, {"rope_scaling": {"type": "default", "mrope_section": [1, 1, 2]}}, "mrope_section"),
    ("LlamaForCausalLM", {"rope_scaling": {"type": "default", "factor": 8.0}}, "factor = 8.0"),
    (QWEN2, {"layer_types": ["sliding_attention"] * 2}, "use_sliding_window is false"),
    ("LlamaForCausalLM", {"transformers_weights": "other.safetensors"}, "transformers_weights")])
def test_a_configuration_that_says_two_things_is_named(tmp_path, architecture, changes, named):
    with pytest.raises(ValueError, match=named):
        args_of(tmp_path, architecture, **changes)

# the fields that transformers 5.24 documents for these families
DOCUMENTED = """vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim hidden_act max_position_embeddings initializer_range rms_norm_eps use_cache
    pad_token_id bos_token_id eos_token_id pretraining_tp tie_word_embeddings rope_parameters rope_theta
    rope_scaling attention_bias
    attention_dropout mlp_bias sliding_window use_sliding_window max_window_layers layer_types no_rope_layers
    no_rope_layer_interval model_type architectures quantization_config""".split()
WITHOUT_EFFECT = {"initializer_range", "use_cache", "pad_token_id", "bos_token_id", "pretraining_tp",
                  "attention_dropout"}

def test_every_documented_field_of_a_configuration_is_used_refused_or_known_to_do_nothing():
    source = inspect.getsource(inspect.getmodule(hf_args))
    used = {name for name in DOCUMENTED if f'"{name}"' in source} - CHANGING - FACTORS
    assert set(DOCUMENTED) - used - CHANGING - FACTORS == WITHOUT_EFFECT - used
    assert set(HF_KEYS.values()) <= used and DEFAULTS.keys() == {name for name in DEFAULTS if name in source}

# -- GGUF ----------------------------------------------------------------------------------------------------

def documented_keys():
    """What the gguf package knows of an architecture: {"rope.freq_base", …}."""
    names = set()
    for group in (Keys.LLM, Keys.Attention, Keys.Attention.Indexer, Keys.Rope, Keys.SSM, Keys.WKV):
        for key in vars(group).values():
            if isinstance(key, str) and key.startswith("{arch}."):
                names.add(key.removeprefix("{arch}."))
    return names

def test_every_documented_key_of_a_gguf_architecture_is_used_harmless_or_refused():
    for name in documented_keys() - USED - HARMLESS:
        for value in (7, "yarn", [0.5]):
            with pytest.raises(ValueError, match=re.escape(f"llama.{name}")):
                check_keys("file", {f"llama.{name}": value}, "llama")
    for name, values in NEUTRAL.items():
        for value in values:
            check_keys("file", {f"llama.{name}": value, "general.anything": 7, "tokenizer.x": 7}, "llama")
    assert (USED | HARMLESS | NEUTRAL.keys()) - documented_keys() == {"rope.scale_linear"}  # an old one
    assert not USED & HARMLESS and not (USED | HARMLESS) & NEUTRAL.keys()

def test_the_keys_that_count_as_used_are_those_that_the_reader_reads():
    source = inspect.getsource(gguf_file.gguf_args) + inspect.getsource(gguf_file.read_gguf)
    read = set(re.findall(r'"([a-z_]+(?:\.[a-z_]+)*)"', source))
    assert USED <= read
    assert {name for name in documented_keys() if name in read} == USED

@pytest.mark.parametrize("method, key, value, named", [
    ("add_uint32", "llama.rope.dimension_count", 4, "llama.rope.dimension_count = 4 is not supported"),
    ("add_uint32", "llama.attention.value_length", 16, "llama.attention.value_length = 16"),
    ("add_string", "llama.rope.scaling.type", "linear", "llama.rope.scaling.type = linear"),
    ("add_float32", "llama.rope.scaling.attn_factor", 0.5, "llama.rope.scaling.attn_factor = 0.5"),
    ("add_float32", "llama.attention.max_alibi_bias", 8.0, "llama.attention.max_alibi_bias = 8.0"),
    ("add_bool", "llama.attention.causal", False, "llama.attention.causal = False"),
    ("add_bool", "llama.use_parallel_residual", True, "llama.use_parallel_residual = True"),
    ("add_uint32", "llama.expert_count", 8, "llama.expert_count = 8"),
    ("add_uint32", "llama.mystery", 0, "llama.mystery is not known"),
    ("add_array", "llama.rope.dimension_sections", [1, 1, 2], "llama.rope.dimension_sections is not known"),
    ("add_string", "general.type", "adapter", "holds no model but: adapter"),
    ("add_uint32", "general.quantization_version", 1, "quantization version 1"),
    ("add_bool", "tokenizer.ggml.add_space_prefix", True, "add_space_prefix")])
def test_a_gguf_key_that_changes_the_model_is_named(tmp_path, method, key, value, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        load(write_gguf(tmp_path / "m", extra=(method, (key, value))), "cpu")

@pytest.mark.parametrize("method, key, value", [
    ("add_uint32", "llama.rope.dimension_count", 8), ("add_uint32", "llama.attention.value_length", 8),
    ("add_string", "llama.tensor_data_layout", "Meta AI original pth"),
    ("add_uint32", "llama.expert_count", 0),
    ("add_string", "general.license", "apache-2.0"), ("add_string", "quantize.imatrix.file", "x.dat"),
    ("add_uint32", "general.quantization_version", 2), ("add_bool", "tokenizer.ggml.add_bos_token", True),
    ("add_string", "tokenizer.chat_template.tool_use", "other"), ("add_string", "mystery.key", "x")])
def test_a_gguf_key_that_computes_nothing_passes(tmp_path, method, key, value):
    expected = load(write_gguf(tmp_path / "plain"), "cpu")[0](TOKENS[:, :3])
    model, _ = load(write_gguf(tmp_path / "m", extra=(method, (key, value))), "cpu")
    assert torch.equal(model(TOKENS[:, :3]), expected)

@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_a_big_endian_gguf_says_so(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(test_formats, "GGUFWriter", partial(GGUFWriter, endianess=GGUFEndian.BIG))
    args = replace(ARGS, dim=64, head_dim=32, n_heads=2, n_kv_heads=2)
    with pytest.raises(ValueError, match="model.gguf is big-endian; convert it"):
        load(write_gguf(tmp_path / "m", args=args, kind=kind), "cpu")

def test_a_gguf_header_that_is_wrong_about_the_places_of_tensors_is_named(tmp_path):
    """Two norms of the same shape, the second of which points to the first; and another alignment."""
    path = write_gguf(tmp_path / "m")
    reader = GGUFReader(path)
    first, second = [tensor for tensor in reader.tensors if tensor.name.endswith("_norm.weight")][:2]
    written = bytearray(path.read_bytes())
    place = second.field.offset + sum(part.nbytes for part in second.field.parts[:-1])
    assert first.n_bytes == second.n_bytes and written[place:place + 8] == second.field.parts[-1].tobytes()
    written[place:place + 8] = first.field.parts[-1].tobytes()
    path.write_bytes(written)
    with pytest.raises(ValueError, match=f"{second.name} is not where the tensor before it ends"):
        load(path, "cpu")
    aligned, _ = load(write_gguf(tmp_path / "o", extra=("add_custom_alignment", [64])), "cpu")
    assert torch.equal(aligned.state_dict()["norm.weight"], random_state()["norm.weight"])
    for alignment in (4, 8):
        with pytest.raises(ValueError, match="its tensors end before the file does|is not where the tensor"):
            load(write_gguf(tmp_path / "n", extra=("add_uint32", ("general.alignment", alignment))), "cpu")

CUTS = {"llama-bpe": ["123", "45", " I", "'M", " a", "\n\n"], "qwen2": ["1", "5", " I", "'M", " a", "\n\n"],
        "smollm": ["1", "2", " I", "'", "M"], "gpt-2": ["12345", " I", "'", "M", " a"]}

@pytest.mark.parametrize("alias, known", [("llama3", "llama-bpe"), ("llama-v3", "llama-bpe"),
                                          ("smaug-bpe", "llama-bpe"), ("deepseek-r1-qwen", "qwen2"),
                                          ("refact", "smollm"), ("starcoder", "smollm"), ("gpt-2", "gpt-2")])
def test_a_gguf_cut_by_another_name_is_the_same(tmp_path, monkeypatch, alias, known):
    assert GGUF_CUTS[alias] == GGUF_CUTS[known]
    monkeypatch.setattr(GGUFWriter, "add_tokenizer_pre",
                        lambda self, _: self.add_string("tokenizer.ggml.pre", alias))
    _, tokenizer = load(write_gguf(tmp_path / "m"), "cpu")
    assert tokenizer.encode("abab") == [256, 256]
    text = "12345 I'M a\n\n"
    words = regex.findall(GGUF_CUTS[alias].pattern, text)
    assert "".join(words) == text and [word for word in CUTS[known] if word not in words] == []

def test_a_gguf_model_with_a_head_is_not_tied(tmp_path):
    oracle = Transformer(ARGS)
    oracle.load_state_dict(random_state())
    model, _ = load(write_gguf(tmp_path / "m"), "cpu")
    assert torch.equal(model(TOKENS[:, :2]), oracle(TOKENS[:, :2]))
