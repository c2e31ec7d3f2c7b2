"""A training step of ours against one of TRL's GRPOTrainer, which a user would take otherwise, on a CPU.

Both sample as many answers to as many problems of `math` from the default model, with the same prompt ids,
temperature and cap, and take a step at rate 0, so that all answers are the base model's; theirs is LoRA of
rank 16 on all linear layers, ours SVF. The reward is the same but for answers that are cut off, which
earn −1 in ours. Each has a process of its own, whose peak of memory is printed, and they alternate.

    pip install trl peft datasets transformers
    python tools/compare_trl.py                 # 128 answers, 8 problems; two rounds
    python tools/compare_trl.py --answers 64 --group 4
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
import svf  # noqa: E402
from formats.default_model import DEFAULT_MODEL  # noqa: E402
from formats.huggingface import write_hf  # noqa: E402
from formats.load import load  # noqa: E402
from harness.flags import ModelChoice  # noqa: E402
from harness.logs import peak_memory  # noqa: E402
from harness.models import open_model, pick_device  # noqa: E402
from model import Sampling  # noqa: E402
from rl import Learner, Settings, chat_ids, leave_one_out, reinforce  # noqa: E402
from tasks.catalog import get_task  # noqa: E402

TASK = get_task("math")
STEPS = 3  # the first of which warms up and is not counted

def problems_of(config, step):
    return TASK.problems("train", config.answers // config.group, step)

# -- one process each ----------------------------------------------------------------------------------------

def our_steps(config):
    """[(seconds, tokens of an answer)] of each step."""
    model, tokenizer = open_model(ModelChoice(device="cpu", dtype=config.dtype))
    settings = Settings(steps=STEPS, n_problems=config.answers // config.group, group=config.group,
                        micro_batch=16, lr=0.0, lam=0.0, seed=0, eval_every=STEPS)
    learner = Learner(model, tokenizer, svf, TASK, Sampling(0.7), settings, reinforce, leave_one_out)
    z = {name: v.requires_grad_() for name, v in svf.start(model).items()}
    optimizer = torch.optim.AdamW(z.values(), lr=settings.lr, weight_decay=0.0)
    said = []
    for step in range(1, STEPS + 1):
        began = time.time()
        generator = torch.Generator().manual_seed(step)
        metrics = reinforce(learner, z, optimizer, problems_of(config, step), generator)
        said.append((time.time() - began, metrics["tokens"]))
    return said

def their_steps(config):
    """The same by GRPOTrainer, in the folder where `main` has put the model."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
    theirs = PreTrainedTokenizerFast.from_pretrained(config.folder)
    ours = load(DEFAULT_MODEL, "cpu")[1]  # the model is let go
    problems = [problem for step in range(1, STEPS + 1) for problem in problems_of(config, step)]
    rows = []
    for number, problem in enumerate(problems):
        ids = chat_ids(ours, TASK, problem)
        text = theirs.decode(ids)  # which writes special tokens out
        if theirs(text)["input_ids"] != ids:
            raise ValueError(f"the two tokenizers read {text!r} otherwise")
        rows.append({"prompt": text, "number": number})
    lengths, marks = [], []

    def reward(completions, completion_ids, number, **more):
        lengths.append(fmean(map(len, completion_ids)))
        return TASK.score([problems[i] for i in number], completions)

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **more):
            marks.append(time.time())

        def on_step_end(self, *args, **more):
            marks.append(time.time())

    dtype = pick_device("cpu", config.dtype)[1]
    model = AutoModelForCausalLM.from_pretrained(config.folder, dtype=dtype)
    options = GRPOConfig(output_dir=config.folder, per_device_train_batch_size=16,
                         gradient_accumulation_steps=config.answers // 16, num_generations=config.group,
                         max_completion_length=TASK.max_new_tokens, temperature=0.7, top_k=0, beta=0.0,
                         learning_rate=0.0, max_steps=STEPS, use_cpu=True, bf16=False, report_to=[],
                         save_strategy="no", shuffle_dataset=False, gradient_checkpointing=False)
    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear")
    GRPOTrainer(model, reward_funcs=reward, args=options, train_dataset=Dataset.from_list(rows),
                processing_class=theirs, callbacks=[Clock()], peft_config=lora).train()
    return [(end - begin, n) for begin, end, n in zip(marks[::2], marks[1::2], lengths)]

# -- side by side --------------------------------------------------------------------------------------------

def write_model(folder):
    from compare_transformers import gguf_tokenizer
    from transformers import PreTrainedTokenizerFast
    model, _ = load(DEFAULT_MODEL, "cpu")
    write_hf(model, folder)
    tokenizer, _ = gguf_tokenizer()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>",
                            pad_token="<|endoftext|>").save_pretrained(folder)

def run(who, config, folder):
    command = [sys.executable, __file__, "--run", who, "--folder", str(folder), "--dtype", config.dtype,
               "--answers", str(config.answers), "--group", str(config.group)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said.splitlines()[-1])

def main():
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--answers", type=int, default=128)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", default="")
    parser.add_argument("--run", default="", help="one of the processes: ours or theirs")
    parser.add_argument("--folder", default="")
    config = parser.parse_args()
    if config.answers % 16 or config.answers % config.group:
        parser.error("--answers must be a multiple of 16 and of --group")
    if config.run:
        steps = our_steps(config) if config.run == "ours" else their_steps(config)
        print(json.dumps({"steps": steps, "peak_bytes": peak_memory(torch.device("cpu"))}))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model")
        spent = {"ours": [], "theirs": []}
        for _ in range(config.rounds):
            for who in spent:
                found = run(who, config, Path(folder) / "model")
                for seconds, tokens in found["steps"][1:]:
                    spent[who].append(seconds)
                    print(f"{who:<7} {seconds:6.1f} s a step of {config.answers} answers of {tokens:4.1f} "
                          f"tokens, {found['peak_bytes'] / 1e9:.1f} GB", flush=True)
    ratio = fmean(spent["theirs"]) / fmean(spent["ours"])
    print(f"a step of theirs takes {ratio:.1f} times as long as ours")

if __name__ == "__main__":
    main()
