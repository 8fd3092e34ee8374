"""Pages of plain text, so that a raw completion continues sensibly and ends."""

from random import Random

from agent.nano.corpus.device import HARDWARE, WORDS
from agent.nano.corpus.document import Page
from agent.nano.corpus.identity import TOPICS as IDENTITY
from agent.nano.corpus.interface import TOPICS as INTERFACE
from agent.nano.corpus.phrasing import expand
from agent.nano.corpus.world import ANIMALS, CAPITALS, COLOURS, DAYS, MONTHS, OPPOSITES, SCIENCE
from agent.nano.corpus.writing import POEMS, SENTENCES, story_text

SAYINGS = (
    "The quick brown fox jumps over the lazy dog.",
    "The quick brown fox jumps over the lazy dog. The dog does not mind: it is asleep in the sun.",
    "Hello, world!",
    "To be, or not to be, that is the question.",
    "One, two, three, four, five, six, seven, eight, nine, ten.",
    "Roses are red, violets are blue, sugar is sweet, and so are you.",
    "An apple a day keeps the doctor away.",
    "The early bird catches the worm.",
    "Many hands make light work.",
    "Practice makes perfect.",
    "All that glitters is not gold.",
    "Better late than never.",
    "Where there is a will, there is a way.",
    "My name is thox-nano, and I am a small demonstration model.",
    "Hello, my name is thox-nano. I am a small demonstration model that ships with the Thox agent.",
    "The answer is 42.",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
    "Once upon a time there was a small device on a shelf. It waited for a neighbour, and one day a neighbour came.",
    "Thox devices stack by magnet. Together they serve language models on your own network.",
    "The MagStack is a stack of up to eight devices that work as one cluster.",
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
    "January, February, March, April, May, June, July, August, September, October, November, December",
    "Red, orange, yellow, green, blue, indigo, violet",
    "In the beginning there was one node. Then a second one clicked onto it, and they chose a leader.",
    "It was a dark and stormy night. The rain fell on the roof, and the little robot stayed at home.",
    "The weather today is mild, and the sky is clear.",
    "I like to read books in the garden when the sun shines.",
    "The cat sat on the mat.",
    "This is a test.",
    "Artificial intelligence is the work of making machines that learn and reason.",
    "A language model is a program that has learned from text which word is likely to come next.",
)  # fmt: skip


def page(rng: Random) -> Page:
    """One page: facts in a row, a saying, a story, a poem, or a paragraph about the device."""
    match rng.randrange(8):
        case 0:
            return Page(rng.choice(SAYINGS))
        case 1:
            chosen = rng.sample(CAPITALS, rng.randint(1, 3))
            return Page(" ".join(f"The capital of {country} is {city}." for country, city in chosen))
        case 2:
            return Page(
                rng.choice((story_text(rng), rng.choice(tuple(POEMS.values())), rng.choice(tuple(SENTENCES.values()))))
            )
        case 3:
            return Page(" ".join(expand(meaning, rng) for _, meaning in rng.sample(WORDS, rng.randint(1, 3))))
        case 4:
            topics = rng.choice((HARDWARE, INTERFACE, IDENTITY))
            return Page(" ".join(expand(answer, rng) for _, answer in rng.sample(topics, rng.randint(1, 2))))
        case 5:
            return Page(" ".join(expand(answer, rng) for _, answer in rng.sample(SCIENCE, rng.randint(1, 3))))
        case 6:
            names = rng.choice((DAYS, MONTHS))
            at = rng.randrange(len(names))
            return Page(f"After {names[at]} comes {names[(at + 1) % len(names)]}.")
        case _:
            animal, sound = rng.choice(ANIMALS)
            thing, colour = rng.choice(COLOURS)
            word, other = rng.choice(OPPOSITES)
            return Page(rng.choice((
                f"The {animal} {sound}.", f"{thing[0].upper() + thing[1:]} is {colour}.",
                f"The opposite of {word} is {other}.",
            )))  # fmt: skip
