"""pytest tests/test_formats.py: the same random model in every layout, and every wrong file in one
sentence."""
import json

import pytest
import torch
from conftest import ARGS, PARAMS, random_state, write_meta
from safetensors.torch import save_file

from formats.checkpoint import meta_names
from formats.huggingface import write_hf
from formats.load import load

TOKENS = torch.tensor([[5, 9, 300, 41], [7, 0, 0, 1], [511, 3, 8, 2]])
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]

def tokenizer_json(n_specials=2):
    """A tokenizer.json of the 256 bytes, in GPT-2's printable alphabet, and ChatML's special tokens."""
    hidden = [b for b in range(256) if b not in BYTES]
    vocab = {chr(b): b for b in BYTES} | {chr(256 + i): b for i, b in enumerate(hidden)}
    specials = ["<|im_start|>", "<|im_end|>"][:n_specials]
    return {"model": {"type": "BPE", "vocab": vocab, "merges": []}, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            "added_tokens": [{"content": s, "id": 256 + i} for i, s in enumerate(specials)]}

def hf_rows(w, heads):
    """Meta's neighbouring pairs to Hugging Face's halves, written out row by row as an oracle."""
    head_dim, rows = w.shape[0] // heads, []
    for head in range(heads):
        rows += [head * head_dim + 2 * i for i in range(head_dim // 2)]
        rows += [head * head_dim + 2 * i + 1 for i in range(head_dim // 2)]
    return w[rows]

def write_hf_by_hand(folder, shards=1, **changes):
    folder.mkdir(exist_ok=True)
    names, state = {ours: theirs for theirs, ours in meta_names("hf", 2).items()}, {}
    for key, w in random_state().items():
        heads = {"wq": 6, "wk": 2}.get(key.split(".")[-2])
        state[names[key]] = (hf_rows(w, heads) if heads else w).contiguous()
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 512,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 8192,
              "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False,
              "sliding_window": None} | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    if shards == 1:
        save_file(state, folder / "model.safetensors")
    else:
        weight_map = {key: f"model-{i % shards}.safetensors" for i, key in enumerate(sorted(state))}
        for file in set(weight_map.values()):
            save_file({k: v for k, v in state.items() if weight_map[k] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder

def test_meta_and_hugging_face_layouts_give_the_same_model(tiny_folder, tmp_path):
    meta, _ = load(tiny_folder, "cpu")
    for shards, theta in ((1, 10000.0), (3, 10000)):  # a JSON file may say it either way
        hf, _ = load(write_hf_by_hand(tmp_path / f"hf{shards}", shards, rope_theta=theta), "cpu")
        assert torch.equal(hf(TOKENS), meta(TOKENS))
        assert hf.fingerprint == meta.fingerprint  # an expert of one fits the other

def test_two_shards_of_model_parallelism_equal_one(tiny_folder, tmp_path):
    axis = {"tok_embeddings": 0, "wo": 1, "w2": 1}  # as Llama 3 splits; everything else by output
    shards = [{k: w if w.dim() == 1 else w.chunk(2, axis.get(k.split(".")[-2], 0))[i]
               for k, w in random_state().items()} for i in range(2)]
    two, _ = load(write_meta(tmp_path / "two", [{k: w.clone() for k, w in s.items()} for s in shards]), "cpu")
    assert torch.equal(two(TOKENS), load(tiny_folder, "cpu")[0](TOKENS))

def test_a_cast_model_keeps_its_fingerprint(tiny_folder):
    assert load(tiny_folder, "cpu", torch.bfloat16)[0].fingerprint == load(tiny_folder, "cpu")[0].fingerprint

def test_rope_parameters_of_transformers_5_and_rope_scaling_of_the_hub_are_the_same(tmp_path):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}
    hub, _ = load(write_hf_by_hand(tmp_path / "hub", rope_theta=5e5, rope_scaling=scaling), "cpu")
    new, _ = load(write_hf_by_hand(tmp_path / "new", rope_theta=None,
                                   rope_parameters={"rope_theta": 5e5, **scaling}), "cpu")
    assert hub.args == new.args and hub.args.rope_scaling == (8.0, 1.0, 4.0, 64)
    assert torch.equal(hub(TOKENS), new(TOKENS))

@pytest.mark.parametrize("change, named", [
    ({"architectures": ["Qwen2ForCausalLM"]}, "Qwen2ForCausalLM"), ({
     "sliding_window": 4096}, "sliding_window"),
    ({"attention_bias": True}, "attention_bias"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"rope_scaling": {"rope_type": "yarn"}}, "yarn"), ({"hidden_act": "gelu"}, "gelu"),
    ({"intermediate_size": 96}, "feed_forward.w"), ({"num_hidden_layers": 3}, "layers.2"),
    ({"vocab_size": 200}, "has 258 tokens")])
def test_what_is_not_supported_in_a_config_is_named(tmp_path, change, named):
    with pytest.raises(ValueError, match=named):
        load(write_hf_by_hand(tmp_path / "hf", **change), "cpu")

@pytest.mark.parametrize("params, named", [
    ({**PARAMS, "mystery": 1}, "mystery"), ({**PARAMS, "use_scaled_rope": True}, "rope_scaling_factor")])
def test_unknown_params_are_named(tmp_path, params, named):
    with pytest.raises(ValueError, match=named):
        load(write_meta(tmp_path / "m", [random_state()], params), "cpu")

def test_missing_and_unknown_tensors_are_named(tmp_path):
    state = random_state()
    less = {k: v for k, v in state.items() if k != "layers.1.attention.wv.weight"}
    with pytest.raises(ValueError, match="layers.1.attention.wv.weight is missing"):
        load(write_meta(tmp_path / "less", [less]), "cpu")
    with pytest.raises(ValueError, match="extra.weight is unknown"):
        load(write_meta(tmp_path / "more", [state | {"extra.weight": torch.ones(2)}]), "cpu")

def test_a_pickle_that_is_more_than_tensors_is_not_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))
    folder = write_meta(tmp_path / "evil", [{"norm.weight": Evil()}])
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        load(folder, "cpu")
    assert not (tmp_path / "owned").exists()

def test_a_truncated_file_and_a_wrong_path_are_one_sentence(tmp_path):
    folder = write_hf_by_hand(tmp_path / "hf")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load(folder, "cpu")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / "nowhere", "cpu")
    with pytest.raises(FileNotFoundError, match="neither params.json"):
        load(tmp_path, "cpu")

def test_the_embedding_of_a_tied_model_is_read_backwards(tmp_path):
    from dataclasses import replace
    state = random_state(args=replace(ARGS, tied_embeddings=True))
    model, _ = load(write_meta(tmp_path / "tied", [state]), "cpu")
    assert model.output is None
    torch.testing.assert_close(model.logits(torch.eye(48)), state["tok_embeddings.weight"].T)

def test_an_exported_folder_loads_again_and_is_the_merged_model(tmp_path):
    from conftest import random_z
    from svf import MODULES, using, wrap
    model, _ = load(write_hf_by_hand(tmp_path / "source"), "cpu")
    wrap(model, MODULES["all"])
    with using(model, random_z(model)):
        adapted = model(TOKENS)
        said = write_hf(model, tmp_path / "out")
    again, tokenizer = load(tmp_path / "out", "cpu")
    assert torch.equal(again(TOKENS), adapted) and "with its tokenizer" in said
    assert tokenizer.decode(tokenizer.encode("héllo")) == "héllo"
    with pytest.raises(ValueError, match="is there already"):
        write_hf(model, tmp_path / "out")
