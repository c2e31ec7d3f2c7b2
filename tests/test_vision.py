"""pytest tests/test_vision.py: an image becomes the right rows, and everything that reads ids reads them."""
import json
import random
import re
import shlex
import struct
import subprocess
import zlib
from dataclasses import replace

import pytest
import torch
from conftest import INVISIBLE, expert_metadata, random_z
from safetensors.torch import load_file, save_file
from test_formats import tokenizer_json, write_hf_by_hand, write_tokenizer
from test_scripts import command, run, run_here
from torch import nn

import svf
from adapt import AdaptiveModel, Expert, second_pass
from formats.experts import save_expert
from formats.eyes import load_eyes, our_name, save_eyes
from formats.huggingface import hf_args, hf_eyes, write_hf
from formats.load import load
from model import Sampling, Stopping, Transformer, generate, pad
from rl import Answer, Learner, Settings, accumulate_gradient, chat_ids, reinforce
from scripts import make_eyes
from svf import MODULES, start, using, wrap, wrapped
from tasks.catalog import get_task
from tasks.easy_vqa import COLORS, SHAPES
from tasks.interface import Problem, Task
from vision.encoder import Eyes, EyesArgs, VisionBlock, pixel_shuffle
from vision.images import read_image
from vision.seeing import give_eyes

try:
    from PIL import Image
except ModuleNotFoundError:
    Image = None

EYES = EyesArgs(image_size=32, patch_size=4, vision_dim=24, vision_hidden_dim=40, vision_layers=2,
                vision_heads=3, vision_eps=1e-6, scale_factor=4, dim=48)
SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")
SPECIALS = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>"]

def random_eyes(seed=0):
    torch.manual_seed(seed)
    return Eyes(EYES)

def write_picture(path, color="red", size=(32, 32)):
    pytest.importorskip("PIL")
    Image.new("RGB", size, color).save(path)
    return str(path)

def write_rows_with_pictures(folder):
    """own.jsonl: 150 questions, each about a picture of its own beside it."""
    rows = []
    for i in range(150):
        write_picture(folder / f"{i}.png", (i, 255 - i, 0))
        rows.append(json.dumps({"question": "Say nothing.", "answer": INVISIBLE, "image": f"{i}.png"}))
    (folder / "own.jsonl").write_text("\n".join(rows))

@pytest.fixture
def pictures(tmp_path):
    return [write_picture(tmp_path / f"{color}.png", color) for color in ("red", "green", "blue")]

@pytest.fixture
def seeing(tiny):
    """(wrapped model, tokenizer, ImageReader) with random eyes."""
    model, tokenizer = tiny
    return model, tokenizer, give_eyes(model, tokenizer, random_eyes())

# -- the eyes ------------------------------------------------------------------------------------------------

def test_a_block_is_torchs_own_encoder_layer():
    torch.manual_seed(0)
    block = VisionBlock(EYES)
    gelu = nn.GELU(approximate="tanh")
    torchs = nn.TransformerEncoderLayer(24, 3, 40, dropout=0.0, activation=gelu, layer_norm_eps=1e-6,
                                        batch_first=True, norm_first=True)
    attention = block.self_attn
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    torchs.self_attn.in_proj_weight.data = torch.cat([p.weight for p in projections])
    torchs.self_attn.in_proj_bias.data = torch.cat([p.bias for p in projections])
    torchs.self_attn.out_proj = attention.out_proj
    torchs.linear1, torchs.linear2 = block.mlp.fc1, block.mlp.fc2
    torchs.norm1, torchs.norm2 = block.layer_norm1, block.layer_norm2
    x = torch.randn(2, 64, 24)
    assert torch.allclose(block(x), torchs(x), atol=1e-6)

def test_the_shuffle_puts_neighbours_of_the_square_side_by_side():
    side, s = 4, 2
    x = torch.arange(side * side).float().view(1, -1, 1)  # patch (row, column) is the number 4 · row + column
    assert pixel_shuffle(x, s)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]

def test_the_tower_is_patches_and_positions_through_the_blocks_and_a_norm():
    tower, pixels = random_eyes().tower, torch.randn(2, 3, 32, 32)
    conv = tower.patch_embedding
    for norm in (tower.post_layernorm, tower.layers[0].layer_norm1):  # else ones and zeros
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    patches = nn.functional.unfold(pixels, 4, stride=4).transpose(1, 2)  # (2, 64, 3 · 4 · 4)
    x = patches @ conv.weight.flatten(1).T + conv.bias + tower.position_embedding.weight
    for block in tower.layers:
        x = block(x)
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    expected = x * tower.post_layernorm.weight + tower.post_layernorm.bias
    assert torch.allclose(tower(pixels), expected, atol=1e-4)

def test_the_tower_reads_patches_row_by_row():
    """A tower without blocks: one bright patch changes the feature of its own place and no other."""
    args = replace(EYES, vision_layers=1)
    eyes = Eyes(args)
    eyes.tower.layers = nn.ModuleList()
    pixels = torch.zeros(2, 3, 32, 32)
    pixels[1, :, 4:8, 12:16] = 1.0  # row 1, column 3 of 8 × 8 patches
    dark, bright = eyes.tower(pixels)
    changed = (dark - bright).abs().amax(dim=1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [8 + 3]

# -- a prompt with images ------------------------------------------------------------------------------------

def test_rows_with_images_without_and_under_other_experts_are_those_of_the_rows_alone(seeing, pictures):
    model, tokenizer, _ = seeing
    experts = {name: Expert(random_z(model, seed=i, size=0.3), {}, role="task")
               for i, name in enumerate("ab")}
    adaptive = AdaptiveModel(model, tokenizer, experts)
    task = Task("t", "", "", 12, None, lambda problems, texts: [1] * len(texts))
    problems = [Problem("What is this?", image=pictures[0]), Problem("Add 1 and 1, and say why it is so."),
                Problem("Which?", image=pictures[1]), Problem("What is this?", image=pictures[2])]
    mixtures = [{"a": 1.0}, {"b": 1.0}, {"a": 0.5, "b": 0.2}, {"other": 1.0}]
    together = second_pass(adaptive, task, problems, mixtures)
    for problem, mixture, answer in zip(problems, mixtures, together):
        [alone] = second_pass(adaptive, task, [problem], [mixture])
        assert answer.ids == alone.ids
    assert len({tuple(answer.ids) for answer in together}) == 4

def test_the_image_decides_and_the_question_shares_no_prefix_with_another_image(seeing, pictures):
    model, tokenizer, _ = seeing
    task = Task("t", "", "", 1, None, None)
    prompts = [chat_ids(tokenizer, task, Problem("What?", image=image)) for image in pictures]
    rows, _ = pad(prompts, "cpu")
    h = model.hidden(rows)[:, -1]
    assert (h[0] - h[1]).abs().max() > 1e-3 and (h[1] - h[2]).abs().max() > 1e-3
    again = chat_ids(tokenizer, task, Problem("What?", image=pictures[0]))
    assert again == prompts[0]  # a picture is looked at once
    assert len(model.tok_embeddings.rows) >= 3 * EYES.n_features()

def test_the_table_of_images_grows_and_keeps_what_is_in_it(seeing, tmp_path):
    model, _, images = seeing
    files = [write_picture(tmp_path / f"{i}.png", (i, 0, 255 - i)) for i in range(70)]
    ids = [images.ids_of(file) for file in files]
    for file, places in list(zip(files, ids))[::23]:
        assert torch.equal(model.tok_embeddings(torch.tensor([places]))[0], images.look(file))

def test_the_gradient_for_z_of_answers_about_images_is_that_of_autograd(seeing, pictures):
    model, tokenizer, _ = seeing
    task = Task("t", "", "", 1, None, None)
    answers = [Answer(chat_ids(tokenizer, task, Problem("What?", image=image)), [7, 65, 300 + i], [], "", 1,
                      True) for i, image in enumerate([pictures[0], pictures[0], pictures[1], ""])]
    advantages = [1.0, -0.5, 2.0, -1.0]
    settings = Settings(steps=1, n_problems=1, group=4, micro_batch=2, lr=1e-3, lam=0.0, seed=0, eval_every=1)
    learner = Learner(model, tokenizer, svf, task, Sampling(1.0), settings, reinforce)
    z = {name: v.requires_grad_() for name, v in random_z(model).items()}
    with using(model, z):
        accumulate_gradient(learner, answers, advantages, learner.sampling)
    # the oracle: each answer alone, every weight made of z by autograd
    modules = {name: module for name, module in wrapped(model).items()}
    dense = {name: v.detach().clone().requires_grad_() for name, v in z.items()}
    weights = {}
    for name, module in modules.items():
        W, basis, d = module.linear.weight, module.basis, dense[name]
        change = (basis * (d - 1)) @ (basis.T @ W) if module.on_output else ((W @ basis) * (d - 1)) @ basis.T
        weights[f"{name}.linear.weight"] = W + change
    loss = 0.0
    for answer, advantage in zip(answers, advantages):
        row = torch.tensor([answer.prompt + answer.ids])
        logits = torch.func.functional_call(model, weights, (row[:, :-1],))[0]
        logp = logits.log_softmax(-1)[len(answer.prompt) - 1:]
        loss = loss - advantage * logp.gather(1, torch.tensor(answer.ids)[:, None]).sum() / len(answers)
    loss.backward()
    for name in z:
        assert torch.allclose(z[name].grad, dense[name].grad, rtol=1e-3, atol=1e-5), name

def test_text_is_computed_bit_for_bit_as_without_eyes(tiny_folder, pictures):
    blind, tokenizer = load(tiny_folder, "cpu")
    prompts = [tokenizer.chat([{"role": "user", "content": text}]) for text in ("Hi", "What is it?")]
    before = generate(blind, prompts, Stopping(20), Sampling())
    give_eyes(blind, tokenizer, random_eyes())
    tokenizer.image_ids(pictures[0])
    assert generate(blind, prompts, Stopping(20), Sampling()) == before

# -- the chat ------------------------------------------------------------------------------------------------

def write_smolvlm(folder, kind="SmolVLMForConditionalGeneration"):
    """A folder as Hugging Face has it: the random little Llama behind random eyes."""
    write_hf_by_hand(folder)
    config = json.loads((folder / "config.json").read_text())
    vision = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
              "image_size": 32, "patch_size": 4}
    (folder / "config.json").write_text(json.dumps({
        "architectures": [kind], "text_config": config, "vision_config": vision, "scale_factor": 4,
        "image_token_id": 260, "tie_word_embeddings": False}))
    state = {key if key == "lm_head.weight" else key.replace("model.", "model.text_model."): w
             for key, w in load_file(folder / "model.safetensors").items()}
    theirs = {"tower.layers.": "model.vision_model.encoder.layers.",
              "tower.post_layernorm.": "model.vision_model.post_layernorm.",
              "tower.": "model.vision_model.embeddings.",
              "projection.": "model.connector.modality_projection.proj."}
    for key, w in random_eyes().state_dict().items():
        prefix = next(prefix for prefix in theirs if key.startswith(prefix))
        state[theirs[prefix] + key.removeprefix(prefix)] = w
    save_file(state, folder / "model.safetensors")
    written = tokenizer_json(0)
    written["added_tokens"] = [{"content": text, "id": 256 + i, "special": True}
                               for i, text in enumerate(SPECIALS)]
    write_tokenizer(folder, written, chat_template=SMOLVLM_TEMPLATE, eos_token="<end_of_utterance>")
    return folder

@pytest.mark.parametrize("kind", ["Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration"])
def test_a_folder_with_eyes_loads_and_sees(tmp_path, pictures, kind):
    model, tokenizer = load(write_smolvlm(tmp_path / "vlm", kind), "cpu")
    eyes = model.tok_embeddings.eyes.state_dict()
    for (name, read), written in zip(eyes.items(), random_eyes().state_dict().values()):
        assert torch.equal(read, written), name
    plain, _ = load(write_hf_by_hand(tmp_path / "plain"), "cpu")
    tokens = torch.tensor([[5, 9, 200, 41]])
    assert torch.equal(model(tokens), plain(tokens))
    asked = {"role": "user", "content": "What <image> is <global-img> this?", "image": pictures[0]}
    ids = tokenizer.chat([asked])
    s = tokenizer.specials
    n = EYES.n_features()
    image = [s["<fake_token_around_image>"], s["<global-img>"], *range(512, 512 + n),
             s["<fake_token_around_image>"]]
    assert ids == [s["<|im_start|>"], *b"User:", *image, *b"What <image> is <global-img> this?",
                   s["<end_of_utterance>"], *b"\nAssistant:"]
    without = tokenizer.chat([{"role": "user", "content": "Hi"}])
    assert without == [s["<|im_start|>"], *b"User: Hi", s["<end_of_utterance>"], *b"\nAssistant:"]
    assert tokenizer.stop_ids == {s["<end_of_utterance>"]}
    with pytest.raises(ValueError, match="cannot be exported"):
        write_hf(model, tmp_path / "exported")
    expected = random_eyes()(read_image(pictures[0], 32)[None])[0]
    assert torch.allclose(model.tok_embeddings.rows[:n], expected, atol=1e-6)

def test_what_a_user_types_is_no_image(real):
    _, tokenizer = real
    ids = tokenizer.chat([{"role": "user", "content": "an <image> here"}])
    assert tokenizer.decode(ids).count("an <image> here") == 1
    assert max(ids) < 49152

def test_an_image_for_a_model_without_eyes_is_refused(tiny, pictures):
    with pytest.raises(ValueError, match="has no eyes"):
        tiny[1].chat([{"role": "user", "content": "What?", "image": pictures[0]}])

def test_smolvlm_256m_has_the_parameters_it_should(tmp_path):
    text = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "intermediate_size": 1536, "vocab_size": 49280, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
            "max_position_embeddings": 8192}
    vision = {"hidden_size": 768, "num_attention_heads": 12, "image_size": 512, "patch_size": 16}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"architectures": ["Idefics3ForConditionalGeneration"], "text_config": text,
                                "vision_config": vision, "scale_factor": 4}))
    with torch.device("meta"):
        parts = Transformer(hf_args(file)), Eyes(hf_eyes(file, 576))
    assert sum(p.numel() for part in parts for p in part.parameters()) == 256_484_928
    assert parts[1].args.n_features() == 64

@pytest.mark.parametrize("changes, named", [
    ({"hidden_act": "quick_gelu"}, "hidden_act = 'quick_gelu'"), ({"patch_size": 5}, "patches of 5"),
    ({"num_hidden_layers": -1}, "vision_layers = -1"), ({"image_size": "32"}, "image_size = '32'"),
    ({"num_hidden_layers": 3}, "is missing"), ({"hidden_size": 48}, "the configuration says")])
def test_eyes_that_cannot_be_are_one_sentence(tmp_path, changes, named):
    folder = write_smolvlm(tmp_path / "vlm")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=named):
        load(folder, "cpu")

def test_the_language_part_may_leave_out_what_is_llamas_default(tmp_path):
    file = tmp_path / "config.json"
    text = {"hidden_size": 960, "num_attention_heads": 15, "num_key_value_heads": 5, "vocab_size": 49280,
            "intermediate_size": 2560, "rms_norm_eps": 1e-5, "rope_theta": 100000.0}
    config = {"architectures": ["SmolVLMForConditionalGeneration"], "text_config": text, "scale_factor": 4,
              "vision_config": {"hidden_size": 768, "num_attention_heads": 12, "image_size": 512,
                                "patch_size": 16}}
    file.write_text(json.dumps(config))
    assert hf_args(file).n_layers == 32 and hf_eyes(file, 960).vision_layers == 12
    for changes, named in (({"text_config": text | {"model_type": "gemma"}}, "model_type 'gemma'"),
                           ({"quantization_config": {"bits": 4}}, "quantization_config")):
        file.write_text(json.dumps(config | changes))
        with pytest.raises(ValueError, match=named):
            hf_args(file)

def test_a_template_that_loses_or_doubles_an_image_is_refused(seeing, pictures):
    _, tokenizer, _ = seeing
    message = {"role": "user", "content": "What?", "image": pictures[0]}
    for template, n in (("{{ messages[0].content }}{{ messages[0].content }}", 2),
                        ("{{ messages[0].content[1:] }}", 0)):
        tokenizer.use_template(template)
        with pytest.raises(ValueError, match=f"{n} images where there are 1"):
            tokenizer.chat([message])

def test_no_name_of_the_language_model_is_one_of_the_eyes():
    assert our_name("model.text_model.layers.0.mlp.up_proj.weight") is None
    assert our_name("model.vision_model.post_layernorm.bias") == "tower.post_layernorm.bias"

# -- image files ---------------------------------------------------------------------------------------------

def test_an_image_is_read_as_numbers_from_minus_one_to_one(tmp_path):
    wide = read_image(write_picture(tmp_path / "wide.jpg", "white", (80, 20)), 16)
    assert wide.shape == (3, 16, 16) and (wide == 1).all()
    Image.new("CMYK", (20, 20), (0, 0, 0, 0)).save(tmp_path / "print.jpg")
    Image.new("L", (20, 20), 255).save(tmp_path / "grey.png")
    Image.new("P", (20, 20)).save(tmp_path / "palette.gif")
    assert (read_image(tmp_path / "print.jpg", 8) > 0.98).all()
    assert (read_image(tmp_path / "grey.png", 8) == 1).all()
    assert read_image(tmp_path / "palette.gif", 8).shape == (3, 8, 8)
    Image.new("I;16", (20, 20), 30000).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="more than 8 bits"):
        read_image(tmp_path / "deep.png", 8)
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 255, 255))  # column 1 of row 0
    image.putpixel((0, 1), (0, 0, 0, 0))  # nothing there: what is behind it is white
    image.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", 2)
    assert pixels[:, 0, 0].tolist() == [1, -1, -1] and pixels[:, 0, 1].tolist() == [-1, -1, 1]
    assert pixels[:, 1, 0].tolist() == [1, 1, 1]

def bomb(side):
    """A PNG of side × side pixels in a hundred bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
            + chunk(b"IEND", b""))

def test_a_bad_image_is_one_sentence(tmp_path):
    whole = tmp_path / "whole.png"
    write_picture(whole)
    Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(bomb(100_000))
    (tmp_path / "large.png").write_bytes(bomb(11_000))  # of which Pillow would only warn
    with pytest.raises(ValueError, match="the most are 100000000"):
        read_image(tmp_path / "large.png", 32)
    for name in ("cut.png", "text.png", "empty.png", "bomb.png", "."):
        with pytest.raises(ValueError, match="cannot be read"):
            read_image(tmp_path / name, 32)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_image(tmp_path / "none.png", 32)

# -- tasks ---------------------------------------------------------------------------------------------------

def write_easy_vqa(folder):
    """easy-VQA's layout: a few images before and behind the one from which on they validate."""
    for part, numbers in (("train", [*range(24), *range(3500, 3512)]), ("test", range(12))):
        (folder / part / "images").mkdir(parents=True)
        rows = []
        for i in numbers:
            shape, color = SHAPES[i % 8 % 3], COLORS[i % 8]
            write_picture(folder / part / "images" / f"{i}.png", color, (64, 64))
            other = COLORS[(i + 1) % 8]
            rows += [["what shape is in the image?", shape, i], ["what color is the shape?", color, i],
                     [f"is there not a {other} shape?", "yes", i], [f"is no {shape} present?", "no", i],
                     [f"what is the {color} shape?", shape, i]]
        (folder / part / "questions.json").write_text(json.dumps(rows))
    return folder

def test_easy_vqa_asks_about_one_property_and_its_cousin_about_the_other(tmp_path):
    folder = write_easy_vqa(tmp_path / "vqa")
    task, variant = get_task("easy_vqa", folder), get_task("easy_vqa_color", folder)
    of_shape = {p.prompt for p in task.problems("train", 1000, 0)}
    of_color = {p.prompt for p in variant.problems("test", 1000, 0)}
    assert "What is the red shape?" in of_shape and "Is no circle present?" in of_shape
    assert "Is there not a red shape?" in of_color and "What color is the shape?" in of_color
    assert not of_shape & of_color
    assert "train" not in variant.splits
    assert {p.template for p in task.problems("val", 1000, 0)} == set(range(3500, 3512))
    assert {p.template for p in task.problems("train", 1000, 0)} == set(range(24))
    problem = Problem("", gold="circle", options=SHAPES)
    assert task.score([problem] * 2, [" A circle.", " It is a rectangle"]) == [1, -1]

@pytest.mark.parametrize("damage, named", [
    (lambda f: (f / "test" / "images" / "3.png").unlink(), "3.png is missing"),
    (lambda f: (f / "train" / "questions.json").write_text('[["what?", "seven", 0]]'), "none of easy-VQA's"),
    (lambda f: (f / "train" / "questions.json").write_text("{"), "cannot be read"),
    (lambda f: (f / "train" / "questions.json").unlink(), "train/questions.json")])
def test_a_damaged_folder_of_pictures_is_one_sentence(tmp_path, damage, named):
    folder = write_easy_vqa(tmp_path / "vqa")
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=named):
        get_task("easy_vqa", folder)

def test_what_is_said_of_an_image_is_read_with_its_negations():
    said = [(("Is there not a red shape?", "no"), "red"), (("Is there a red shape?", "yes"), "red"),
            (("What color is the shape?", "red"), "red"), (("Is there not a red shape?", "yes"), None),
            (("Is there a red shape?", "no"), None)]
    for (question, answer), color in said:
        assert set(COLORS) & make_eyes.what_is_said(Problem(question, gold=answer)) == ({color} - {None})

# -- eyes for a model without --------------------------------------------------------------------------------

def test_eyes_come_back_and_wrong_files_are_refused(tiny, tmp_path):
    model, _ = tiny
    path = tmp_path / "eyes.safetensors"
    eyes = random_eyes()
    save_eyes(path, eyes, model.fingerprint)
    for name, v in load_eyes(path, model).state_dict().items():
        assert torch.allclose(v, eyes.state_dict()[name], atol=1e-2), name
    save_eyes(path, eyes, "another")
    with pytest.raises(ValueError, match="eyes of another model"):
        load_eyes(path, model)
    eyes.projection.weight.data[0, 0] = float("nan")
    save_eyes(path, eyes, model.fingerprint)
    with pytest.raises(ValueError, match="not finite"):
        load_eyes(path, model)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="holds no eyes"):
        load_eyes(path, model)
    with pytest.raises(FileNotFoundError, match="scripts.make_eyes"):
        load_eyes(tmp_path / "none", model)

def eyes_flags(tiny_folder, data, out):
    return ["--model", tiny_folder, "--data", data, "--out", out, "--tower-steps", 150, "--steps", 110,
            "--batch", 8, "--vision-dim", 16, "--vision-layers", 1, "--tower-lr", 0.01, "--dtype", "float32"]

def test_train_eyes_learns_and_a_resumed_run_ends_where_an_unbroken_one_does(tiny_folder, tmp_path, capsys,
                                                                             monkeypatch):
    data = write_easy_vqa(tmp_path / "vqa")
    one = run("scripts.make_eyes", *eyes_flags(tiny_folder, data, tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    log = [json.loads(line) for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    assert log[1]["lesson"] == "tower" and log[1]["loss"] < 1.0  # ln 3 + ln 8 = 3.2 knows nothing
    assert log[2]["lesson"] == "projection"

    def interrupted(folder, state):
        save_state(folder, state)
        if (state["lesson"], state["step"]) == at:
            raise KeyboardInterrupt

    save_state = make_eyes.save_state
    monkeypatch.setattr(make_eyes, "save_state", interrupted)
    flags = list(map(str, eyes_flags(tiny_folder, data, tmp_path / "two")))
    for more, at in (([], ("tower", 100)), (["--resume"], ("projection", 100))):  # in the midst of a lesson
        monkeypatch.setattr("sys.argv", ["make_eyes.py", *flags, *more])
        with pytest.raises(KeyboardInterrupt):
            make_eyes.main()
    two = run("scripts.make_eyes", *flags, "--resume")
    assert two.returncode == 0, two.stderr
    steps = []
    for name in ("one", "two"):
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        steps.append([json.loads(line).get("step") for line in lines])
    assert steps[0] == steps[1] == [100, 150, 100, 110, None]  # no line twice
    ends = [load_file(tmp_path / name / "eyes.safetensors") for name in ("one", "two")]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])

    [next_command] = re.findall(r"python -m (scripts.sample .*)", two.stdout)
    answered = run(*shlex.split(next_command), "--max-new-tokens", 4, "--show-prompt")
    assert answered.returncode == 0 and "[1.00 other]" in answered.stdout, answered.stderr
    assert "[4 rows of an image]What is in the picture?" in answered.stdout

@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:500]),
    lambda path: torch.save({"lesson": "tower"}, path),
    lambda path: torch.save({"lesson": "tower", "config": {}, "fingerprint": 7}, path)])
def test_a_damaged_state_of_the_eyes_is_one_sentence(tiny_folder, tmp_path, monkeypatch, capsys, damage):
    data = write_easy_vqa(tmp_path / "vqa")
    (tmp_path / "run").mkdir()
    torch.save({}, tmp_path / "run" / "state.pt")
    damage(tmp_path / "run" / "state.pt")
    code, said = run_here(monkeypatch, capsys, "scripts.make_eyes",
                          *eyes_flags(tiny_folder, data, tmp_path / "run"), "--resume")
    assert code == 2 and "is damaged" in said.err and said.err.count("\n") == 1

def test_other_flags_or_another_model_do_not_resume_the_eyes(tiny_folder, tmp_path, monkeypatch, capsys):
    data = write_easy_vqa(tmp_path / "vqa")
    flags = [*eyes_flags(tiny_folder, data, tmp_path / "run"), "--steps", 1, "--tower-steps", 1]
    done = run("scripts.make_eyes", *flags)
    assert done.returncode == 0, done.stderr
    for more, named in ((["--tower-steps", 2], "began with tower_steps = 1"),
                        (["--vision-layers", 2], "began with vision_layers = 1")):
        code, said = run_here(monkeypatch, capsys, "scripts.make_eyes", *flags, *more, "--resume")
        assert code == 2 and named in said.err
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    torch.save(state | {"fingerprint": "another"}, tmp_path / "run" / "state.pt")
    code, said = run_here(monkeypatch, capsys, "scripts.make_eyes", *flags, "--resume")
    assert code == 2 and "begun with another model" in said.err
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, said = run_here(monkeypatch, capsys, "scripts.make_eyes", *flags, "--resume")
    assert code == 2 and "leave out torchrun" in said.err

def test_the_table_of_pictures_counts_kinds_and_ways_to_guess(tiny_folder, tmp_path):
    """On a data set whose commonest answers are known, with an expert that changes nothing."""
    data = write_easy_vqa(tmp_path / "vqa")
    model, _ = load(tiny_folder, "cpu")
    wrap(model, MODULES["all"])
    save_eyes(tmp_path / "eyes.safetensors", random_eyes(), model.fingerprint)
    save_expert(tmp_path / "expert.safetensors", start(model), expert_metadata(model))
    done = run("scripts.pictures", "--data", data, "--model", tiny_folder, "--eyes",
               tmp_path / "eyes.safetensors", "--expert", tmp_path / "expert.safetensors", "--out",
               tmp_path / "log.jsonl")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]

    def accuracy(row, task, kind):
        [record] = [r for r in records if (r.get("row"), r.get("task"), r.get("kind")) == (row, task, kind)]
        return record["accuracy"], record["n"]
    # validation has images 3500 to 3511, its commonest shape, by i % 8 % 3, the first; test has 0 to 11
    of_shape = [i % 8 % 3 for i in range(3500, 3512)]
    commonest = max(range(3), key=of_shape.count)
    share = [i % 8 % 3 for i in range(12)].count(commonest) / 12
    assert accuracy("majority", "easy_vqa", "what") == (share, 24)
    assert accuracy("majority", "easy_vqa", "yes or no") == (1.0, 12)  # all are "no"
    assert accuracy("majority", "easy_vqa_color", "yes or no") == (1.0, 12)  # all are "yes"
    for kind in ("all", "what", "yes or no"):
        assert accuracy("expert", "easy_vqa", kind) == accuracy("base", "easy_vqa", kind)

def test_a_chat_sees_the_images_it_is_shown(tiny_folder, tmp_path, pictures):
    model, _ = load(tiny_folder, "cpu")
    save_eyes(tmp_path / "eyes.safetensors", random_eyes(), model.fingerprint)
    lines = f"Hi\n/image {pictures[0]}\nWhat is it?\n/image {tmp_path}/none.png\nAnd now?\n/quit\n"
    chat = subprocess.run(command("scripts.sample", "--model", tiny_folder, "--eyes",
                                  tmp_path / "eyes.safetensors", "--max-new-tokens", 4, "--show-prompt"),
                          input=lines, capture_output=True, text=True, timeout=120)
    assert chat.returncode == 0, chat.stderr
    assert chat.stdout.count("[4 rows of an image]") == 2  # the second turn, and what the third remembers
    assert "none.png does not exist" in chat.stdout
    wrong = run("scripts.sample", "--model", tiny_folder, "--image", tmp_path / "none.png", "What?")
    assert wrong.returncode == 2 and "none.png does not exist" in wrong.stderr

def test_the_projection_learns_through_the_frozen_language_model(seeing, tmp_path):
    model, tokenizer, images = seeing
    eyes = model.tok_embeddings.eyes.requires_grad_(True)
    teller = make_eyes.Teller(eyes, model, tokenizer, images)
    torch.manual_seed(0)
    batch = make_eyes.Pictures(torch.randn(4, 3, 32, 32), torch.arange(4) % 3, torch.arange(4))
    before = {name: w.clone() for name, w in model.state_dict().items() if ".eyes." not in name}
    optimizer = torch.optim.Adam(eyes.projection.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        losses.append(teller.loss(batch, random.Random(0)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.5
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items() if name in before)

def test_questions_about_one_image_share_its_split_and_count_as_one_template(tmp_path):
    rows = []
    for i in range(60):
        write_picture(tmp_path / f"{i}.png")
        rows += [json.dumps({"question": f"{question} {i}?", "answer": "a", "image": f"{i}.png"})
                 for question in ("What", "Where", "Which")]
    (tmp_path / "own.jsonl").write_text("\n".join(rows))
    task = get_task(str(tmp_path / "own.jsonl"))
    images = {}
    for split in task.splits:
        problems = task.problems(split, 999, 0)
        images[split] = {problem.image for problem in problems}
        assert len(problems) == 3 * len(images[split]) == 3 * len({problem.template for problem in problems})
    assert sum(map(len, images.values())) == 60 and len(set().union(*images.values())) == 60

def test_training_an_expert_on_questions_about_pictures(tiny_folder, tmp_path, monkeypatch):
    """Through scripts.train and scripts.eval, on a file of one's own beside its images; no answers of the
    base model are kept, since another image or other eyes might stand behind the same prompt."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, _ = load(tiny_folder, "cpu")
    save_eyes(tmp_path / "eyes.safetensors", random_eyes(), model.fingerprint)
    write_rows_with_pictures(tmp_path)
    done = run("scripts.train", "--model", tiny_folder, "--task", tmp_path / "own.jsonl", "--eyes",
               tmp_path / "eyes.safetensors", "--out", tmp_path / "run", "--steps", 2, "--rollouts", 8,
               "--group", 4, "--max-new-tokens", 1, "--n-val", 16, "--n-test", 16, "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("base-answers"))
    assert "--image" in done.stdout and (tmp_path / "run" / "own.safetensors").exists()
    (tmp_path / "experts").mkdir()
    (tmp_path / "run" / "own.safetensors").rename(tmp_path / "experts" / "own.safetensors")
    table = run("scripts.eval", "--model", tiny_folder, "--tasks", tmp_path / "own.jsonl", "--eyes",
                tmp_path / "eyes.safetensors", "--experts", tmp_path / "experts", "--rows",
                "base,expert,examples", "--n", 8, "--out", tmp_path / "eval.jsonl", "--dtype", "float32")
    assert table.returncode == 0 and "expert own" in table.stdout, table.stderr
    assert "examples" not in table.stdout  # a solved example would need an image of its own
    (tmp_path / "7.png").unlink()
    failed = run("train.py", "--model", tiny_folder, "--task", tmp_path / "own.jsonl", "--out",
                 tmp_path / "run2")
    assert failed.returncode == 2 and "there is no image" in failed.stderr and "line 8" in failed.stderr
    assert not (tmp_path / "run2").exists()
