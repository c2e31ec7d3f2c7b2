"""Our model, tokenizer, chat formats and speed against Hugging Face transformers, outside the suite.

    pip install transformers tokenizers
    python tools/compare_transformers.py                    # logits, greedy answers, chat formats, export
    python tools/compare_transformers.py --texts FOLDER     # and token ids on 10,000 texts of jsonl files
    python tools/compare_transformers.py --gguf FILE        # another model, as transformers reads the file
    python tools/compare_transformers.py --speed            # rollouts, in alternating pairs, in each dtype
    python tools/compare_transformers.py --step             # a training step against bare forward + backward
    python tools/compare_transformers.py --cem              # a CEM generation against plain ones and merging
    python tools/compare_transformers.py --cem --rounds 1   # each once, on a slow machine
"""
import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from conftest import random_state, write_meta  # noqa: E402
from test_vision import SMOLVLM_TEMPLATE, SPECIALS, write_smolvlm  # noqa: E402

import svf  # noqa: E402
from formats.default_model import DEFAULT_MODEL, fetch_default  # noqa: E402
from formats.huggingface import write_hf  # noqa: E402
from formats.load import load  # noqa: E402
from formats.tokenizer_files import from_hf  # noqa: E402
from formats.vocabulary import byte_of_character  # noqa: E402
from harness.logs import dtype_name  # noqa: E402
from harness.models import pick_device  # noqa: E402
from model import Sampling, Stopping, generate, pad  # noqa: E402
from rl import (  # noqa: E402
    Learner,
    Settings,
    accumulate_gradient,
    answer_logprobs,
    chat_ids,
    leave_one_out,
    reinforce,
    rollout,
)
from svf import MODULES, mix, start, using, wrap  # noqa: E402
from tasks.catalog import get_task  # noqa: E402
from vision.images import read_image  # noqa: E402

GREEDY = Sampling(temperature=0.0)

DTYPE = pick_device("cpu", "")[1]  # what the scripts take here
PROMPTS = ["Hi", "What is the capital of France?", "Name three fruits.", "Write one line about the sea.",
           "What is 12 times 3?", "Say hello in Spanish.", "def f(x):\n    return",
           "List the days of the week."]

missed = []  # what was further off than its limit

def report(what, value, limit):
    if not value <= limit:
        missed.append(what)
    print(f"{what:<66} {value:.2e}   limit {limit:.0e}   {'ok' if value <= limit else 'MISSED'}")

def left_padded(rows):
    """(tokens, mask) of ragged rows, padded on the left as transformers wants them."""
    longest = max(map(len, rows))
    tokens = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return tokens, mask

def hf_logits(hf, rows):
    """Logits of a ragged batch; pads cut off again."""
    tokens, mask = left_padded(rows)
    longest = tokens.shape[1]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = hf(tokens, attention_mask=mask, position_ids=positions).logits
    return [logits[i, longest - len(row):] for i, row in enumerate(rows)]

def difference(model, hf, rows):
    with torch.no_grad():
        ours = model(pad(rows, "cpu")[0])
    return max((ours[i, :len(row)] - theirs).abs().max().item()
               for i, (row, theirs) in enumerate(zip(rows, hf_logits(hf, rows))))

def compare_random_models(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        AutoModelForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
        SmolLM3Config,
        SmolLM3ForCausalLM,
    )
    shape = dict(vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=6,
                 num_key_value_heads=2, intermediate_size=80, max_position_embeddings=512,
                 initializer_range=0.2)
    scaled = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=16, rope_theta=500000.0)
    tokenizer = Tokenizer(models.BPE({chr(33 + i): i for i in range(90)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    cases = {"Llama": (LlamaForCausalLM, LlamaConfig(**shape)),
             "Llama-3.1-scaled": (LlamaForCausalLM, LlamaConfig(**shape, rope_parameters=scaled)),
             "Mistral": (MistralForCausalLM, MistralConfig(**shape, sliding_window=None)),
             "Qwen2": (Qwen2ForCausalLM, Qwen2Config(**shape)),
             "Qwen3": (Qwen3ForCausalLM, Qwen3Config(**shape, head_dim=16)),
             "SmolLM3": (SmolLM3ForCausalLM, SmolLM3Config(**shape, no_rope_layers=[1, 0], pad_token_id=0))}
    rows = [[5, 9, 80, 3, 2, 7], [7, 1], list(range(1, 61))]
    for name, (kind, config) in cases.items():
        torch.manual_seed(0)
        hf = kind(config).float().eval()
        for parameter_name, parameter in hf.named_parameters():
            if parameter_name.endswith("bias") or "norm" in parameter_name:  # else zeros and ones
                parameter.data += 0.3 * torch.randn_like(parameter)
        hf.save_pretrained(folder / name)
        tokenizer.save(str(folder / name / "tokenizer.json"))
        model, _ = load(folder / name, "cpu")
        report(f"random {name}: max |Δlogit|, float32, ragged batch of 3", difference(model, hf, rows), 1e-4)
        model.stop_ids = {2}
        write_hf(model, folder / f"{name} again")
        again = AutoModelForCausalLM.from_pretrained(folder / f"{name} again").float().eval()
        report(f"random {name}, exported: max |Δlogit|", difference(model, again, rows), 1e-4)
        if type(again) is not type(hf) and name != "Mistral":  # whose weights are a Llama's
            missed.append(f"{name}, exported as {type(again).__name__}")
            print(f"  {missed[-1]}: MISSED")

def compare_eyes(folder):
    """Random small models with eyes: features, logits and greedy tokens of three prompts, two with images."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
    )
    around, whole, image = 90, 91, 92
    text = dict(vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=6,
                num_key_value_heads=2, intermediate_size=80, max_position_embeddings=512,
                initializer_range=0.2, pad_token_id=0)
    eyes = dict(hidden_size=40, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
                image_size=64, patch_size=8, initializer_range=0.2)
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    for name, kind, config in (("Idefics3", Idefics3ForConditionalGeneration, Idefics3Config),
                               ("SmolVLM", SmolVLMForConditionalGeneration, SmolVLMConfig)):
        torch.manual_seed(0)
        hf = kind(config(text_config=dict(model_type="llama", **text), vision_config=eyes, scale_factor=4,
                         image_token_id=image, pad_token_id=0)).float().eval()
        for parameter_name, parameter in hf.named_parameters():
            if parameter_name.endswith("bias") or "norm" in parameter_name:
                parameter.data += 0.3 * torch.randn_like(parameter)
        hf.save_pretrained(folder / name)
        write_small_tokenizer(folder / name, {"<fake_token_around_image>": around, "<global-img>": whole,
                                              "<image>": image})
        model, tokenizer = load(folder / name, "cpu")
        with torch.no_grad():
            ours = model.tok_embeddings.eyes(pixels)
            theirs = torch.stack(list(hf.get_image_features(pixels[:, None]).pooler_output))
        largest = (ours - theirs).abs().max().item()
        report(f"random {name}: max |Δfeature| of 2 images, float32", largest, 1e-4)

        n = model.tok_embeddings.eyes.args.n_features()
        model.tok_embeddings.rows = ours.flatten(0, 1)
        seen = [[around, whole, *range(97 + i * n, 97 + (i + 1) * n), around] for i in range(2)]
        rows = [[5, 9, *seen[0], 3, 2, 7], [7, 1, 4, 30, 8], [*seen[1], *range(1, 40)]]
        largest, different = 0.0, 0
        written, _ = generate(model, rows, Stopping(10), GREEDY)
        with torch.no_grad():
            together = model(pad(rows, "cpu")[0])
        for i, row in enumerate(rows):
            ids = torch.tensor([[image if token >= 97 else token for token in row]])
            images = {} if i == 1 else {"pixel_values": pixels[[i // 2]][:, None]}
            with torch.no_grad():
                logits = hf(ids, **images).logits[0]
                continued = hf.generate(ids, **images, max_new_tokens=10, do_sample=False, eos_token_id=None)
            largest = max(largest, (together[i, :len(row)] - logits).abs().max().item())
            different += continued[0, len(row):].tolist() != written[i]
        report(f"random {name}: max |Δlogit|, batch of 3, one without image", largest, 1e-4)
        report(f"random {name}: greedy answers that differ, of 3", different, 0)

def compare_processor(folder):
    """A prompt with an image, and its pixels, as transformers' processor prepares them; needs pillow."""
    from PIL import Image
    from transformers import Idefics3ImageProcessorPil, Idefics3Processor, PreTrainedTokenizerFast
    write_smolvlm(folder / "small")
    model, tokenizer = load(folder / "small", "cpu")
    image = Image.effect_noise((50, 40), 80).convert("RGB")
    image.save(folder / "noise.png")
    written = json.loads((folder / "small" / "tokenizer.json").read_text())
    written["pre_tokenizer"]["trim_offsets"] = True  # what the package wants and we do not read
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    written["added_tokens"] = [token | plain for token in written["added_tokens"]]
    (folder / "tokenizer.json").write_text(json.dumps(written | {"version": "1.0"}))
    hf = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token=SPECIALS[0],
                                 additional_special_tokens=SPECIALS)
    # the image's longer side is what it is resized to first, so that both resize once
    pixels = Idefics3ImageProcessorPil(do_image_splitting=False, size={"longest_edge": 50},
                                       max_image_size={"longest_edge": 32}, image_mean=[0.5] * 3,
                                       image_std=[0.5] * 3)
    n = model.tok_embeddings.eyes.args.n_features()
    processor = Idefics3Processor(pixels, hf, image_seq_len=n, chat_template=SMOLVLM_TEMPLATE)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    text = processor.apply_chat_template(asked, add_generation_prompt=True)
    theirs = processor(text=text, images=[image], return_tensors="pt")
    ours = tokenizer.chat([{"role": "user", "content": "What is this?", "image": folder / "noise.png"}])
    image_id = tokenizer.specials["<image>"]
    ours = [image_id if tokenizer.is_of_image(i) else i for i in ours]
    differs = ours != theirs["input_ids"][0].tolist()
    report("a prompt with an image: ids differ from the processor's", int(differs), 0)
    difference = (read_image(folder / "noise.png", 32) - theirs["pixel_values"][0, 0]).abs().max().item()
    report("its pixels: max |Δ|", difference, 1e-2)

def write_small_tokenizer(folder, specials):
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    tokenizer = Tokenizer(models.BPE({chr(33 + i): i for i in range(90)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in sorted(specials, key=specials.get):
        tokenizer.add_special_tokens([AddedToken(text, special=True)])
        assert tokenizer.token_to_id(text) == specials[text]
    tokenizer.save(str(folder / "tokenizer.json"))

def compare_default_model(folder):
    """The default model, exported by us and loaded by transformers."""
    from transformers import LlamaForCausalLM
    model, tokenizer = load(DEFAULT_MODEL, "cpu")
    write_hf(model, folder / "default")
    hf = LlamaForCausalLM.from_pretrained(folder / "default").float().eval()
    prompts = [tokenizer.chat([{"role": "user", "content": text}]) for text in PROMPTS]
    report("default model: max |Δlogit|, float32, 8 ragged prompts", difference(model, hf, prompts), 5e-4)
    ours, _ = generate(model, prompts, Stopping(40, tokenizer.stop_ids), GREEDY)
    tokens, mask = left_padded(prompts)
    theirs = hf.generate(tokens, attention_mask=mask, max_new_tokens=40, do_sample=False, pad_token_id=0,
                         eos_token_id=sorted(tokenizer.stop_ids))[:, tokens.shape[1]:].tolist()
    different = sum(row[:len(mine)] != mine for mine, row in zip(ours, theirs))
    report("default model: greedy answers that differ, of 8", different, 0)

    wrap(model, MODULES["all"])
    z = {name: v + 0.05 * torch.randn_like(v) for name, v in start(model).items()}
    with using(model, z):
        write_hf(model, folder / "adapted")
        hf = LlamaForCausalLM.from_pretrained(folder / "adapted").float().eval()
        report("an adapted model, exported: max |Δlogit|, float32", difference(model, hf, prompts), 1e-3)

def gguf_tokenizer():
    """The default model's tokenizer as its tokenizer.json describes it, and its chat template."""
    from gguf import GGUFReader
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    fields = {key: field.contents() for key, field in GGUFReader(fetch_default()).fields.items()
              if key.startswith("tokenizer")}
    vocab = {token: i for i, token in enumerate(fields["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    hf = Tokenizer(models.BPE(vocab, merges))
    hf.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                pre_tokenizers.ByteLevel(add_prefix_space=False)])
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens([t for t, kind in zip(fields["tokenizer.ggml.tokens"],
                                                fields["tokenizer.ggml.token_type"])
                           if kind == 3])
    return hf, fields["tokenizer.chat_template"]

LLAMA3 = ("{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
          "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if "
          "add_generation_prompt %}"
          "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
MISTRAL = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
           "{{ '[INST] ' + message['content'] + '[/INST]' }}{% else %}{{ ' ' + message['content'] + "
           "eos_token }}"
           "{% endif %}{% endfor %}")

def compare_chat_formats(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    turns = [{"role": "user", "content": "Hi there, 12 apples?"}, {"role": "assistant", "content": "Yes."},
             {"role": "user", "content": "  Why\n so?"}]
    hf, template = gguf_tokenizer()
    _, ours = load(DEFAULT_MODEL, "cpu")
    cases = {"ChatML": (hf, template, ours, "<|im_start|>", [
                        {"role": "system", "content": "Be brief."}, *turns]),
             "ChatML without a system turn": (hf, template, ours, "<|im_start|>", turns)}

    _, ours = load(write_meta(folder / "llama3", [random_state()]), "cpu")
    llama = Tokenizer(models.BPE({c: b for c, b in byte_of_character().items()}, []))
    llama.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    llama.add_special_tokens(sorted(ours.specials, key=ours.specials.get))
    cases["Llama-3"] = (llama, LLAMA3, ours, "<|begin_of_text|>", turns)

    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    letters = sorted(set("▁Hitherapls12,?Yes.Wy\nso"))
    mistral = Tokenizer(models.BPE({t: i for i, t in enumerate(specials + letters)}, [], unk_token="<unk>"))
    mistral.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    mistral.add_special_tokens(specials)
    (folder / "mistral").mkdir()
    mistral.save(str(folder / "mistral" / "tokenizer.json"))
    config = {"chat_template": MISTRAL, "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "mistral" / "tokenizer_config.json").write_text(json.dumps(config))
    cases["Mistral"] = (mistral, MISTRAL, from_hf(folder / "mistral"), "<s>", turns)
    for name, (hf, template, ours, bos, messages) in cases.items():
        theirs = PreTrainedTokenizerFast(
            tokenizer_object=hf, chat_template=template, bos_token=bos, eos_token="</s>")
        text = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        wanted = theirs(text, add_special_tokens=False)["input_ids"]
        report(f"{name} chat format: ids differ from apply_chat_template's", ours.chat(messages) != wanted, 0)

def compare_gguf(file, folder):
    """A GGUF file of any family as transformers reads it: logits, greedy answers, chat and token ids."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model, tokenizer = load(file, "cpu")
    chats = [[{"role": "user", "content": text}] for text in PROMPTS]
    prompts = [tokenizer.chat(chat) for chat in chats]
    hf = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    report(f"{file.name}: max |Δlogit|, float32, 8 ragged prompts", difference(model, hf, prompts), 1e-3)
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    wanted = [theirs.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] for chat in chats]
    report(f"{file.name}: chats whose ids differ, of 8", sum(a != b for a, b in zip(prompts, wanted)), 0)
    if folder:
        texts = texts_of(folder)
        different = sum(tokenizer.encode(text) != theirs.encode(text, add_special_tokens=False)
                        for text in texts)
        report(f"{file.name}: token ids differ, of {len(texts)} texts", different, 0)

def texts_of(folder, n=10_000):
    texts = [value for path in sorted(Path(folder).glob("*.jsonl")) for line in open(path, encoding="utf-8")
             for value in json.loads(line).values() if isinstance(value, str)]
    return texts[::max(1, len(texts) // n)][:n]

def compare_token_ids(folder):
    texts = texts_of(folder)
    hf, _ = gguf_tokenizer()
    hf.encode_special_tokens = True
    _, ours = load(DEFAULT_MODEL, "cpu")
    different = sum(ours.encode(text) != hf.encode(text, add_special_tokens=False).ids for text in texts)
    report(f"token ids differ, of {len(texts)} texts", different, 0)

def hf_generate(hf, rows, new_tokens, stop):
    """Sampled continuations of ragged prompts by transformers' own generate: a list of id lists."""
    tokens, mask = left_padded(rows)
    out = hf.generate(tokens, attention_mask=mask, max_new_tokens=new_tokens, do_sample=True, temperature=1.0,
                      top_k=0, top_p=1.0, pad_token_id=0, eos_token_id=sorted(stop) or None)
    rows = out[:, tokens.shape[1]:].tolist()
    return [row[:next((i + 1 for i, t in enumerate(row) if t in stop), len(row))] for row in rows]

def alternate(runs, rounds):
    """Seconds of each of {name: function} in each round, run in turn; if there are several, one warms up."""
    seconds = {name: [] for name in runs}
    for _ in range(rounds + (rounds > 1)):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: times[rounds > 1:] for name, times in seconds.items()}

def compare_speed(folder):
    """Rollouts of 64 math prompts, at most 96 new tokens, temperature 1, against transformers' generate."""
    from transformers import LlamaForCausalLM
    model, tokenizer = load(DEFAULT_MODEL, "cpu")
    write_hf(model, folder / "speed")
    task = get_task("math")
    prompts = [chat_ids(tokenizer, task, problem) for problem in task.problems("train", 64, 0)]
    for dtype, wanted in {torch.float32: 1.1, DTYPE: 1.3 if DTYPE == torch.bfloat16 else 1.1}.items():
        model.to(dtype)
        hf = LlamaForCausalLM.from_pretrained(folder / "speed", dtype=dtype).eval()
        for what, rows, stop, aim, pairs in (
                ("64 rows, natural stops", prompts, tokenizer.stop_ids, wanted, 5),
                ("64 rows, to the cap", prompts, set(), 1.0, 3),
                ("batch 1, natural stop", prompts[:1], tokenizer.stop_ids, None, 5)):
            made = {"ours": [], "theirs": []}

            def ours():
                ids, _ = generate(model, rows, Stopping(96, stop), Sampling(1.0))
                made["ours"].append(sum(map(len, ids)))

            def theirs():
                made["theirs"].append(sum(map(len, hf_generate(hf, rows, 96, stop))))
            seconds = alternate({"ours": ours, "theirs": theirs}, pairs)
            a, b = (statistics.median(n / s for n, s in zip(made[who][1:], seconds[who])) for who in made)
            print(f"{dtype_name(dtype):<9} {what:<30} {a:7.0f} tokens/s, transformers {b:7.0f}: "
                  f"{a / b:.2f} times" + (f"   (aim {aim})" if aim else ""), flush=True)

def compare_cem(folder, rounds, members=32, prompt_tokens=64, new_tokens=32):
    """One CEM generation, every row with its own z, against plain generates of the same rows."""
    from transformers import LlamaForCausalLM
    model, _ = load(DEFAULT_MODEL, "cpu")
    write_hf(model, folder / "cem")
    wrap(model, MODULES["all"])
    model.to(DTYPE)
    hf = LlamaForCausalLM.from_pretrained(folder / "cem", dtype=DTYPE).eval()
    torch.manual_seed(0)
    ones = start(model)
    experts = {k: {name: v + 0.01 * torch.randn_like(v) for name, v in ones.items()} for k in range(3)}
    population = [dict(enumerate(alpha)) for alpha in torch.rand(members, 3).tolist()]
    for shots in (3, 10):
        rows = torch.randint(model.args.vocab_size, (members * shots, prompt_tokens)).tolist()

        def ours(rows, mixtures):
            with using(model, mix(experts, mixtures) if mixtures else {}) as select_rows:
                generate(model, rows, Stopping(new_tokens), GREEDY, select_rows=select_rows)

        def merging():
            for member in population:
                ours(rows[:shots], member)
        times = alternate({"plain": lambda: ours(rows, None), "merging": merging,
                           "cem": lambda: ours(rows, [m for m in population for _ in range(shots)]),
                           "hf": lambda: hf_generate(hf, rows, new_tokens, set())}, rounds)
        s = {name: statistics.median(t) for name, t in times.items()}
        print(f"{members} members x {shots} shots: plain {s['plain']:.1f} s, CEM {s['cem']:.1f} s, merging "
              f"for each member {s['merging']:.1f} s, transformers' plain {s['hf']:.1f} s; CEM is "
              f"{s['cem'] / s['plain']:.2f} times plain (limit 2.0), merging "
              f"{s['merging'] / s['cem']:.2f} times CEM (limit 1.7)", flush=True)

def compare_step(rounds):
    """A training step on 64 rollouts, its merge included, against forward + backward of the bare model."""
    model, tokenizer = load(DEFAULT_MODEL, "cpu")
    wrap(model, MODULES["all"])
    model.to(DTYPE)
    task = get_task("math")
    sampling = Sampling(0.7, generator=torch.Generator().manual_seed(0))
    batch = rollout(model, tokenizer, task, task.problems("train", 64, 0), sampling)
    advantages = leave_one_out([1 if i % 3 else -1 for i in range(64)], 64)  # none is 0, so no row is skipped

    def bare():
        """The same tokens through the frozen model, the embedding's output requiring grad."""
        hook = model.tok_embeddings.register_forward_hook(lambda module, args, out: out.requires_grad_())
        rows = sorted(batch, key=lambda a: len(a.prompt) + len(a.ids))
        for i in range(0, 64, 16):
            logp, _ = answer_logprobs(model, rows[i:i + 16], sampling)
            ids = torch.tensor([t for a in rows[i:i + 16] for t in a.ids])
            (-logp.gather(1, ids[:, None]).sum()).backward()
        hook.remove()

    def step(lam):
        settings = Settings(steps=1, n_problems=1, group=64, micro_batch=16, lr=0.0, lam=lam, seed=0,
                            eval_every=1)
        learner = Learner(model, tokenizer, svf, task, sampling, settings, reinforce)
        z = {name: v.requires_grad_() for name, v in start(model).items()}
        with using(model, z):
            accumulate_gradient(learner, batch, advantages, sampling)

    runs = {"bare": bare, "λ = 0": lambda: step(0.0), "λ > 0": lambda: step(0.1)}
    median = {name: statistics.median(times) for name, times in alternate(runs, rounds).items()}
    print(f"bare forward + backward {median['bare']:.1f} s; a step with λ = 0 is "
          f"{median['λ = 0'] / median['bare']:.2f} "
          f"times that (limit 1.7), with λ > 0 {median['λ > 0'] / median['bare']:.2f} times (limit 2.4)")

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", default="")
    parser.add_argument("--gguf", default="")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--cem", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)  # of --step and --cem
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if flags.gguf:
            compare_gguf(Path(flags.gguf), flags.texts)
        elif flags.speed:
            compare_speed(Path(name))
        elif flags.step:
            compare_step(flags.rounds)
        elif flags.cem:
            compare_cem(Path(name), flags.rounds)
        else:
            compare_random_models(Path(name))
            compare_eyes(Path(name))
            compare_processor(Path(name))
            compare_default_model(Path(name))
            compare_chat_formats(Path(name))
            if flags.texts:
                compare_token_ids(flags.texts)
    sys.exit(1 if missed else 0)
