"""Simple sums, with the way to the answer written out.

Two-digit sums are answered in steps (`40 + 30 = 70, 7 + 8 = 15, so 47 + 38 = 85.`): a model of this size learns the few
steps far sooner than ten thousand results. Every pair of numbers up to 99 may be drawn.
"""

from random import Random

from agent.nano.corpus.document import Dialogue, Document, Page, Turn, exchange
from agent.nano.corpus.phrasing import ask, roughen

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(number: int) -> str:
    """A number up to 100 in words."""
    if number < 20:
        return _UNITS[number]
    if number == 100:
        return "one hundred"
    tens, rest = divmod(number, 10)
    return _TENS[tens] + (f"-{_UNITS[rest]}" if rest else "")


def added(left: int, right: int) -> str:
    """The sum as an answer, in steps where both have two digits."""
    whole = f"{left} + {right} = {left + right}"
    if left >= 10 and right >= 10 and left % 10 and right % 10:
        tens, ones = left - left % 10 + right - right % 10, left % 10 + right % 10
        return (
            f"{left - left % 10} + {right - right % 10} = {tens}, {left % 10} + {right % 10} = {ones}, "
            f"{tens} + {ones} = {tens + ones}, so {whole}."
        )
    return whole + "."


def subtracted(left: int, right: int) -> str:
    """The difference as an answer, in steps where the second number has two digits."""
    whole = f"{left} - {right} = {left - right}"
    if left >= right >= 10 and right % 10:
        between = left - (right - right % 10)
        return f"{left} - {right - right % 10} = {between}, {between} - {right % 10} = {left - right}, so {whole}."
    return whole + "."


_PLUS = (
    "What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b}", "{a}+{b}", "{a}+{b}=?", "How much is {a} + {b}?",
    "Add {a} and {b}.",
    "Calculate {a} + {b}.", "What is the sum of {a} and {b}?", "{a} plus {b}", "How much is {a} plus {b}?",
    "What's {a} + {b}?",
    "Compute {a} + {b}", "{a} + {b} = ?", "Can you add {a} and {b}?", "What do you get if you add {b} to {a}?",
    "What's {a}+{b}?",
    "Work out {a} + {b}.", "Solve {a} + {b}", "whats {a} + {b}", "What does {a} + {b} equal?",
)  # fmt: skip
_MINUS = (
    "What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b}", "{a}-{b}", "How much is {a} - {b}?",
    "Subtract {b} from {a}.",
    "Calculate {a} - {b}.", "{a} minus {b}", "What's {a} - {b}?", "Compute {a} - {b}", "{a} - {b} = ?",
    "Take {b} away from {a}.",
    "What is left if you take {b} from {a}?", "What is the difference between {a} and {b}?", "{a}-{b}=?",
    "whats {a} minus {b}",
)  # fmt: skip
_TIMES = (
    "What is {a} times {b}?", "What is {a} * {b}?", "{a} * {b}", "{a} x {b}", "How much is {a} times {b}?",
    "Multiply {a} by {b}.",
    "Calculate {a} * {b}.", "What is {a} multiplied by {b}?", "{a} times {b}", "What's {a} x {b}?", "{a} x {b} = ?",
    "{a}*{b}",
    "What is the product of {a} and {b}?", "What is {a} x {b}?", "whats {a} times {b}",
)  # fmt: skip


def _pair(rng: Random) -> tuple[int, int]:
    """Two numbers: mostly up to 99, often small."""
    top = rng.choice((10, 20, 99, 99, 99))
    return rng.randint(0 if top == 10 else 1, top), rng.randint(0 if top == 10 else 1, top)


def plus(rng: Random) -> Dialogue:
    """An addition."""
    a, b = _pair(rng)
    if max(a, b) <= 10 and rng.random() < 0.2:
        question = rng.choice(
            ("What is {} plus {}?", "{} plus {}", "How much is {} plus {}?", "Add {} and {}.")
        ).format(in_words(a), in_words(b))
        return exchange(roughen(question, rng), added(a, b))
    return exchange(roughen(rng.choice(_PLUS).format(a=a, b=b), rng), added(a, b))


def minus(rng: Random) -> Dialogue:
    """A subtraction that does not go below zero."""
    b, a = sorted(_pair(rng))
    return exchange(roughen(rng.choice(_MINUS).format(a=a, b=b), rng), subtracted(a, b))


def times(rng: Random) -> Dialogue:
    """One of the multiplication table."""
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    if rng.random() < 0.7:
        a, b = rng.randint(2, 10), rng.randint(2, 10)
    if rng.random() < 0.1:
        return exchange(roughen(f"What is {in_words(a)} times {in_words(b)}?", rng), f"{a} * {b} = {a * b}.")
    return exchange(roughen(rng.choice(_TIMES).format(a=a, b=b), rng), f"{a} * {b} = {a * b}.")


def halves(rng: Random) -> Dialogue:
    """Division without remainder, doubles and halves, and which number is larger."""
    a, b = rng.randint(1, 10), rng.randint(2, 10)
    match rng.randrange(4):
        case 0:
            pattern = (
                "(What is {x} divided by {b}|{x} / {b}|How much is {x} / {b}|Divide {x} by {b}|What is {x} / {b})?"
            )
            return exchange(
                ask(pattern.replace("{x}", str(a * b)).replace("{b}", str(b)), rng), f"{a * b} / {b} = {a}."
            )
        case 1:
            n = rng.randint(1, 50)
            return exchange(
                ask(f"(What is half of {2 * n}|Half of {2 * n}|What's half of {2 * n})?", rng),
                f"Half of {2 * n} is {n}.",
            )
        case 2:
            n = rng.randint(1, 50)
            return exchange(ask(f"(What is double {n}|What is twice {n}|Double {n})?", rng), f"Twice {n} is {2 * n}.")
        case _:
            n, m = rng.sample(range(1, 100), 2)
            which = f"Which is larger, {n} or {m}|Which is bigger: {n} or {m}|What is more, {n} or {m}"
            pattern = f"({which}|Is {n} larger than {m})?"
            question = ask(pattern, rng)
            if "larger than" in question.lower():
                return exchange(question, f"Yes, {n} is larger than {m}." if n > m else f"No, {m} is larger than {n}.")
            return exchange(question, f"{max(n, m)} is larger.")


def series(rng: Random) -> Dialogue:
    """A follow-up: two sums in one conversation."""
    first, second = rng.choice((plus, minus, times))(rng), rng.choice((plus, minus, times))(rng)
    follow = second.turns[0].text
    if rng.random() < 0.3:
        follow = rng.choice(("and ", "And ", "now ", "ok, and ")) + follow[0].lower() + follow[1:]
    return Dialogue((*first.turns, Turn("user", follow), second.turns[1]))


def counting(rng: Random) -> Dialogue:
    """Count, or say what comes next."""
    match rng.randrange(6):
        case 0:
            top = rng.choice((3, 4, 5, 5, 6, 7, 8, 9, 10, 10, 10, 12, 15, 20))
            question = ask(
                f"(Count to {top}|Count from 1 to {top}|Can you count to {top}|Please count to {top}"
                f"|Count up to {top})(.|)",
                rng,
            )
            return exchange(question, ", ".join(str(n) for n in range(1, top + 1)) + ".")
        case 1:
            top = rng.choice((3, 5, 10, 10))
            question = ask(f"(Count down from {top}|Count backwards from {top}|Make a countdown from {top})(.|)", rng)
            return exchange(question, ", ".join(str(n) for n in range(top, 0, -1)) + ".")
        case 2:
            n = rng.randint(0, 98)
            return exchange(ask(f"(What comes after {n}|Which number comes after {n}|What number follows {n}|Next "
            f"number after {n})?", rng),
                            f"After {n} comes {n + 1}.")  # fmt: skip
        case 3:
            n = rng.randint(1, 99)
            return exchange(
                ask(f"(What comes before {n}|Which number comes before {n})?", rng), f"Before {n} comes {n - 1}."
            )
        case 4:
            n = rng.randint(1, 100)
            question = ask(
                f"(How do you write {n} in words|Write {n} in words|Write the number {n} as a word|Spell "
                f"the number {n})(?|)",
                rng,
            )
            return exchange(question, f"{n} in words is {in_words(n)}.")
        case _:
            n = rng.randint(1, 99)
            question = ask(f"Is {n} (even or odd|odd or even)?", rng)
            return exchange(question, f"{n} is {'odd' if n % 2 else 'even'}.")


def table(rng: Random) -> Document:
    """A page of equations: the same facts without a conversation around them."""
    lines: list[str] = []
    kind = rng.randrange(4)
    for _ in range(rng.randint(4, 9)):
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        match kind:
            case 0:
                lines.append(f"{a} + {b} = {a + b}")
            case 1:
                lines.append(f"{a + b} - {b} = {a}")
            case 2:
                lines.append(f"{a} * {b} = {a * b}")
            case _:
                tens, ones = rng.randint(1, 18) * 10, rng.randint(0, 18)
                lines.append(f"{tens} + {ones} = {tens + ones}")
    return Page("\n".join(lines))
