"""Plain facts about the world, few enough for a small model to keep."""

from random import Random

from agent.nano.corpus.document import Dialogue, exchange
from agent.nano.corpus.phrasing import Topic, ask, maker


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs written as `one = other, one = other`."""
    found = (entry.partition(" = ") for entry in text.split(", "))
    return tuple((one, other) for one, _, other in found)


CAPITALS = _pairs(
    "France = Paris, Germany = Berlin, Italy = Rome, Spain = Madrid, Portugal = Lisbon, Austria = Vienna, "
    "Switzerland = Bern, Belgium = Brussels, the Netherlands = Amsterdam, Denmark = Copenhagen, Sweden = "
    "Stockholm, Norway = Oslo, Finland = Helsinki, Iceland = Reykjavik, Ireland = Dublin, the United Kingdom = "
    "London, England = London, Scotland = Edinburgh, Poland = Warsaw, the Czech Republic = Prague, Slovakia = "
    "Bratislava, Hungary = Budapest, Romania = Bucharest, Bulgaria = Sofia, Greece = Athens, Turkey = Ankara, "
    "Russia = Moscow, Ukraine = Kyiv, Croatia = Zagreb, Serbia = Belgrade, Slovenia = Ljubljana, Estonia = "
    "Tallinn, Latvia = Riga, Lithuania = Vilnius, Egypt = Cairo, Morocco = Rabat, Kenya = Nairobi, Ethiopia = "
    "Addis Ababa, Ghana = Accra, Senegal = Dakar, Tunisia = Tunis, the United States = Washington, the USA = "
    "Washington, Canada = Ottawa, Mexico = Mexico City, Cuba = Havana, Brazil = Brasilia, Argentina = Buenos "
    "Aires, Chile = Santiago, Peru = Lima, Colombia = Bogota, Uruguay = Montevideo, Japan = Tokyo, China = "
    "Beijing, India = New Delhi, South Korea = Seoul, Thailand = Bangkok, Vietnam = Hanoi, Indonesia = Jakarta, "
    "Australia = Canberra, New Zealand = Wellington, Iran = Tehran, Iraq = Baghdad, Nepal = Kathmandu, Mongolia = "
    "Ulaanbaatar"
)
CONTINENTS = {
    "Europe": "France Germany Italy Spain Portugal Austria Belgium Denmark Sweden Norway Finland Ireland Poland "
    "Hungary Greece Croatia",
    "Africa": "Egypt Morocco Kenya Ethiopia Ghana Senegal Tunisia",
    "Asia": "Japan China India Thailand Vietnam Nepal Mongolia Iran Iraq",
    "South America": "Brazil Argentina Chile Peru Colombia Uruguay",
    "North America": "Canada Mexico Cuba",
}
ANIMALS = _pairs(
    "dog = barks, cat = meows, cow = moos, sheep = bleats, lion = roars, duck = quacks, horse = neighs, bee = "
    "buzzes, frog = croaks, wolf = howls, pig = grunts, bird = sings, snake = hisses, owl = hoots"
)
LEGS = (
    ("dog", 4),
    ("cat", 4),
    ("bird", 2),
    ("spider", 8),
    ("ant", 6),
    ("bee", 6),
    ("horse", 4),
    ("snake", 0),
    ("human", 2),
    ("cow", 4),
    ("duck", 2),
)
COLOURS = _pairs(
    "the sky = blue, grass = green, snow = white, blood = red, a banana = yellow, coal = black, a lemon = yellow, "
    "a ripe tomato = red, chocolate = brown, milk = white, a carrot = orange, the sea = blue, the sun = yellow, a "
    "leaf = green, an elephant = grey, a strawberry = red, the night = black, an orange = orange"
)
MIXES = (
    ("red", "yellow", "orange"),
    ("blue", "yellow", "green"),
    ("red", "blue", "purple"),
    ("black", "white", "grey"),
    ("red", "white", "pink"),
)
OPPOSITES = _pairs(
    "hot = cold, big = small, up = down, fast = slow, day = night, light = dark, open = closed, good = bad, happy "
    "= sad, old = new, left = right, high = low, long = short, rich = poor, full = empty, wet = dry, loud = "
    "quiet, early = late, hard = soft, strong = weak, true = false, in = out, near = far, win = lose, love = "
    "hate, first = last, young = old, thick = thin, heavy = light, start = stop, clean = dirty, yes = no"
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
NUMBERED = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
)
PLURALS = _pairs(
    "mouse = mice, child = children, foot = feet, tooth = teeth, man = men, woman = women, goose = geese, sheep = "
    "sheep, leaf = leaves, dog = dogs, city = cities, box = boxes"
)
SPELLED = (
    "cat", "dog", "sun", "moon", "tree", "stack", "robot", "apple", "house", "water", "bread", "node", "green",
    "light", "magnet", "book", "hello",
    "bird", "fish", "star", "rain", "snow", "wind", "fire", "stone", "table", "chair", "door", "key", "model",
    "leader", "power", "music", "ship",
)  # fmt: skip

SCIENCE: tuple[Topic, ...] = (
    ("(What is water made of|What is H2O|What does water consist of)?", "Water is made of hydrogen and oxygen."),
    ("(At what temperature does water boil|When does water boil|What is the boiling point of water)?",
    "Water boils at 100 degrees Celsius."),
    ("(At what temperature does water freeze|When does water freeze|What is the freezing point of water)?",
    "Water freezes at 0 degrees Celsius."),
    ("(What is ice|What happens when water freezes|What is frozen water)?", "Ice is frozen water."),
    ("(What is the sun|Is the sun a star|What is our sun)?", "The sun is a star. The planets move around it."),
    ("(What is the moon|What goes around the Earth|What moves around the Earth)?", "The moon moves around the Earth."),
    ("(How many planets are there|How many planets does the solar system have|Number of planets)?",
    "The solar system has eight planets."),
    ("(Name the planets|What are the planets|List the planets|Which planets are there|Can you name all planets)(.|?)",
     "The planets are Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune."),
    ("(What is the largest planet|Which planet is the biggest|What is the biggest planet|Which is the largest planet)?",
     "Jupiter is the largest planet of the solar system."),
    ("(What is the smallest planet|Which planet is the smallest)?", "Mercury is the smallest planet of the solar "
    "system."),
    ("(Which planet is the red planet|What is the red planet|Which planet is red)?", "Mars is called the red planet."),
    ("(Which planet has rings|What planet has rings)?", "Saturn is known for its rings."),
    ("(Which planet do we live on|What is our planet|On which planet do we live)?", "We live on the planet Earth."),
    ("(How fast is light|What is the speed of light)?", "Light travels about 300,000 kilometres in a second."),
    ("(What is gravity|Why do things fall down|Why do things fall)?", "Gravity is the force that pulls things down "
    "to the Earth."),
    ("(Why is the sky blue|How come the sky is blue)?", "The sky is blue because air scatters blue light more than "
    "red light."),
    ("(What do plants need|What do plants need to grow|What does a plant need)?", "Plants need light, water and air."),
    ("(What do we breathe|Which gas do we need|What do we breathe in)?", "We breathe air. Our bodies need its oxygen."),
    ("(How many continents are there|Number of continents)?", "There are seven continents."),
    ("(Name the continents|What are the continents|List the continents)(.|?)",
     "The continents are Africa, Antarctica, Asia, Australia, Europe, North America and South America."),
    ("(What is the largest ocean|Which ocean is the biggest|What is the biggest ocean)?",
    "The Pacific is the largest ocean."),
    ("(What is the highest mountain|What is the tallest mountain|Which mountain is the highest)?",
    "Mount Everest is the highest mountain."),
    ("(What is the longest river|Which river is the longest)?", "The Nile is often called the longest river."),
    ("(What is the largest animal|Which animal is the biggest|What is the biggest animal)?",
    "The blue whale is the largest animal."),
    ("(What is the fastest animal|Which animal is the fastest)?", "The cheetah is the fastest animal on land."),
    ("(What is the tallest animal|Which animal is the tallest)?", "The giraffe is the tallest animal."),
    ("(How many days are in a week|How many days does a week have|Days in a week)?", "A week has 7 days."),
    ("(Name the days of the week|What are the days of the week|List the days of the week|Tell me the days of the "
    "week)(.|?)",
     "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."),
    ("(How many months are in a year|How many months does a year have|Months in a year)?", "A year has 12 months."),
    ("(Name the months|What are the months of the year|List the months|Tell me the months)(.|?)",
     "The months are January, February, March, April, May, June, July, August, September, October, November and "
     "December."),
    ("(How many days are in a year|How many days does a year have|Days in a year)?",
    "A year has 365 days, and a leap year has 366."),
    ("(What are the seasons|Name the seasons|List the four seasons|Which seasons are there)(.|?)",
     "The seasons are spring, summer, autumn and winter."),
    ("(How many seasons are there|How many seasons does a year have)?", "A year has four seasons."),
    ("(Which season is the coldest|What is the coldest season)?", "Winter is the coldest season."),
    ("(Which season is the warmest|What is the hottest season|What is the warmest season)?",
    "Summer is the warmest season."),
    ("How many hours (are in a day|does a day have)?", "A day has 24 hours."),
    ("How many minutes (are in an hour|does an hour have)?", "An hour has 60 minutes."),
    ("How many seconds (are in a minute|does a minute have)?", "A minute has 60 seconds."),
    ("How many (metres|meters) (are in a kilometre|are in a kilometer|does a kilometre have)?",
    "A kilometre has 1000 metres."),
    ("How many (centimetres|centimeters) are in a (metre|meter)?", "A metre has 100 centimetres."),
    ("How many grams (are in a kilogram|does a kilogram have|are in a kilo)?", "A kilogram has 1000 grams."),
    ("(How many bits are in a byte|How many bits does a byte have)?", "A byte has 8 bits."),
    ("(How many letters are in the alphabet|How many letters does the alphabet have)?", "The alphabet has 26 letters."),
    ("(Say the alphabet|What is the alphabet|Recite the alphabet|Write the alphabet|List the letters of the "
    "alphabet)(.|?)",
     "A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z."),
    ("(What are the colours of the rainbow|Name the colours of the rainbow|What colors are in a rainbow)(.|?)",
     "The colours of the rainbow are red, orange, yellow, green, blue, indigo and violet."),
    ("(Name three colours|Name some colours|Tell me three colors|Name three primary colours)(.|)",
    "Three colours are red, yellow and blue."),
    ("(Name three animals|Name some animals|Tell me three animals|List three animals)(.|)",
    "Three animals are a cat, a dog and a horse."),
    ("(Name three fruits|Name some fruits|Tell me three fruits|List three fruits)(.|)",
    "Three fruits are an apple, a pear and a banana."),
    ("(What is a computer|What does a computer do|Explain a computer)?",
    "A computer is a machine that works with numbers, very fast."),
    ("(What is a language model|What is an LLM|How does a language model work|How do you work|What is AI)?",
     "A language model is a program that has learned from text which word is likely to come next."),
    ("(What is a magnet|How does a magnet work|What do magnets do)?", "A magnet pulls iron, and it pulls or pushes "
    "other magnets."),
    ("(What is a robot|What does a robot do)?", "A robot is a machine that can move and do work by itself."),
    ("(Where does the sun rise|Where does the sun come up)?", "The sun rises in the east."),
    ("(Where does the sun set|Where does the sun go down)?", "The sun sets in the west."),
    ("(What do cows give us|Where does milk come from)?", "Milk comes from cows."),
    ("(What do bees make|Where does honey come from)?", "Honey is made by bees."),
    ("(Is the Earth flat|Is the Earth round|What shape is the Earth|What shape has the Earth)?",
    "The Earth is round, like a ball."),
)  # fmt: skip


def capital(rng: Random) -> Dialogue:
    """A country and its capital, either way round, or a country's continent."""
    country, city = rng.choice(CAPITALS)
    draw = rng.random()
    if draw < 0.12:
        pattern = (
            "(Which country has the capital {c}|{c} is the capital of which country"
            "|What country is {c} the capital of)?"
        )
        if city not in ("London", "Washington"):
            return exchange(ask(pattern.replace("{c}", city), rng), f"{city} is the capital of {country}.")
    if draw > 0.88:
        continent = rng.choice(tuple(CONTINENTS))
        place = rng.choice(CONTINENTS[continent].split(" "))
        return exchange(ask(f"(Where is {place}|On which continent is {place}|What continent is {place} in|Which "
        f"continent is {place} on)?", rng),
                        f"{place} is in {continent}.")  # fmt: skip
    pattern = (
        "(What is the capital of {c}|What's the capital of {c}|Capital of {c}|Which city is the capital of {c}|Tell "
        "me the capital of {c}"
        "|Name the capital of {c}|What is the capital city of {c}|Do you know the capital of {c}|whats the capital "
        "of {c})?"
    )
    return exchange(ask(pattern.replace("{c}", country), rng), f"The capital of {country} is {city}.")


def trivia(rng: Random) -> Dialogue:
    """One of the small tables: animals, colours, opposites, the order of days and planets, plurals, spelling."""
    match rng.randrange(11):
        case 0:
            animal, sound = rng.choice(ANIMALS)
            return exchange(
                ask(
                    f"(What sound does a {animal} make|What does a {animal} say|What noise does a {animal} make)?", rng
                ),
                f"A {animal} {sound}.",
            )
        case 1:
            animal, legs = rng.choice(LEGS)
            article = "An" if animal[0] in "ao" else "A"
            amount = "no legs" if legs == 0 else f"{legs} legs"
            return exchange(ask(f"(How many legs does {article.lower()} {animal} have|How many legs has "
            f"{article.lower()} {animal})?", rng),
                            f"{article} {animal} has {amount}.")  # fmt: skip
        case 2:
            thing, colour = rng.choice(COLOURS)
            return exchange(ask(f"(What colour is {thing}|What color is {thing}|Which colour is {thing}|Which color "
            f"has {thing})?", rng),
                            f"{thing[0].upper() + thing[1:]} is {colour}.")  # fmt: skip
        case 3:
            one, two, mixed = rng.choice(MIXES)
            return exchange(ask(f"(What do you get if you mix {one} and {two}|Mix {one} and {two}|What colour do "
            f"{one} and {two} make)?", rng),
                            f"{one.capitalize()} and {two} make {mixed}.")  # fmt: skip
        case 4 | 5:
            word, other = rng.choice(OPPOSITES)
            if rng.random() < 0.4 and word not in ("young", "heavy", "light") and other not in ("old", "light"):
                word, other = other, word
            return exchange(ask(f"(What is the opposite of {word}|Opposite of {word}|Tell me the opposite of {word}"
            f"|What's the opposite of {word})?", rng),
                            f"The opposite of {word} is {other}.")  # fmt: skip
        case 6:
            names = rng.choice((DAYS, MONTHS))
            at = rng.randrange(len(names))
            following = names[(at + 1) % len(names)]
            if rng.random() < 0.35:
                question = ask(f"(What comes before {following}|Which comes before {following})?", rng)
                return exchange(question, f"Before {following} comes {names[at]}.")
            return exchange(ask(f"(What comes after {names[at]}|Which comes after {names[at]}|What follows "
            f"{names[at]})?", rng),
                            f"After {names[at]} comes {following}.")  # fmt: skip
        case 7:
            ordered: tuple[tuple[tuple[str, ...], str], ...] = (
                (DAYS, "day of the week"), (MONTHS, "month of the year"), (PLANETS, "planet from the sun"),
            )  # fmt: skip
            listed, kind = rng.choice(ordered)
            at = rng.randrange(len(listed))
            return exchange(ask(f"(What is the {NUMBERED[at]} {kind}|Which is the {NUMBERED[at]} {kind})?", rng),
                            f"The {NUMBERED[at]} {kind} is {listed[at]}.")  # fmt: skip
        case 8:
            one, many = rng.choice(PLURALS)
            return exchange(
                ask(f"(What is the plural of {one}|Plural of {one}|What's the plural of {one})?", rng),
                f"The plural of {one} is {many}.",
            )
        case _:
            word = rng.choice(SPELLED)
            question = ask(
                f"(Spell {word}|How do you spell {word}|Spell the word {word}|Can you spell {word})(.|?)", rng
            )
            return exchange(question, "-".join(word.upper()) + ".")


science = maker(SCIENCE)
