"""More ways to ask the same: the second part of the training, made after reading where the first part's answers failed.

Each entry names a topic by words of its first question and adds questions to it; the answers stay where they are.
"""

from collections.abc import Iterable, Sequence
from random import Random

from agent.nano.corpus import arithmetic, device, identity, interface, smalltalk, world, writing
from agent.nano.corpus.document import Dialogue, exchange
from agent.nano.corpus.phrasing import Topic, ask, expand, maker

_IDENTITY = (
    ("Who are you", "Who exactly am I speaking with|Which AI is this|What AI model are you|Say something about "
    "yourself|"
     "Say a few words about you|Who is answering me|Who is there|And who are you|So who are you|What are you exactly|"
     "Please introduce yourself|I don't know you. Who are you|Which assistant is this|who are you really"),
    ("What is your name", "And your name is|So what's your name|What name do you have|How are you called|"
     "What is the name of this model|What can I call you|Please tell me your name|who should I say you are"),
    ("Are you human", "Are you a real person|Is there a human behind this|Are you a machine|Are you a bot|are you a "
    "human|"
     "Is this a real person|Am I chatting with a bot"),
    ("What can you do", "What kind of questions can I ask|What sort of things do you know|What things can you do "
    "for me|"
     "In what way can you help|With what can you help me|What are you able to do|What are you useful for|How could "
     "you help me"),
    ("Are you always right", "Could your answers be wrong|Can your answers be false|Is it possible that you are wrong|"
     "Are you sometimes wrong|Do you ever make mistakes|Might you be mistaken|Are your answers always true"),
    ("Who made you", "Which company made you|What company made you|Who is behind you|Who wrote you|Which team built "
    "you|"
     "By whom were you made|What project do you come from"),
    ("Where do you run", "Do you run on this device|Are you on this device or in the cloud|Do you run in the cloud "
    "or locally|"
     "Does my data leave the device|Are you a cloud service|Do you run on the device"),
    ("How do I get a better model", "I would like a larger model|I want to use a smarter model|How can I use a "
    "smarter model|"
     "You are too small. How do I get a larger model|Is there a better model|I need a larger model instead"),
    ("How big are you", "How many weights do you have|What is your size|Are you a large model|How many million "
    "parameters"),
)  # fmt: skip
_HARDWARE = (
    ("How many devices can I stack", "What is the highest number of devices|How many devices at most|How many "
    "devices may a stack have|"
     "What is the most devices in a stack|At most how many devices can be in a stack|What's the limit of a stack"),
    ("How much memory does a device have", "How much ram is in a device|How much ram has one of these devices|How "
    "many GB of memory does it have|"
     "How many gigabytes of RAM are in a device|What is the memory of one device"),
    ("How much power does it use", "How many watts does it use|How many watts does one device need|What power does "
    "the device need|"
     "How much electricity does it use|How many watts"),
    ("How do devices connect", "How can I join two devices|How do I put two devices together|How are two devices "
    "stacked|"
     "How do I connect two devices|What do I do to stack devices|How can I stack them|How can I add another device"),
    ("What happens when I remove a device", "What if a node goes away|What if a device is taken away|What happens "
    "when one node is lost|"
     "What happens if one of the devices leaves|What if I remove one node|What if a node dies"),
    ("What hardware is this", "What's in this box|Which processor does this box have|What chip is in this device"
    "|What kind of computer is this|"
     "Which processor is in here|What is in the box"),
    ("How do I find the device", "How do I reach the device|How can I reach it on the network|Under which name is "
    "the device reached|"
     "What address do I use|How can I find it|Which host name do I type"),
    ("Which models can it run", "My model is too large for one device|What if my model is too big|A model does not "
    "fit. What now|"
     "How do I run a model that is too large|My model does not fit on one device. What happens|What about very "
     "large models"),
    ("How is the leader chosen", "Who gets chosen as leader|Which node is the leader|How does a node become leader"
    "|How do you pick the leader|"
     "Who gets to lead|By which rule is the leader chosen|Which device becomes the leader"),
    ("What happens when a node joins", "What happens after a device joins the stack|And when a node joins|What if a "
    "node comes along"),
)  # fmt: skip
_INTERFACE = (
    ("Which ports are used", "Which ports are there|Which ports must I know|What ports are important|Tell me the "
    "ports|List the ports|"
     "What are the two ports|Which ports do I need to know"),
    ("What is port 5381", "What's behind port 5381|port 5381|Tell me about port 5381|What does the port 5381 do|And "
    "port 5381"),
    ("What is port 8080", "What's behind port 8080|port 8080|Tell me about port 8080|What does the port 8080 do|And "
    "port 8080|what's on 8080"),
    ("Which port is the inference API on", "Which port do I use to chat|Which port do I use for inference|What port "
    "is used for chat requests"),
    ("How do I create a key", "How can I create a key|How can I get a new key|How can I make a key|Where do I make "
    "a key|Make me a key|"
     "How is a key made|What is the command for a new key|I want a new key|How to create an api key"),
    ("How do I load a model", "How can I load one|What do I do to load a model|Which request loads a model|I want "
    "to load a model|"
     "What do I send to load a model|how to load a model|How would I load a different model"),
    ("How do I unload a model", "What do I do to free a model|Which request unloads a model|I want to unload a "
    "model|how to unload a model|"
     "How can I unload it|How do I get a model out of memory|and how do I unload it"),
    ("How do I download a model", "How can I download one|Which request downloads a model|I want to download a "
    "model|how to pull a model|"
     "How would I get another model|What do I send to pull a model|How can a model be downloaded"),
    ("How do I list the models", "Where do I see the models|Where can I find the list of models|Which models are "
    "installed|"
     "Which models can I use|Show me the models|how to list models|Which models do I have"),
    ("How do I get embeddings", "What is the endpoint of embeddings|Which endpoint makes embeddings|Where do I get "
    "embeddings|how to get embeddings"),
    ("How do I check the health", "How can I see the health|Where is the health of the device|How can I check that "
    "the device is healthy|"
     "How do I know that the device is well|how to check the health|Which request shows the health"),
    ("How do I see the topology", "Where is the topology|Where can I see the topology|What shows the topology|how "
    "to see the topology|"
     "Which request shows the topology"),
    ("How do I list the nodes", "Where do I see the nodes|Which request lists the nodes|Show me the nodes|how to "
    "list the nodes"),
    ("How do I see the state of the cluster", "Where do I see the cluster|How can I see the state of the cluster"
    "|What shows the state of the cluster"),
    ("What does error 400 mean", "I got a 400|I get error 400|The server says 400|What is the meaning of 400|The "
    "answer is 400. Why"),
    ("What does error 401 mean", "I got error 401|I get a 401|The server says 401|What is the meaning of 401|The "
    "answer is 401. Why|it says 401"),
    ("What does error 403 mean", "I got a 403|I get error 403|The server says 403|What is the meaning of error 403"
    "|The answer is 403. Why"),
    ("What does error 404 mean", "I got a 404|I get error 404|The server says 404|What is the meaning of error 404"
    "|The answer is 404. Why"),
    ("What does error 429 mean", "I got a 429|I get error 429|The server says 429|What is the meaning of 429|The "
    "answer is 429. Why"),
    ("What does error 500 mean", "I got a 500|I get error 500|The server says 500|What is the meaning of error 500"
    "|The answer is 500. Why"),
    ("What does error 503 mean", "I got a 503|I get error 503|It says 503|What is the meaning of error 503|The "
    "answer is 503. Why"),
    ("What is the limit of requests", "How many requests are allowed|How many requests may I send|How often may I "
    "ask in a minute|"
     "How many calls may I make|How many requests per minute"),
    ("How do I stream", "Can the answer be streamed|Is streaming possible|Can I get the answer while it is written"
    "|I want to stream the answer|"
     "how to stream|Is it possible to stream"),
    ("Can I use the OpenAI SDK", "Can I use the openai library|Can I keep the OpenAI client|Does my OpenAI code "
    "work|Will the openai python package work|"
     "Can I use my old OpenAI program"),
    ("How do I chat on the command line", "How can I chat in my terminal|how to chat in the terminal|Which command "
    "starts a chat|I want to chat in the terminal|"
     "Which command do I use to chat"),
    ("How do I run the tests", "Which command runs the tests|What do I type to run the tests|how to run the tests"
    "|How are the tests run"),
    ("How do I start the agent", "Which command starts the agent|What do I type to start it|how to start the agent"
    "|How is the agent started"),
    ("How do I log in", "Where do I put my key|In which header is the key|Which header is for the key|How is the "
    "key sent|What header has the key"),
)  # fmt: skip
_TALK = (
    ("Hello|Hi", "hello my friend|hi friend|Hello everybody|hello hello|hey you|Hi again|Hello, nice to meet you"
    "|good to see you"),
    ("How are you", "And how are you|How are you doing today|hello, how are you|Hey, how is it going|Hi! How are "
    "you|how are you feeling|"
     "how do you do today|are you doing well|how are things"),
    ("Thanks|Thank you", "thanks so much|Thank you so much|Thanks, that was good|thanks, you helped me|Great, thank "
    "you|that was great, thanks|ok thanks"),
    ("Bye|Goodbye", "ok bye|Bye for now|Goodbye for now|I am leaving now|bye then|See you soon|Until tomorrow"
    "|that's it, goodbye"),
    ("I am sad", "I feel a little sad|I am a bit sad|I feel so sad today|I am very sad today|today I am sad|I am "
    "not happy|I don't feel well"),
    ("I am happy", "I feel a bit happy|I am very happy today|I feel so good today|today I am happy"),
    ("I love you|I like you", "You are clever|You are really good|You're so smart|you are very kind|You're great"
    "|you are the best|That was clever"),
    ("You are stupid", "You are really stupid|That was not right|No, that is wrong|you are silly|your answer is wrong"),
    ("Can you help me", "Please help me|Would you help me|Can you answer a question|I would like to ask something"),
)  # fmt: skip
_SCIENCE = (
    ("What is the largest planet", "Which one is the largest planet|Which is the biggest of the planets|Which "
    "planet is the largest"),
    ("How many planets are there", "How many planets do we have|How many planets are in the solar system|how many "
    "planets go around the sun"),
    ("How many minutes", "How many minutes has one hour|How many minutes are there in an hour|How many minutes in "
    "an hour"),
    ("How many seconds", "How many seconds has a minute|How many seconds are there in a minute|How many seconds in "
    "a minute"),
    ("How many hours", "How many hours has a day|How many hours are there in a day|How many hours in a day"),
    ("How many days are in a week", "How many days has a week|How many days are there in a week|How many days in "
    "one week"),
    ("How many months", "How many months has a year|How many months are there in a year|How many months in one year"),
    ("At what temperature does water boil", "When does water begin to boil|How hot is boiling water|At how many "
    "degrees does water boil|When is water boiling"),
    ("At what temperature does water freeze", "When does water begin to freeze|At how many degrees does water "
    "freeze|When does water turn to ice"),
    ("What are the seasons", "What are the seasons called|Which are the four seasons|How are the seasons called"
    "|Tell me the four seasons"),
    ("What is the highest mountain", "Which mountain is the tallest|Which is the highest mountain|What mountain is "
    "the highest of all"),
    ("What is the largest animal", "Which is the largest animal|What animal is the biggest of all|Which animal is "
    "the largest"),
)  # fmt: skip

_TABLES: tuple[tuple[Sequence[Topic], Iterable[tuple[str, str]]], ...] = (
    (identity.TOPICS, _IDENTITY), (device.HARDWARE, _HARDWARE), (interface.TOPICS, _INTERFACE), (smalltalk.TOPICS,
    _TALK), (world.SCIENCE, _SCIENCE),
)  # fmt: skip


def _widened(topics: Sequence[Topic], more: Iterable[tuple[str, str]]) -> tuple[Topic, ...]:
    """The added questions, each with the answer of the topic that its key begins."""
    found = []
    for key, questions in more:
        answers = [answer for question, answer in topics if question.startswith((f"({key}", key))]
        found.append((f"({questions})?", answers[0]))
    return tuple(found)


TOPICS = tuple(topic for topics, more in _TABLES for topic in _widened(topics, more))

_ABOUT = (
    "(Please tell me what {w} is|I have never heard of {w}. Explain it|I don't know what {w} is|And what is {w}|So "
    "what is {w}|And {w}|{w}"
    "|What does the word mean: {w}|What's meant by {w}|I want to know what {w} is|What do you call {w}|Explain {w} "
    "please|Please define {w}"
    "|Explain {w} to me|Could you explain {w}|What is {w} for|What is {w} used for|Can you tell me what {w} is|What "
    "{w} is|what are {w}"
    "|Would you tell me about {w}|What is this {w}|Tell me what {w} means|Give me a short definition of {w})?"
)
_LEADER = (
    "(What does the leader do|What is the leader's work|What does a leader decide|What is the job of the leader"
    "|Why is there a leader)?"
)


def word(rng: Random) -> Dialogue:
    """A word of the device asked for in other ways, with or without its article."""
    if rng.random() < 0.06:
        return exchange(ask(_LEADER, rng), expand(next(m for n, m in device.WORDS if "leader" in n), rng))
    name, meaning = rng.choice(device.WORDS)
    shown = expand(name, rng)
    if rng.random() < 0.3:
        shown = shown.removeprefix("a ").removeprefix("an ").removeprefix("the ")
        if rng.random() < 0.5 and " " not in shown and shown.islower() and not shown.endswith("s"):
            shown += "s"
    return exchange(ask(_ABOUT.replace("{w}", shown), rng), expand(meaning, rng))


_SUM = (
    "please add {a} and {b}", "Could you add {a} and {b}?", "What do {a} and {b} make?",
    "I have {a} and get {b} more. What is {a} + {b}?",
    "What is {a} and {b} together?", "Tell me {a} + {b}", "what is {a}+{b}", "{a} + {b} is what?",
    "Please calculate {a} + {b}", "What makes {a} + {b}?",
)  # fmt: skip
_LESS = (
    "please take {b} from {a}", "Please subtract {b} from {a}", "Tell me {a} - {b}", "what is {a}-{b}",
    "{a} - {b} is what?",
    "I have {a} and give away {b}. What is {a} - {b}?", "{a} - {b} =", "Could you subtract {b} from {a}?",
    "{a} minus {b}?",
)  # fmt: skip
_PRODUCT = (
    "please multiply {a} and {b}", "Please multiply {a} by {b}", "Tell me {a} times {b}", "{a} times {b}?",
    "{a} * {b} =", "{a} x {b} is what?",
    "Could you multiply {a} by {b}?", "what is {a}*{b}", "what's {a} times {b}",
)  # fmt: skip


def sums(rng: Random) -> Dialogue:
    """A sum asked for in other ways."""
    a, b = rng.choice((rng.randint(1, 20), rng.randint(1, 99))), rng.choice((rng.randint(1, 20), rng.randint(1, 99)))
    match rng.randrange(5):
        case 0 | 1:
            return exchange(rng.choice(_SUM).format(a=a, b=b), arithmetic.added(a, b))
        case 2 | 3:
            a, b = max(a, b), min(a, b)
            return exchange(rng.choice(_LESS).format(a=a, b=b), arithmetic.subtracted(a, b))
        case _:
            a, b = rng.randint(2, 12), rng.randint(2, 10)
            return exchange(rng.choice(_PRODUCT).format(a=a, b=b), f"{a} * {b} = {a * b}.")


def fact(rng: Random) -> Dialogue:
    """Capitals, colours, sounds, opposites and the order of days, asked for in other ways."""
    match rng.randrange(6):
        case 0 | 1:
            country, city = rng.choice(world.CAPITALS)
            pattern = (
                f"(What's the capital city of {country}|What is the name of the capital of {country}|the capital of "
                f"{country} please"
                f"|{country}'s capital|What is {country}'s capital city|Please name the capital of {country}|And of "
                f"{country}"
                f"|What is the capital of {country}, do you know|And what is the capital of {country}|Please tell "
                f"me the capital of {country})?"
            )
            return exchange(ask(pattern, rng), f"The capital of {country} is {city}.")
        case 2:
            thing, colour = rng.choice(world.COLOURS)
            pattern = (
                f"(Which colour does {thing} have|What colour has {thing}|Tell me the colour of {thing}"
                f"|What is the color of {thing})?"
            )
            return exchange(ask(pattern, rng), f"{thing[0].upper() + thing[1:]} is {colour}.")
        case 3:
            animal, sound = rng.choice(world.ANIMALS)
            return exchange(
                ask(
                    f"(What is the sound of a {animal}|Which sound does a {animal} make|How does a {animal} sound)?",
                    rng,
                ),
                f"A {animal} {sound}.",
            )
        case 4:
            one, other = rng.choice(world.OPPOSITES)
            pattern = (
                f"(Which word is the opposite to {one}|Say the opposite of {one}|What is the contrary of {one}"
                f"|{one} and its opposite)?"
            )
            return exchange(ask(pattern, rng), f"The opposite of {one} is {other}.")
        case _:
            names, kind = rng.choice(((world.DAYS, "day"), (world.MONTHS, "month")))
            at = rng.randrange(len(names))
            day = names[at]
            pattern = (
                f"(Which {kind} comes after {day}|What {kind} follows {day}|Which {kind} is after {day}"
                f"|What {kind} is next after {day})?"
            )
            return exchange(ask(pattern, rng), f"After {names[at]} comes {names[(at + 1) % len(names)]}.")


_UNKNOWABLE = (
    "(Can you explain|What do you know about|Do you know something about|Explain to me) (quantum mechanics"
    "|chemistry|the economy|psychology|the Middle Ages"
    "|biology|electronics|poetry|politics|the history of Rome|geometry|neural networks)?",
    "(Who was|Who is|Tell me about|Do you know) (Leonardo|Galileo|Lincoln|Gandhi|the queen|Bach|Goethe|Columbus|the "
    "chancellor|Elvis|Homer|Chaplin|Tolstoy)?",
    "(What's|Tell me|How high is) the price of (oil|copper|milk|a car|petrol|a barrel of gas|a flat|bread) (today"
    "|now|this week)?",
    "(Please write|Write me|Can you write|I need) (a program|some Python|a script|a function|an essay|a long "
    "letter) (about history|for my work|that counts words"
    "|for a game|in Java)?",
    "(Who won|Who has won) the (game|match|cup|tennis final|football game|basketball game) (yesterday|last night"
    "|this week|on Sunday)?",
)  # fmt: skip
_WEATHER = (
    "(Will it be sunny|Will it rain|Will it snow|Is it warm|How will the weather be) "
    "(in Rome|in London|in Paris|here|there) (today|tomorrow|now)?"
)


def unknown(rng: Random) -> Dialogue:
    """More that it cannot know."""
    if rng.random() < 0.12:
        return exchange(
            ask(_WEATHER, rng),
            "I cannot see the weather: I have no sensors outside and no internet. A "
            "tool can tell me, if you give me one.",
        )
    return exchange(ask(rng.choice(_UNKNOWABLE), rng), expand(identity.UNKNOWN, rng))


def write(rng: Random) -> Dialogue:
    """Poems, sentences and sayings asked for in other ways."""
    match rng.randrange(4):
        case 0:
            subject = rng.choice(tuple(writing.POEMS))
            return exchange(
                ask(
                    f"(Please write a poem about|I would like a poem about|Please write me a small poem "
                    f"about) {subject}(.|)",
                    rng,
                ),
                writing.POEMS[subject],
            )
        case 1:
            subject = rng.choice(tuple(writing.SENTENCES))
            question = ask(
                f"(Write a good sentence about|Please write a sentence about|I need a sentence about"
                f"|Write a small sentence on) {subject}(.|)",
                rng,
            )
            return exchange(question, writing.SENTENCES[subject])
        case 2:
            return exchange(
                ask(
                    "(Could you tell a joke|Tell me a funny joke|Do you know a good joke|I would like a "
                    "joke|One more joke)(.|?)",
                    rng,
                ),
                rng.choice(smalltalk.JOKES),
            )
        case _:
            payload = rng.choice(
                (f"{rng.choice(smalltalk.SUBJECTS)} {rng.choice(smalltalk.VERBS)}", rng.choice(smalltalk.SAYINGS))
            )
            command = rng.choice(
                (
                    "Would you say {}",
                    "Could you say {}?",
                    "I want you to say {}",
                    "Please repeat after me: {}",
                    "Say it: {}",
                    "Say the words: {}",
                )
            )
            return exchange(command.format(payload), payload[0].upper() + payload[1:] + ".")


topics = maker(TOPICS)
