"""A conversation on the terminal, and the streaming of one answer: what it says, and which experts say it."""
import sys
from dataclasses import replace

from adapt import BASE, formatted, second_pass
from harness.experts import expert_named
from harness.report import Stream, in_words
from rl import chat_ids
from tasks.interface import Problem, Task

# -- one answer ----------------------------------------------------------------------------------------------

def score_nothing(problems, texts):
    return [1] * len(texts)

def chat_task(config, problem):
    """A free answer to a prompt, which nobody scores; one that opened a fence ends with it."""
    return Task(name="chat", system="", prefill="", max_new_tokens=config.max_new_tokens,
                problems=None, score=score_nothing, stop="```" if problem.prefill.startswith("```") else "")

def stream_answer(config, adaptive, problem, mixture, stream):
    """Print the answer as its tokens come; `stream` holds their ids, whatever interrupts it."""
    task = chat_task(config, problem)
    if config.show_prompt:
        print(adaptive.tokenizer.as_read(chat_ids(adaptive.tokenizer, task, problem)))
    print(problem.prefill, end="", flush=True)
    second_pass(adaptive, task, [problem], [mixture], stream)
    print()

def answer_as(config, adaptive, problem, mixture, stream=None):
    """Say which experts answer, then stream the answer (and the base model's to the very same text)."""
    print(f"[{in_words(mixture)}]")
    stream_answer(config, adaptive, problem, mixture, stream or Stream(adaptive.tokenizer))
    if config.compare:
        print("the base model: ", end="")
        stream_answer(config, adaptive, problem, BASE, Stream(adaptive.tokenizer))

# -- turn after turn -----------------------------------------------------------------------------------------

class Chat:
    """A conversation that remembers its turns; each turn is sent to an expert anew."""
    help = "one message a line; /expert NAME (or none), /compare, /reset, /quit; Ctrl-C ends an answer"

    def __init__(self, config, adaptive, first_pass):
        """first_pass(requests) -> one mixture each, as --adapt says."""
        self.config = config
        self.adaptive = adaptive
        self.first_pass = first_pass
        self.expert = ""  # one that was named, by --expert or in the chat, and answers in their place
        if config.expert:
            self.expert = expert_named(adaptive, config.expert, config.experts)
        self.history = []  # messages of earlier turns, the oldest first

    def run(self):
        """Answer line after line, until /quit or the end of the input."""
        print(self.help, flush=True)
        while True:
            try:
                line = sys.stdin.readline()
                if line == "" or line.strip() == "/quit":
                    return
                self.take(line.strip())
            except (ValueError, OSError) as error:  # a turn that cannot be answered does not end the chat
                print(f"[{error}]", flush=True)
            except KeyboardInterrupt:
                print("[/quit ends the chat]", flush=True)

    def take(self, line):
        if line.startswith("/"):
            word, _, name = line.partition(" ")
            self.obey(word, name)
        elif line:
            self.say(line)

    def obey(self, word, name):
        """A command, and what stands behind it. Raises ValueError for another, or for an unknown expert."""
        if word == "/compare":
            self.config.compare = not self.config.compare
            print("[the base model answers, too]" if self.config.compare else "[no comparison]")
        elif word == "/reset":
            self.forget()
            print("[forgotten]")
        elif word == "/expert":
            self.choose("" if name in ("", "none") else name)
        else:
            raise ValueError(f"{word} is no command: {self.help}")

    def forget(self):
        self.history = []

    def choose(self, wanted):
        """From now on this expert answers; with "" the first pass of the command line chooses again."""
        self.expert = expert_named(self.adaptive, wanted, self.config.experts) if wanted else ""
        if self.expert:
            print(f"[{self.expert} answers]")
        elif self.config.adapt == "none":
            print("[the base model answers]")
        else:
            print(f"[--adapt {self.config.adapt} chooses]")

    def mixture_for(self, message):
        if self.expert:
            return {self.expert: 1.0}
        if self.config.adapt == "none":
            return BASE
        [mixture] = self.first_pass([message])
        return mixture

    def problem_of(self, message):
        return Problem(message, history=tuple(self.history))

    def room_for(self, problem):
        """The problem with as many earlier turns as the context holds; the oldest leave, and it is said."""
        context = self.adaptive.model.args.max_seq_len
        most = context - self.config.max_new_tokens
        if most <= 0:
            raise ValueError(f"--max-new-tokens {self.config.max_new_tokens} leaves no room for a message in "
                             f"a context of {context}")
        task = chat_task(self.config, problem)
        forgotten = 0
        while len(chat_ids(self.adaptive.tokenizer, task, problem)) > most:
            if not problem.history:
                raise ValueError(f"the message alone is longer than the {most} tokens that the context holds "
                                 "beside an answer")
            problem = replace(problem, history=problem.history[2:])
            forgotten += 1
        if forgotten:
            self.history = list(problem.history)
            print(f"[the context is full: the {forgotten} oldest turns are forgotten]")
        return problem

    def say(self, message):
        """Answer a message, and remember both."""
        problem = self.problem_of(message)
        mixture = self.mixture_for(message)
        problem = self.room_for(formatted(problem, mixture, self.adaptive.experts))
        stream = Stream(self.adaptive.tokenizer)
        try:
            answer_as(self.config, self.adaptive, problem, mixture, stream)
        except KeyboardInterrupt:
            print(" [stopped]", flush=True)
        answer = problem.prefill + self.adaptive.tokenizer.decode(stream.ids)  # as far as it came
        answer = answer.lstrip(" ")  # templates write the space between a turn's head and its text
        self.history += [{"role": "user", "content": message, "image": problem.image},
                         {"role": "assistant", "content": answer}]
