"""pytest tests/test_model.py: what a forward pass and a batched sampler must never get wrong."""
import math

import pytest
import torch
from conftest import ARGS, random_z

from model import Sampling, Stopping, common_prefix_length, draw, generate, kv_cache, pad, rope_angles
from svf import using, wrapped

PROMPTS = [[5, 9, 200], [7], [300, 3, 8, 100, 41, 7, 6]]  # batch 3, ragged
GREEDY = Sampling(temperature=0.0)

def test_a_cached_generation_follows_the_uncached_forward(tiny):
    model, _ = tiny
    ids, logprobs = generate(model, PROMPTS, Stopping(9), GREEDY)
    for prompt, answer, logprob in zip(PROMPTS, ids, logprobs):
        logp = model(torch.tensor([prompt + answer]))[0].log_softmax(-1)[len(prompt) - 1:-1]
        assert logp.argmax(-1).tolist() == answer
        torch.testing.assert_close(logp.max(-1).values, torch.tensor(logprob), atol=1e-4, rtol=0)

def test_a_prefix_read_once_for_all_rows_gives_the_same_answers(tiny):
    model, _ = tiny
    prompts = [[11, 12, 13, 14] + prompt for prompt in PROMPTS]
    ids, logprobs = generate(model, prompts, Stopping(9), GREEDY)
    for i, prompt in enumerate(prompts):
        [alone], [logprobs_alone] = generate(model, [prompt], Stopping(9), GREEDY)
        assert ids[i] == alone
        torch.testing.assert_close(torch.tensor(logprobs[i]), torch.tensor(logprobs_alone), atol=1e-4, rtol=0)
    assert common_prefix_length(prompts) == 4
    assert common_prefix_length([[1, 2], [1, 2, 3]]) == 1 and common_prefix_length([[1, 2, 3]]) == 2

def test_a_padded_batch_equals_its_rows_alone(tiny):
    model, _ = tiny
    together = model(pad(PROMPTS, "cpu")[0])
    for row, prompt in enumerate(PROMPTS):
        alone = model(torch.tensor([prompt]))[0]
        assert (together[row, :len(prompt)] - alone).abs().max() < 1e-4

def test_later_tokens_do_not_change_earlier_logits(tiny):
    model, _ = tiny
    a, b = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[1, 2, 3, 400, 500]])
    assert torch.equal(model(a)[:, :3], model(b)[:, :3])

def up_to_stop(ids, stop):
    """The ids up to and with the first of the stop ids."""
    for i, token in enumerate(ids):
        if token in stop:
            return ids[:i + 1]
    return ids

def test_rows_that_finish_leave_and_the_others_do_not_notice(tiny):
    model, _ = tiny
    plain, _ = generate(model, PROMPTS, Stopping(12), GREEDY)
    stop = {plain[0][2]}  # row 0 stops early
    wanted = [up_to_stop(ids, stop) for ids in plain]
    selected = []
    ids, _ = generate(model, PROMPTS, Stopping(12, stop), GREEDY, select_rows=selected.append)
    assert ids == wanted and selected
    with pytest.raises(ValueError, match="do not fit"):
        generate(model, PROMPTS, Stopping(8192), GREEDY)

def test_each_row_keeps_its_own_z_when_others_leave(tiny):
    model, _ = tiny
    z = random_z(model, rows=3, size=0.3)
    alone = []
    for row, prompt in enumerate(PROMPTS):
        with using(model, {k: v[row, 0] for k, v in z.items()}):
            alone.append(generate(model, [prompt], Stopping(10), GREEDY)[0][0])
    stop = {alone[0][1]}
    with using(model, z) as select_rows:
        ids, _ = generate(model, PROMPTS, Stopping(10, stop), GREEDY, select_rows=select_rows)
        assert all(len(m.z) < len(PROMPTS) for m in wrapped(model).values())  # rows of z did leave
    assert ids == [up_to_stop(row, stop) for row in alone]

def test_one_seed_gives_one_answer_and_another_seed_another(tiny):
    model, _ = tiny

    def answers(seed):
        sampling = Sampling(1.0, generator=torch.Generator().manual_seed(seed))
        return generate(model, PROMPTS, Stopping(8), sampling)[0]
    assert answers(1) == answers(1) != answers(2)

@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_follow_the_tempered_softmax(temperature):
    logits = torch.tensor([0.3, -1.0, 2.0, -torch.inf, 1.0])
    sampling = Sampling(temperature, generator=torch.Generator().manual_seed(0))
    ids, logp = draw(logits.expand(40_000, 5), sampling)
    p = (logits / temperature).softmax(-1)
    assert (ids.bincount(minlength=5) / 40_000 - p).abs().max() < 0.01
    assert not (ids == 3).any()  # −∞ is never drawn
    torch.testing.assert_close(logp, p.log()[ids])

def test_rope_scaling_is_llama_3s():
    """Against the piecewise rule of Meta's reference code, feature by feature."""
    from dataclasses import replace
    args = replace(ARGS, head_dim=64, rope_theta=500000.0, rope_scaling=(8.0, 1.0, 4.0, 8192))
    plain = 500000.0 ** (-torch.arange(0, 64, 2).float() / 64)
    wanted = []
    for freq in plain.tolist():
        wavelength = 2 * math.pi / freq
        smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
        wanted.append(freq if wavelength < 8192 / 4 else freq / 8 if wavelength > 8192 else
                      (1 - smooth) * freq / 8 + smooth * freq)
    cos, _ = rope_angles(torch.tensor([1.0]), args)
    torch.testing.assert_close(cos.flatten(), torch.tensor(wanted).cos())

def test_the_cache_holds_what_attention_needs_and_no_more():
    cache = kv_cache(ARGS, 3, 11, torch.zeros(0))
    assert [t.shape for kv in cache for t in kv] == 4 * [(3, 2, 11, 8)]

def test_an_empty_prompt_is_refused(tiny):
    with pytest.raises(ValueError, match="at least one token"):
        generate(tiny[0], [[1], []], Stopping(1), GREEDY)
