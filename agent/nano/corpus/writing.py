"""Small texts on request: a sentence about something, a tiny story, a tiny poem, answers in JSON or in one word."""

import json
from random import Random

from agent.nano.corpus.document import Dialogue, Turn, exchange
from agent.nano.corpus.phrasing import ask, expand
from agent.nano.corpus.smalltalk import FIRST_NAMES
from agent.nano.corpus.world import CAPITALS, COLOURS, OPPOSITES

SENTENCES: dict[str, str] = {
    "cats": "A cat sleeps in the warm sun.", "dogs": "A dog runs happily through the park.",
    "the sea": "The sea is wide and blue.",
    "the sun": "The sun rises over the quiet hills.", "the moon": "The moon shines softly at night.",
    "rain": "The rain falls gently on the roof.",
    "snow": "White snow covers the silent town.", "robots": "A small robot helps its friends every day.",
    "trees": "Tall trees move in the wind.",
    "music": "Music makes a long day short.", "winter": "In winter the lake is covered with ice.",
    "summer": "In summer the days are long and warm.",
    "spring": "In spring the first flowers open.", "autumn": "In autumn the leaves turn red and gold.",
    "friends": "Good friends help each other.",
    "books": "A good book opens a new world.", "food": "Fresh bread smells wonderful in the morning.",
    "coffee": "A cup of coffee starts the day well.",
    "stars": "Countless stars shine in the dark sky.", "birds": "Birds sing before the sun is up.",
    "magnets": "Two magnets find each other in the dark.",
    "the stack": "The stack grows when two magnets meet.", "computers": "A computer works day and night without a "
    "rest.",
    "water": "Clear water runs down the mountain.", "mountains": "The mountains stand silent under the snow.",
    "school": "The children walk to school together.",
    "love": "Love makes the world a little warmer.", "time": "Time passes quickly when you are happy.",
    "horses": "A horse runs across the green field.",
    "the city": "The city is full of lights and voices.", "flowers": "Red flowers grow beside the door.",
    "fish": "A silver fish swims in the clear river.",
    "language models": "A language model guesses the next word.", "the weather": "The weather is mild and the sky "
    "is clear.",
    "bread": "Fresh bread smells wonderful in the morning.", "peace": "Peace begins with a kind word.",
    "the wind": "The wind plays with the leaves.",
}  # fmt: skip

POEMS: dict[str, str] = {
    "a stack": "One small device, and then one more,\na stack of two, a stack of four.\nThe magnets click, the "
    "lights all glow,\nand off the happy numbers go.",
    "a robot": "A little robot, made of tin,\nhas a tiny light within.\nIt rolls along, it says hello,\nand hums a "
    "tune that robots know.",
    "the moon": "The moon looks down, so round and bright,\nand keeps the quiet world in light.\nIt does not speak, "
    "it does not stay,\nit fades away at break of day.",
    "the sea": "The sea is wide, the sea is deep,\nit rocks the little ships to sleep.\nIt sings to us along the "
    "shore,\nand comes again for ever more.",
    "a cat": "A cat lies down upon the mat,\na very calm and sleepy cat.\nIt dreams of fish, it dreams of sun,\nand "
    "wakes up when the day is done.",
    "a magnet": "A magnet met a magnet's face,\nand gently clicked into its place.\nNow side by side they like to "
    "stay,\nand talk about the work all day.",
    "the rain": "The rain is tapping on the pane,\na quiet song, then once again.\nIt fills the garden, fills the "
    "stream,\nand slowly sings me to a dream.",
    "winter": "The winter comes with silent snow,\nand all the fields are white below.\nWe light a lamp, we close "
    "the door,\nand wait until it's spring once more.",
    "a friend": "A friend is near when days are grey,\na friend will listen, friends will stay.\nA friendly word, a "
    "helping hand,\nis all it takes to understand.",
    "the stars": "The stars come out, the sky is wide,\nthey wander slowly, side by side.\nSo far away, so small, "
    "so bright,\nthey keep us company at night.",
}  # fmt: skip

_HEROES = (
    ("a small robot", "it"), ("a little robot", "it"), ("a young fox", "it"), ("an old owl", "it"), ("a tiny mouse",
    "it"), ("a blue bird", "it"),
    ("a lonely node", "it"), ("a brave cat", "it"),
)  # fmt: skip
_PLACES = (
    "in a quiet house",
    "on a high shelf",
    "near a deep forest",
    "in a small town",
    "by the sea",
    "beside an old stack",
)
_WISHES = (
    ("wanted to have a friend", "Another one came along and said hello", "From that day on they were never alone"),
    ("wanted to see the stars", "One clear night it looked up", "The sky was full of light, and it was happy"),
    ("was afraid of the dark", "Then a friend brought a small lamp", "From then on the nights were warm and bright"),
    ("had lost its way", "A kind neighbour showed it the road", "It came home before the sun went down"),
    ("wanted to carry a heavy stone", "It could not do it alone, so its friends helped", "Together it was easy"),
    ("wanted to learn to sing", "It practised every morning", "In the end everybody liked to listen"),
)  # fmt: skip
_STACK_STORY = (
    "Once upon a time there was a small device on a shelf. It had a question that was too large for it. "
    "Then another device clicked onto its back, and another. Together they were a stack, and they found the answer."
)


def story_text(rng: Random) -> str:
    """A story of four sentences."""
    hero, _ = rng.choice(_HEROES)
    wish, turn, end = rng.choice(_WISHES)
    return f"Once upon a time there was {hero} {rng.choice(_PLACES)}. It {wish}. {turn}. {end}."


def story(rng: Random) -> Dialogue:
    """A tiny story, about whom one asks for."""
    if rng.random() < 0.25:
        question = ask(
            "(Tell me a story about|Write a story about|Write a short story about|Tell a story about) (a "
            "stack|stacks|the stack|a device|devices)(.|)",
            rng,
        )
        return exchange(question, _STACK_STORY)
    text = story_text(rng)
    if rng.random() < 0.6:
        hero = next(hero for hero, _ in _HEROES if hero in text)
        asked = hero if rng.random() < 0.6 else "a " + hero.split(" ")[-1] if hero.split(" ")[-1] != "owl" else "an owl"
        return exchange(
            ask(
                f"(Tell me a story about|Write a story about|Write a short story about|Tell a story about) {asked}(.|)",
                rng,
            ),
            text,
        )
    return exchange(
        ask(
            "(Tell me a story|Tell a story|Write a short story|Tell me a short story|Can you tell me a "
            "story|story please)(.|)",
            rng,
        ),
        text,
    )


def poem(rng: Random) -> Dialogue:
    """A tiny poem."""
    subject = rng.choice(tuple(POEMS))
    bare = subject.split(" ")[-1]
    shown = rng.choice((subject, subject, bare, bare + "s" if subject.startswith("a ") else subject))
    if rng.random() < 0.2:
        return exchange(
            ask("(Write a poem|Write me a poem|Can you write a poem|Tell me a poem|A short poem please)(.|)", rng),
            POEMS[subject],
        )
    question = ask(
        f"(Write a poem about|Write a short poem about|Tell me a poem about|Can you write a poem about|A "
        f"poem about|Make a poem about) {shown}(.|)",
        rng,
    )
    return exchange(question, POEMS[subject])


def sentence(rng: Random) -> Dialogue:
    """One sentence about something."""
    subject = rng.choice(tuple(SENTENCES))
    shown = subject[:-1] if subject.endswith("s") and " " not in subject and rng.random() < 0.3 else subject
    shown = f"a {shown}" if shown != subject else subject
    question = ask(
        f"(Write a sentence about|Write one sentence about|Make a sentence about|Write a short sentence about|Say "
        f"something about"
        f"|Give me a sentence about|Can you write a sentence about|Write something about) {shown}(.|)",
        rng,
    )
    return exchange(question, SENTENCES[subject])


def one_word(rng: Random) -> Dialogue:
    """The wish for a single word, in the system prompt or in the question, and obeyed."""
    match rng.randrange(3):
        case 0:
            country, city = rng.choice(CAPITALS)
            question, answer = f"(What is the capital of|What's the capital of|Capital of) {country}?", city
        case 1:
            thing, colour = rng.choice(COLOURS)
            question, answer = f"(What colour is|What color is) {thing}?", colour.capitalize()
        case _:
            word, other = rng.choice(OPPOSITES)
            question, answer = f"(What is the opposite of|What's the opposite of) {word}?", other.capitalize()
    wish = rng.choice(
        (
            "Answer in one word.",
            "One word only.",
            "Answer with one word.",
            "Answer with a single word.",
            "Reply in one word.",
        )
    )
    if rng.random() < 0.5:
        return Dialogue((Turn("system", wish), Turn("user", ask(question, rng)), Turn("assistant", answer + ".")))
    shown = expand(question, rng)
    return exchange(f"{shown} {wish}" if rng.random() < 0.7 else f"{wish} {shown}", answer + ".")


def as_json(rng: Random) -> Dialogue:
    """The wish for JSON, obeyed with one small object."""
    value: dict[str, object]
    match rng.randrange(6):
        case 0:
            country, city = rng.choice(CAPITALS)
            question, value = (
                f"(What is the capital of|Give me the capital of|Capital of) {country}?",
                {"country": country.removeprefix("the "), "capital": city},
            )
        case 1:
            thing, colour = rng.choice(COLOURS)
            question, value = f"What (colour|color) is {thing}?", {"colour": colour}
        case 2:
            a, b = rng.randint(0, 10), rng.randint(0, 10)
            question, value = f"What is {a} (+|plus) {b}?", {"result": a + b}
        case 3:
            name, age = rng.choice(FIRST_NAMES), rng.randint(5, 90)
            question, value = (
                f"({name} is {age} years old.|My name is {name} and I am {age}.|The person is {name}, aged {age}.)",
                {"name": name, "age": age},
            )
        case 4:
            question, value = "(Who are you|What is your name)?", {"name": "thox-nano"}
        case _:
            question, value = (
                "(List three colours|Name three colours|Give me three colours).",
                {"colours": ["red", "yellow", "blue"]},
            )
    wish = rng.choice(
        (
            "Answer in JSON.",
            "Reply in JSON.",
            "Answer as JSON.",
            "Give the answer as JSON.",
            "Respond with JSON only.",
            "Use JSON.",
        )
    )
    answer = json.dumps(value)
    if rng.random() < 0.3:
        return Dialogue((Turn("system", wish), Turn("user", ask(question, rng)), Turn("assistant", answer)))
    shown = expand(question, rng)
    return exchange(f"{shown} {wish}" if rng.random() < 0.7 else f"{wish} {shown}", answer)
