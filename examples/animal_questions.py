"""Questions of your own as a jsonl file: 400 closed questions about 100 animals, and how to train on them.

    python examples/animal_questions.py > animals.jsonl
    python train.py --task animals.jsonl
    python sample.py --expert out/animals-0/animals.safetensors "Can an owl fly?"
"""
import json
import random
from dataclasses import dataclass

@dataclass(frozen=True)
class Kind:
    name: str
    legs: str
    flies: str
    animals: str

KINDS = (
    Kind("mammal", "4", "no",
         "dog cat horse cow sheep goat pig rabbit lion tiger bear wolf fox deer elephant "
         "giraffe zebra camel mouse squirrel hedgehog moose donkey leopard cheetah"),
    Kind("bird", "2", "yes",
         "eagle sparrow robin crow owl hawk pigeon swallow stork parrot gull woodpecker "
         "raven falcon finch magpie heron crane starling blackbird cuckoo nightingale lark "
         "wren swift"),
    Kind("fish", "0", "no",
         "salmon trout shark tuna cod herring carp pike eel goldfish mackerel sardine bass "
         "perch halibut swordfish anchovy catfish piranha barracuda haddock sturgeon "
         "minnow flounder ray"),
    Kind("insect", "6", "yes",
         "bee wasp mosquito butterfly moth ladybug dragonfly hornet firefly bumblebee gnat "
         "midge housefly locust mayfly horsefly honeybee beetle cicada lacewing fruitfly "
         "damselfly hoverfly stonefly sawfly"))

def questions(rng):
    """Four rows for each animal."""
    names = [kind.name for kind in KINDS]
    for kind in KINDS:
        others = [name for name in names if name != kind.name]
        for animal in kind.animals.split():
            one = f"an {animal}" if animal[0] in "aeiou" else f"a {animal}"
            is_true = rng.random() < 0.5
            claimed = kind.name if is_true else rng.choice(others)
            yield f"What kind of animal is {one}: {', '.join(names[:3])} or {names[3]}?", kind.name, names
            yield f"How many legs does {one} have: 0, 2, 4 or 6?", kind.legs, ["0", "2", "4", "6"]
            yield f"Can {one} fly? Answer yes or no.", kind.flies, ["yes", "no"]
            yield (f"Is it true that {one} is a kind of {claimed}? Answer yes or no.",
                   "yes" if is_true else "no", ["yes", "no"])

if __name__ == "__main__":
    for question, answer, options in questions(random.Random(0)):
        print(json.dumps({"question": question, "answer": answer, "options": options,
                          "system": "Reply with only the right option."}))
