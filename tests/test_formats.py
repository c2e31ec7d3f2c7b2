"""pytest tests/test_formats.py: the same random model in every layout, and every wrong file in one
sentence."""
import json
import sys
from dataclasses import replace

import pytest
import torch
from conftest import ARGS, PARAMS, random_state, write_meta
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors.torch import save_file

from formats.checkpoint import meta_names
from formats.huggingface import no_rope_layers, write_hf
from formats.load import load
from model import Sampling, Stopping, Transformer, generate
from scripts.bench import read_args

TOKENS = torch.tensor([[5, 9, 300, 41], [7, 0, 0, 1], [511, 3, 8, 2]])
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]

def tokenizer_json(n_specials=2):
    """A tokenizer.json of the 256 bytes, in GPT-2's printable alphabet, and ChatML's special tokens."""
    hidden = [b for b in range(256) if b not in BYTES]
    vocab = {chr(b): b for b in BYTES} | {chr(256 + i): b for i, b in enumerate(hidden)}
    specials = ["<|im_start|>", "<|im_end|>"][:n_specials]
    return {"model": {"type": "BPE", "vocab": vocab, "merges": []}, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            "added_tokens": [{"content": s, "id": 256 + i, "special": True} for i, s in enumerate(specials)]}

def hf_rows(w, heads):
    """Meta's neighbouring pairs to Hugging Face's halves, written out row by row as an oracle."""
    head_dim, rows = w.shape[0] // heads, []
    for head in range(heads):
        rows += [head * head_dim + 2 * i for i in range(head_dim // 2)]
        rows += [head * head_dim + 2 * i + 1 for i in range(head_dim // 2)]
    return w[rows]

CHATML = ("{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
          "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")

def write_tokenizer(folder, tokenizer=None, **config):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer or tokenizer_json()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML} | config))
    return folder

def write_hf_by_hand(folder, shards=1, args=ARGS, **changes):
    folder.mkdir(exist_ok=True)
    names, state = {ours: theirs for theirs, ours in meta_names("hf", 2).items()}, {}
    for key, w in random_state(args=args).items():
        heads = {"wq": 6, "wk": 2, "q_norm": 1, "k_norm": 1}.get(key.split(".")[-2])
        state[names[key]] = (hf_rows(w, heads) if heads else w).contiguous()
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": args.head_dim,
              "intermediate_size": 128, "vocab_size": 512,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 8192,
              "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False,
              "sliding_window": None} | changes
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    if shards == 1:
        save_file(state, folder / "model.safetensors")
    else:
        weight_map = {key: f"model-{i % shards}.safetensors" for i, key in enumerate(sorted(state))}
        for file in set(weight_map.values()):
            save_file({k: v for k, v in state.items() if weight_map[k] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder

def write_gguf(folder, architecture="llama", args=ARGS, kind="F32", extra=None, **tensors):
    """The random model as llama.cpp writes it: a Llama's wq and wk in Meta's order, a Qwen's in halves."""
    folder.mkdir(exist_ok=True)
    writer = GGUFWriter(folder / "model.gguf", architecture)
    writer.add_vocab_size(args.vocab_size)
    writer.add_block_count(args.n_layers)
    writer.add_embedding_length(args.dim)
    writer.add_feed_forward_length(args.hidden_dim)
    writer.add_head_count(args.n_heads)
    writer.add_head_count_kv(args.n_kv_heads)
    writer.add_key_length(args.head_dim)
    writer.add_context_length(args.max_seq_len)
    writer.add_layer_norm_rms_eps(args.norm_eps)
    writer.add_rope_freq_base(args.rope_theta)
    if extra is not None:
        method, values = extra
        getattr(writer, method)(*values)
    specials = ["<|im_start|>", "<|im_end|>", "<think>"]
    vocabulary = tokenizer_json(0)["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*sorted(vocabulary, key=vocabulary.get), "ab", *specials])
    writer.add_token_types([1] * 257 + [3, 3, 4])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(258)
    writer.add_chat_template(CHATML)
    names = {ours: theirs for theirs, ours in meta_names("gguf", 2).items()}
    for key, w in random_state(args=args).items():
        heads = {"wq": 6, "wk": 2, "q_norm": 1, "k_norm": 1}.get(key.split(".")[-2])
        if heads and architecture != "llama":
            w = hf_rows(w, heads)
        quantization = GGMLQuantizationType[kind if w.dim() == 2 else "F32"]
        numbers = quantize(w.contiguous().numpy(), quantization)
        writer.add_tensor(names[key], numbers, raw_dtype=quantization)
    for name, numbers in tensors.items():
        writer.add_tensor(name.replace("__", "."), numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"

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

def test_shards_that_contradict_each_other_are_named(tmp_path):
    shards = [{k: w if w.dim() == 1 else w.chunk(2, 1 if k.split(".")[-2] in ("wo", "w2") else 0)[i]
               for k, w in random_state().items()} for i in range(2)]
    shards[1]["layers.1.ffn_norm.weight"] = shards[1]["layers.1.ffn_norm.weight"] + 0.1
    folder = write_meta(tmp_path / "m", [{k: w.clone() for k, w in shard.items()} for shard in shards])
    with pytest.raises(ValueError, match="layers.1.ffn_norm.weight is not the same in all shards"):
        load(folder, "cpu")

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
    ({"architectures": ["GemmaForCausalLM"]}, "GemmaForCausalLM"),
    ({"attention_bias": True}, "attention_bias"),
    ({"logits_scaling": 8.0, "num_experts": 4}, "logits_scaling = 8.0"),  # the first by the alphabet
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({"layer_types": ["chunked_attention"] * 2}, "chunked_attention"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"rope_scaling": {"rope_type": "yarn"}}, "yarn"), ({"hidden_act": "gelu"}, "gelu"),
    ({"intermediate_size": 96}, "feed_forward.w"), ({"num_hidden_layers": 3}, "layers.2"),
    ({"vocab_size": 200}, "has 256 words")])
def test_what_is_not_supported_in_a_config_is_named(tmp_path, change, named):
    with pytest.raises(ValueError, match=named):
        load(write_hf_by_hand(tmp_path / "hf", **change), "cpu")

def test_keys_of_a_config_that_compute_nothing_pass_whatever_their_name(tmp_path):
    keys = {"_attn_implementation_autoset": True, "unsloth_fixed": True, "keys_to_ignore_at_inference": ["a"],
            "logits_scaling": 1.0, "use_sliding_window": False, "max_window_layers": 21, "mlp_bias": False,
            "layer_types": ["full_attention"] * 2, "sliding_window": 4096}
    model, _ = load(write_hf_by_hand(tmp_path / "hf", **keys), "cpu")
    assert model.args.max_seq_len == 8192

def test_a_sliding_window_is_a_context_of_its_length(tmp_path):
    model, _ = load(write_hf_by_hand(tmp_path / "hf", sliding_window=64), "cpu")
    assert model.args.max_seq_len == 64

@pytest.mark.parametrize("change", [
    {"hidden_size": "48"}, {"num_hidden_layers": None}, {"num_hidden_layers": 2 ** 40}, {"vocab_size": [512]},
    {"num_attention_heads": 0}, {"num_attention_heads": -6}, {"intermediate_size": 128.0},
    {"rms_norm_eps": 0.0}, {"rms_norm_eps": float("nan")}, {"rope_theta": -1.0}, {"rope_theta": "1e4"},
    {"tie_word_embeddings": "yes"}, {"num_key_value_heads": 4}, {"head_dim": 7}, {"rope_scaling": 3},
    {"rope_scaling": {"rope_type": "llama3", "factor": 0.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 64}},
    {"max_position_embeddings": True}, {"architectures": 7}])
def test_a_configuration_that_no_model_has_is_one_sentence(tmp_path, change):
    with pytest.raises(ValueError, match="hf"):
        load(write_hf_by_hand(tmp_path / "hf", **change), "cpu")

@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e30])
def test_a_weight_that_is_no_number_or_far_too_large_is_named(tmp_path, number):
    state = random_state()
    state["layers.1.feed_forward.w2.weight"][3, 4] = number
    with pytest.raises(ValueError, match="layers.1.feed_forward.w2.weight holds the number"):
        load(write_meta(tmp_path / "m", [state]), "cpu")

def test_a_pointer_in_place_of_a_file_is_named(tmp_path):
    folder = write_hf_by_hand(tmp_path / "hf")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    (folder / "tokenizer.json").write_text(pointer)
    with pytest.raises(ValueError, match="tokenizer.json is a Git LFS pointer"):
        load(folder, "cpu")

def test_a_folder_with_mistrals_params_json_is_hugging_faces(tmp_path):
    folder = write_hf_by_hand(tmp_path / "hf")
    (folder / "params.json").write_text(json.dumps({"dim": 48, "head_dim": 8}))
    assert load(folder, "cpu")[0].args == load(write_hf_by_hand(tmp_path / "other"), "cpu")[0].args
    assert read_args(folder).head_dim == read_args(folder / "config.json").head_dim == 8

FAMILIES = {"Qwen2ForCausalLM": replace(ARGS, qkv_bias=True), "Qwen3ForCausalLM": replace(ARGS, qk_norm=True),
            "SmolLM3ForCausalLM": replace(ARGS, no_rope_layers=(1,))}

@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_family_is_read_as_it_computes_and_exported_as_what_it_is(tmp_path, architecture):
    args = FAMILIES[architecture]
    oracle = Transformer(args)
    oracle.load_state_dict(random_state(args=args))
    changes = {"no_rope_layers": [1, 0]} if args.no_rope_layers else {}
    folder = write_hf_by_hand(tmp_path / "hf", args=args, architectures=[architecture], **changes)
    model, _ = load(folder, "cpu")
    assert model.args == args and torch.equal(model(TOKENS), oracle(TOKENS))
    write_hf(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [architecture]
    assert torch.equal(load(tmp_path / "out", "cpu")[0](TOKENS), oracle(TOKENS))

@pytest.mark.parametrize("architecture, args", [("llama", ARGS), ("qwen2", replace(ARGS, qkv_bias=True)),
                                                ("qwen3", replace(ARGS, qk_norm=True))])
def test_a_gguf_file_is_the_same_model(tmp_path, architecture, args):
    oracle = Transformer(args)
    oracle.load_state_dict(random_state(args=args))
    model, tokenizer = load(write_gguf(tmp_path / "m", architecture, args), "cpu")
    assert torch.equal(model(TOKENS[:, :3]), oracle(TOKENS[:, :3]))
    assert tokenizer.stop_ids == {258} and tokenizer.encode("ab<think>") == [256, 259]
    chat = tokenizer.chat([{"role": "user", "content": "Hi"}])
    assert tokenizer.as_read(chat).startswith("<|im_start|>user")

def test_a_gguf_key_that_changes_the_computation_is_named_and_a_window_is_a_context(tmp_path):
    with pytest.raises(ValueError, match="llama.attn_logit_softcapping = 30.0 is not supported"):
        load(write_gguf(tmp_path / "m", extra=("add_attn_logit_softcapping", [30.0])), "cpu")
    model, _ = load(write_gguf(tmp_path / "n", extra=("add_sliding_window", [64])), "cpu")
    assert model.args.max_seq_len == 64

@pytest.mark.parametrize("key, value, named", [
    ("llama.rope.scale_linear", 4.0, "llama.rope.scale_linear = 4.0 is not supported"),
    ("llama.rope.scale_linear", 1.0, None), ("llama.rope.scaling.factor", 1.0, None),
    ("llama.logit_scale", 1.0, None), ("llama.logit_scale", 0.5, "llama.logit_scale = 0.5 is not supported")])
def test_a_factor_in_a_gguf_file_is_refused_unless_it_is_one(tmp_path, key, value, named):
    folder = write_gguf(tmp_path / "m", extra=("add_float32", (key, value)))
    if named is None:
        load(folder, "cpu")
        return
    with pytest.raises(ValueError, match=named):
        load(folder, "cpu")

def test_a_part_of_a_gguf_file_says_how_to_join_the_parts(tmp_path):
    with pytest.raises(ValueError, match="is one of 2 parts"):
        load(write_gguf(tmp_path / "m", extra=("add_uint16", ("split.count", 2))), "cpu")

def test_smollm3_without_a_list_leaves_rope_out_of_every_fourth_layer():
    assert no_rope_layers({"num_hidden_layers": 9}) == (3, 7)
    assert no_rope_layers({"num_hidden_layers": 4, "no_rope_layer_interval": 2}) == (1, 3)
    assert no_rope_layers({"num_hidden_layers": 2, "no_rope_layers": [1, 1]}) == ()

@pytest.mark.parametrize("kind, error", [("F16", 1e-3), ("BF16", 1e-2)])
def test_half_precision_in_a_gguf_file_is_read(tmp_path, kind, error):
    model, _ = load(write_gguf(tmp_path / "m", kind=kind), "cpu")
    for name, w in random_state().items():
        assert (model.state_dict()[name] - w).abs().max() <= error * w.abs().max()

def test_the_table_of_llama_3_scaling_in_a_gguf_file_is_read_as_the_scaling_it_is(tmp_path):
    args = replace(ARGS, rope_theta=500000.0)
    factors = torch.ones(4)
    for pair in range(4):
        freq = args.rope_theta ** (-2 * pair / args.head_dim)
        turns = 8192 * freq / (2 * torch.pi)
        share = min(max((turns - 1) / 3, 0), 1)
        factors[pair] = 1 / (share + (1 - share) / 8)
    model, _ = load(write_gguf(tmp_path / "m", args=args, rope_freqs__weight=factors.numpy()), "cpu")
    assert model.args.rope_scaling == pytest.approx((8.0, 1.0, 4.0, 8192))
    with pytest.raises(ValueError, match="is not the scaling of Llama 3.1"):
        load(write_gguf(tmp_path / "n", args=args, rope_freqs__weight=factors.flip(0).numpy()), "cpu")

@pytest.mark.parametrize("args", FAMILIES.values(), ids=FAMILIES)
def test_a_decoded_token_sees_what_a_whole_row_sees_in_every_family(args):
    model = Transformer(args)
    model.load_state_dict(random_state(args=args))
    rows = [[5, 9, 300, 41], [7, 1]]
    ids, _ = generate(model, rows, Stopping(max_new_tokens=5), Sampling())
    for row, answer in zip(rows, ids):
        for i, token in enumerate(answer):
            assert model(torch.tensor([row + answer[:i]]))[0, -1].argmax() == token

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
    file.rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin, a pickle"):
        load(folder, "cpu")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / "nowhere", "cpu")
    with pytest.raises(FileNotFoundError, match="neither params.json"):
        load(tmp_path, "cpu")
    with pytest.raises(ValueError, match="is no .gguf file; of another format, name the folder"):
        load(folder / "pytorch_model.bin", "cpu")

def test_the_embedding_of_a_tied_model_is_read_backwards(tmp_path):
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
    (tmp_path / "source" / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "top_k": 5}))
    (tmp_path / "source" / "tokenizer_config.json").chmod(0o444)
    model.stop_ids = {3, 4}  # those of a template that was named
    write_hf(model, tmp_path / "new" / "folder", CHATML + "{# another #}")
    for name, more in (("config.json", {}), ("generation_config.json", {"top_k": 5})):
        written = json.loads((tmp_path / "new" / "folder" / name).read_text())
        assert written["eos_token_id"] == [3, 4] and written.items() >= more.items()
    assert load(tmp_path / "new" / "folder", "cpu")[1].chat([{"role": "user", "content": "Hi"}])
    (tmp_path / "new" / "folder" / "tokenizer_config.json").unlink()
    assert load(tmp_path / "new" / "folder", "cpu")[1].format is not None  # chat_template.jinja

@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit on files stands for a full disk")
def test_an_export_to_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path):
    import resource
    model, _ = load(write_hf_by_hand(tmp_path / "source"), "cpu")
    (tmp_path / "out").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
    try:
        with pytest.raises(OSError, match="could not be written"):
            write_hf(model, tmp_path / "out" / "exported")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "out").iterdir()) == []
