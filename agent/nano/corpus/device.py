"""The words of this device and what its hardware is: the project's own vocabulary, as questions and answers."""

from random import Random

from agent.nano.corpus.document import Dialogue, exchange
from agent.nano.corpus.phrasing import Topic, ask, expand, maker

# Each word, and what it means. The questions around it are the same for all of them.
WORDS: tuple[tuple[str, str], ...] = (
    ("(Thox|the Thox agent|a Thox device|Thox OS)",
     "Thox is software for small NVIDIA Jetson devices that stack by magnet and serve language models on your own "
     "network."),
    ("(the MagStack|MagStack|a MagStack|a magstack cluster)",
     "The MagStack is a stack of up to eight Thox devices that join by magnet and work as one cluster."),
    ("a node", "A node is one device of the cluster, with the agent running on it."),
    ("a stack", "A stack is what is physically joined: up to eight devices, held together by magnets."),
    ("a neighbour", "A neighbour is the device directly above or below in the stack. It is recognised by its NFC tag."),
    ("a cluster", "A cluster is the set of nodes that trust each other and work together as one."),
    ("a member", "A member is a node that belongs to the cluster now."),
    ("(a leader|the leader)",
     "The leader is the node that decides for the cluster: it places the models and negotiates the power. "
     "It is chosen by rule."),
    ("(a follower|followers)", "A follower is a node that is not the leader. It carries out what the leader decides."),
    ("(an epoch|the epoch)",
     "The epoch is a number that grows with every change of membership. An order that carries an older epoch is "
     "refused."),
    ("(a power contract|a contract|power contracts)",
     "A power contract says how much power a node may draw. The leader negotiates it, and the node keeps to it."),
    ("(a stage|stages)", "A stage is a range of a model's layers that runs on one node."),
    ("(a plan|the plan|a placement plan)", "A plan says which stages of a model run on which nodes."),
    ("(a slot|slots)", "A slot is a place in the engine for one request. A request waits until a slot is free."),
    ("(a key|an API key|API keys)",
     "A key is the secret that a client sends with every request. You make one with: thox key create"),
    ("(a permission|permissions)",
     "A permission says what a key may do. A key without the permission gets error 403."),
    ("(a model|models)", "A model is a set of files on the disk. A loaded model is called an engine."),
    ("(an engine|the engine)", "An engine is a loaded model that answers requests."),
    ("(a runner|the runner)", "A runner does the forward pass of a model on a device."),
    ("(an answer|a delta|deltas)", "An answer arrives in deltas: each delta is a small piece of new text."),
    ("(a token|tokens)", "A token is a small piece of text, often a part of a word. A model reads and writes tokens."),
    ("(continuous batching|batching)",
     "Continuous batching means that new requests join the running batch at once, so nobody waits for the others to "
     "end."),
    ("(pipeline-parallel|pipeline parallelism|a pipeline)",
     "Pipeline-parallel means that one large model is split by layers over several devices."),
    ("(data-parallel|data parallelism)", "Data-parallel means that several devices hold copies of the same model."),
    ("(task-parallel|task parallelism)", "Task-parallel means that different devices hold different models."),
    ("(NFC|the NFC tag|an NFC tag)",
     "NFC is short-range radio. Each device has a tag on one face and a reader on the other, so neighbours "
     "recognise each other."),
    ("(mDNS|thox.local)", "thox.local is the name of the device on your network. It is announced by mDNS."),
    ("(a Jetson|NVIDIA Jetson|the Jetson Orin NX|Orin NX)",
     "The Jetson Orin NX is the computer inside the device: 8 cores, 16 GB of memory and 100 TOPS."),
    ("(TOPS|a TOPS)", "TOPS means trillion operations per second. One module has 100 TOPS."),
    ("(an embedding|embeddings)", "An embedding is a list of numbers that stands for the meaning of a text."),
    ("(streaming|a stream)", "Streaming means that the answer is sent piece by piece while it is written."),
    ("(the rate limit|rate limits|a rate limit)",
     "The rate limit is 100 requests a minute on port 8080 and 1000 requests a minute on port 5381, for each key."),
    ("(the simulator|the simulated stack)", "The simulator is a stack in memory. It lets the agent run without the "
    "hardware."),
)  # fmt: skip

ABOUT = (
    "(What is|What's|Explain|Can you explain|Define|What does it mean:|Describe|Tell me about|What do you mean by|I "
    "don't understand"
    "|Please explain|What exactly is|In short, what is|Could you explain to me|Do you know what|Give me a "
    "definition of) {word}"
    "(| here| on this device| in Thox| in the cluster| in the stack)?"
)

HARDWARE: tuple[Topic, ...] = (
    ("(How many devices can I stack|How many nodes can a stack have|What is the maximum stack|How many devices fit "
    "in a stack"
     "|What is the largest stack|How big can the stack be|How tall can a stack be|How many modules can be stacked)?",
     "A stack has at most 8 devices. Together they have 128 GB of memory and 800 TOPS."),
    ("(How much memory does a device have|How much RAM does it have|How much RAM is in a node|How much RAM does one "
    "module have"
     "|How much memory|RAM size)?",
     "One device has 16 GB of memory. A full stack of eight has 128 GB."),
    ("(How fast is the device|How many TOPS does it have|What is its performance|How much compute does one module have"
     "|How many TOPS does a module have)?",
     "One module has 100 TOPS. A full stack of eight has 800 TOPS."),
    ("(How many cores does it have|How many CPU cores are there|How many cores does the Orin NX have|Number of cores)?",
     "The module has 8 cores."),
    ("(What hardware is this|What is inside this device|Which chip does it use|What computer is inside|Which module "
    "does Thox use"
     "|What board is this|What processor does it have)?",
     "Inside is an NVIDIA Jetson Orin NX module with 16 GB of memory, 8 cores and 100 TOPS."),
    ("(How much power does it use|What is the power consumption|How many watts does it draw|How much power does a "
    "device need"
     "|What power supply do I need|Power consumption)?",
     "A device uses 45 W typically and 65 W at most. It is powered by USB-C."),
    ("(How is the device powered|What plug does it use|Which power connector does it have|How do I power it|Does it "
    "use USB-C)?",
     "It is powered by USB-C PD: 45 W typically, 65 W at most."),
    ("(How much power can pass through the stack|How much power goes through the stack|What power is passed through)?",
     "Up to 100 W can be passed through the stack."),
    ("(How do devices connect|How do the devices join|How is a stack formed|How do I build a stack|How do I stack "
    "devices"
     "|How do I add a device|How do I add a node to the stack|How do I make a cluster)?",
     "Put one device on top of another. The magnets hold them, the NFC tags recognise each other, "
     "and the cluster forms by itself in about ten seconds."),
    ("(How long does it take to form a stack|How fast does a stack form|How long does joining take|How quickly does "
    "the cluster form)?",
     "A stack forms by itself in about ten seconds."),
    ("(How is the leader chosen|How is a leader elected|Who becomes the leader|Which node becomes leader|How do you "
    "choose the leader"
     "|What decides the leader|How does leader election work|What is the rule for the leader|Who is the leader)?",
     "The leader is chosen by rule: external power first, then the highest battery, then the lowest UUID."),
    ("(What happens when I remove a device|What happens if a node leaves|What happens when a node fails|What if I "
    "take a device off the stack"
     "|What happens if I unplug a node|Can I remove a node)?",
     "The cluster notices it, the epoch grows, and a smaller plan is made. If no plan fits, the answer is 503 with "
     "Retry-After."),
    ("(What happens when a node joins|What happens if a new device joins|What happens when I add a device)?",
     "Its neighbour reads its NFC tag, checks whether it is trusted, and the epoch grows. Then the leader makes a "
     "new plan."),
    ("(What does the NFC handshake carry|What is in the NFC tag|What does the tag tell|What is exchanged by NFC)?",
     "The NFC handshake carries the device UUID, the firmware version, RAM and GPU, the cluster state, and the "
     "fingerprint "
     "of the certificate."),
    ("(How close must devices be for NFC|What is the NFC range|How far does NFC reach|At which distance does NFC "
    "work)?",
     "The reader detects a tag at 30 mm and shakes hands at 4 mm."),
    ("(How fast is the data link|How fast is the link between devices|What is the bandwidth of the stack|How fast "
    "do nodes talk"
     "|What is the speed of the pogo contact)?",
     "The devices are joined by a 12-pin pogo contact with a data link of 10 Gb/s."),
    ("(How does the device notice docking|How is docking detected|How does it know that a device is attached|What "
    "is the Hall switch for"
     "|What detects the magnet)?",
     "A Hall switch on a GPIO line notices the magnet. It is debounced for 50 ms."),
    ("(What storage does it have|Which disk does it use|Does it have an SSD|Where are models stored|What storage is "
    "inside)?",
     "The device stores its models on an NVMe disk."),
    ("(What network does it have|Does it have Wi-Fi|Does it have Ethernet|How does it connect to the network|Is "
    "there WLAN)?",
     "It has Ethernet and Wi-Fi."),
    ("(How do I find the device|What is the address of the device|How do I find it on the network|What is its host name"
     "|What is the hostname|Where is the device on my network)?",
     "The device answers to thox.local on your network."),
    ("(Which models can it run|How large a model can I run|Can it run a 70B model|Can I run a model that is too "
    "large for one device"
     "|What if a model does not fit on one device|How are large models run|Can a model be split)?",
     "A model that is too large for one device is split by layers over several devices. That is called "
     "pipeline-parallel."),
    ("(How does the device trust a neighbour|How are neighbours trusted|How does trust work|How do nodes trust each "
    "other)?",
     "A neighbour is trusted by the fingerprint of its certificate, which it shows in the NFC handshake."),
    ("(What is the bandwidth of the memory|How fast is the memory|What is the memory bandwidth|What kind of memory "
    "is it)?",
     "The memory is LPDDR5 at 102.4 GB/s."),
    ("(Why is an old epoch refused|Why are older epochs refused|What is the epoch for|What happens to an order with "
    "an older epoch)?",
     "An order with an older epoch comes from a cluster that no longer exists, so it is refused."),
    ("(What is the difference between a node and a neighbour|How does a neighbour differ from a node)?",
     "A node is any device of the cluster. A neighbour is the node directly above or below."),
    ("(What is the difference between a model and an engine|How does an engine differ from a model)?",
     "A model is files on the disk. An engine is a model that is loaded and answers."),
    ("(What is the difference between a stage and a plan|How does a plan differ from a stage)?",
     "A stage is a range of layers on one node. A plan says which stages run where."),
    ("(Can I read the tag without power|Does the NFC tag need power|Is the tag readable when the device is off)?",
     "Yes. The tag can be read while the module has no power."),
    ("(What if the device gets too hot|What happens when it is too hot|What about heat|Does it throttle)?",
     "A node that gets too hot draws less power. GET /v1/health shows its temperature."),
    ("(Who negotiates the power|How is power shared|How is power negotiated|Who decides about power|How do nodes "
    "share power)?",
     "The leader negotiates a power contract with every node, and each node keeps to its limit."),
)  # fmt: skip


def word(rng: Random) -> Dialogue:
    """A word of the device, explained."""
    name, meaning = rng.choice(WORDS)
    return exchange(ask(ABOUT.replace("{word}", name), rng), expand(meaning, rng))


hardware = maker(HARDWARE)
