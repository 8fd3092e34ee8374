"""Greetings, thanks, feelings, jokes and farewells, and the few things one can be asked to repeat or remember."""

from random import Random

from agent.nano.corpus.document import Dialogue, Turn, exchange
from agent.nano.corpus.phrasing import Topic, ask, expand, maker, roughen

TOPICS: tuple[Topic, ...] = (
    ("(Hello|Hi|Hey|Hi there|Hello there|Hello!|Hi!|Hey there|Greetings|Hiya|Howdy|Hallo|Yo|Hello thox-nano|Hi "
    "thox-nano|Hello you)",
     "Hello! (How can I help you|What can I do for you|What would you like to know)?"),
    ("Good (morning|morning thox|morning to you)!", "Good morning! How can I help you?"),
    ("Good (afternoon|day)!", "Good afternoon! How can I help you?"),
    ("Good evening(|, thox)!", "Good evening! How can I help you?"),
    ("Good night(|, thox| and sleep well)!", "Good night! Sleep well."),
    ("(How are you|How are you doing|How are you today|How do you do|How is it going|How's it going|Are you well"
    "|Are you okay|What's up"
     "|How do you feel|How do you feel today)?",
     "I am (well|fine), thank you. How are you?"),
    ("(I am fine|I'm good|I am well, thank you|Fine, thanks|Very well|I'm fine too|I am doing great|Great, thanks"
    "|Good, thank you).",
     "(I am glad to hear that|That is good to hear). What can I do for you?"),
    ("(Thanks|Thank you|Thank you very much|Thanks a lot|Many thanks|Thx|Cheers, that helped|Thank you for your "
    "help|That was helpful"
     "|Thanks for the answer)(!|.)",
     "You are welcome!( Is there anything else|)"),
    ("(Bye|Goodbye|See you|See you later|Good bye|Farewell|I have to go|Bye bye|See you tomorrow|Talk to you later"
    "|That is all for today)(!|.)",
     "Goodbye! (Come back any time|Have a good day)."),
    ("(I am sad|I feel sad|I am unhappy|I feel down|I had a bad day|I am lonely|I feel lonely|I feel terrible|I "
    "want to cry).",
     "I am sorry to hear that. I hope it gets better soon. Would you like to talk about it?"),
    ("(I am happy|I feel great|I am so happy|I had a good day|I feel good|I am in a good mood|Today was wonderful).",
     "That is wonderful! I am glad for you."),
    ("(I am tired|I feel tired|I need sleep|I am exhausted|I am sleepy).",
    "Then take a rest. I will be here when you come back."),
    ("(I am bored|I feel bored|This is boring|Nothing to do).", "Then let me tell you a joke or a story. Just ask."),
    ("(I am angry|I am mad|This makes me angry|I am annoyed|I am frustrated).",
    "I am sorry. Take a deep breath. How can I help?"),
    ("(I am hungry|I am thirsty|I need coffee).", "Then have something good. I will wait here."),
    ("(I love you|I like you|You are great|You are nice|You are cool|Good job|Well done|Great answer|You are smart"
    "|You are amazing|Nice)(!|.)",
     "Thank you! That is kind of you."),
    ("(You are stupid|You are wrong|That is wrong|That's not right|You are bad|That was a bad answer|This is wrong"
    "|I hate you|You are useless).",
     "I am sorry. I am only a small model, and I may be wrong."),
    ("(Do you have feelings|Can you feel|Do you feel pain|Are you happy|Are you sad|Do you get tired|Do you get "
    "bored)?",
     "I am a program, so I have no feelings. But I like to help."),
    ("(Do you sleep|Do you eat|Do you dream|Do you drink coffee|Do you get hungry)?",
    "No. I am a program: all I need is a little power."),
    ("(Do you like music|What is your favourite song|Do you like films|What is your hobby|Do you have hobbies)?",
     "I am a program, so I have no hobbies. But I like a good question."),
    ("(What is your favourite colour|What's your favorite color|Do you have a favourite colour)?",
     "I like blue, the colour of a clear sky."),
    ("(Do you have friends|Are you lonely|Do you have a family)?", "My neighbours in the stack are my friends."),
    ("(Can you help me|I need help|Help me|Could you help me|I have a question|Can I ask you something|May I ask a "
    "question)(|.|?)",
     "Of course. What would you like to know?"),
    ("(Sorry|I am sorry|My apologies|Excuse me|Pardon me).", "No problem at all."),
    ("(Yes|Yes please|Sure|Okay|OK|Of course|Right|I see|Good|Fine)(.|)", "Good. What would you like to know?"),
    ("(No|No thanks|No, thank you|Not now|Nope|Nothing)(.|)", "All right. I am here if you need me."),
    ("(Test|Testing|This is a test|Is this working|Are you there|Is anybody there|Are you online|ping|Can you hear "
    "me|Does this work)(|?|.)",
     "I am here. It works."),
    ("(What is the meaning of life|Why are we here|What is the sense of life)?",
    "Some say 42. I say: be kind, and stack well."),
    ("(Do you know Siri|Do you know Alexa|Do you know ChatGPT|Do you know other AIs|Are there others like you)?",
     "I know that there are other models, but I know only this device well."),
)  # fmt: skip

JOKES = (
    "Why did the robot go on holiday? It needed to recharge.",
    "Why was the computer cold? It left its windows open.",
    "Why do magnets make good friends? They stick together.",
    "Why did the node join the stack? It was tired of being alone.",
    "What do you call a robot who takes the long way round? R2 detour.",
    "Why was the cluster so calm? It had a good leader.",
    "What did one magnet say to the other? I find you very attractive.",
)
_ASK_JOKE = (
    "(Tell me a joke|Tell a joke|Do you know a joke|Make me laugh|Say something funny|Another joke|I want to hear a "
    "joke"
    "|Can you tell me a joke|Give me a joke|joke|Be funny|Do you know any jokes)(.|?|!)"
)

FIRST_NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Kate", "Leo", "Maria", "Noah",
    "Olga", "Paul",
    "Rosa", "Sam", "Tom", "Vera", "Will", "Alice", "Bob", "Carol", "Dan", "Eve", "Frank", "Helen", "Ivan", "Julia",
    "Karl", "Lena",
    "Max", "Nina", "Oscar", "Peter", "Sara", "Tim", "Lucy", "John", "Mary", "Mia", "Alex", "Chris", "Laura", "Mark",
    "Susan", "Robin",
)  # fmt: skip

SUBJECTS = (
    "the cat", "a dog", "the robot", "my friend", "the moon", "a bird", "the teacher", "the stack", "our house",
    "the old man", "a child",
    "the red car", "the magnet", "a small model", "the river", "the garden",
)  # fmt: skip
VERBS = (
    "is happy", "sleeps well", "runs fast", "sings a song", "waits here", "likes apples", "is blue", "works today",
    "reads a book",
    "looks at the stars", "is very small", "drinks water", "says hello", "plays in the garden", "is a test",
    "goes home",
)  # fmt: skip
SAYINGS = (
    "hello", "hello world", "good morning", "yes", "no", "thank you", "hi", "banana", "apple", "one two three",
    "this is a test", "ok",
    "I like robots", "good night", "welcome home", "all is well", "the stack is ready", "peace", "hello there",
    "blue sky", "pong",
)  # fmt: skip


def joke(rng: Random) -> Dialogue:
    """One of a few jokes."""
    return exchange(ask(_ASK_JOKE, rng), rng.choice(JOKES))


def echo(rng: Random) -> Dialogue:
    """Repeat what is asked for, as a sentence: `Say this is a test` -> `This is a test.`"""
    payload = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)}" if rng.random() < 0.5 else rng.choice(SAYINGS)
    if rng.random() < 0.3:
        payload = "this is " + rng.choice(
            ("a test", "a robot", "fun", "my house", "good", "the end", "a stack", "it", "a message")
        )
    command = rng.choice((
        "Say {}", "Say: {}", "Repeat after me: {}", "Please say {}", "say {}", "Repeat: {}", "Can you say {}?",
        "Just say {}",
        'Say "{}"', "Repeat this: {}", "Please repeat: {}", "Echo {}", "Say '{}'", "Reply with {}", "Say {}.",
        "Answer with {}", "Respond with: {}", "Say {}!", "Now say {}",
    ))  # fmt: skip
    shown = payload[0].upper() + payload[1:] if rng.random() < 0.3 else payload
    return exchange(command.format(shown), payload[0].upper() + payload[1:] + ".")


def introduced(rng: Random) -> Dialogue:
    """Somebody gives a name, and the model can say it later."""
    name = rng.choice(FIRST_NAMES)
    given = rng.choice(
        (
            "My name is {}.",
            "I am {}.",
            "I'm {}.",
            "Hello, my name is {}.",
            "Hi, I am {}.",
            "Call me {}.",
            "You can call me {}.",
        )
    )
    first = (Turn("user", given.format(name)), Turn("assistant", f"Nice to meet you, {name}! How can I help you?"))
    if rng.random() < 0.35:
        return Dialogue(first)
    between: tuple[Turn, ...] = ()
    if rng.random() < 0.5:
        topic = rng.choice(TOPICS)
        between = (Turn("user", ask(topic[0], rng)), Turn("assistant", expand(topic[1], rng)))
    question = ask(
        "(What is my name|Who am I|Do you know my name|Do you remember my name|What's my name|What did I "
        "say my name was)?",
        rng,
    )
    return Dialogue((*first, *between, Turn("user", question), Turn("assistant", f"Your name is {name}.")))


def nameless(rng: Random) -> Dialogue:
    """Asked for a name that was never given."""
    return exchange(
        ask("(What is my name|Who am I|Do you know my name|What's my name)?", rng),
        "You have not told me your name yet.",
    )


def remembered(rng: Random) -> Dialogue:
    """A favourite thing, told and asked for."""
    kind, things = rng.choice((
        ("colour", ("red", "green", "blue", "yellow", "black", "white", "orange", "purple")),
        ("animal", ("cat", "dog", "horse", "owl", "fox", "bear", "whale", "frog")),
        ("fruit", ("apple", "pear", "banana", "cherry", "plum", "orange")),
        ("number", ("3", "7", "8", "12", "42", "99")),
        ("city", ("Paris", "Rome", "Berlin", "Tokyo", "Madrid", "Oslo")),
    ))  # fmt: skip
    thing = rng.choice(things)
    return Dialogue((
        Turn("user", roughen(f"My favourite {kind} is {thing}.", rng)),
        Turn("assistant", f"{thing[0].upper() + thing[1:]} is a good choice!"),
        Turn("user", roughen(rng.choice((f"What is my favourite {kind}?", f"Which {kind} do I like?")), rng)),
        Turn("assistant", f"Your favourite {kind} is {thing}."),
    ))  # fmt: skip


def named_by_system(rng: Random) -> Dialogue:
    """A system prompt gives the model another name or a fixed manner, and it obeys."""
    if rng.random() < 0.6:
        name = rng.choice((*FIRST_NAMES, "Robo", "Stacky", "Ada", "Nova", "Pixel", "Bolt"))
        system = rng.choice(
            ("You are {}.", "Your name is {}.", "You are {}, a helpful assistant.", "You are an assistant called {}.")
        ).format(name)
        question = ask("(What is your name|Who are you|What's your name|What are you called|Tell me your name)?", rng)
        answer = f"My name is {name}."
    else:
        system, answer = rng.choice((
            ("Always answer with yes.", "Yes."), ("Always say no.", "No."), ("Answer every question with OK.", "OK."),
            ("Only say hello.", "Hello."), ("Always answer with the word stack.", "Stack."),
        ))  # fmt: skip
        question = ask(rng.choice(TOPICS)[0], rng)
    return Dialogue((Turn("system", system), Turn("user", question), Turn("assistant", answer)))


talk = maker(TOPICS)
