"""How the API and the command line are used, as questions and answers."""

from random import Random

from agent.nano.corpus.document import Dialogue, exchange
from agent.nano.corpus.phrasing import Topic, ask, expand, maker

TOPICS: tuple[Topic, ...] = (
    ("(Which ports are used|What ports does the device use|Which port do I use|What are the ports|Which ports are "
    "open|Ports)?",
     "Port 8080 serves inference like the OpenAI API, and port 5381 serves the cluster. "
     "Models can be managed on both."),
    ("(What is port 8080|What is port 8080 for|What does port 8080 serve|What runs on port 8080|What is on 8080)?",
     "Port 8080 serves inference and model management. It is compatible with the OpenAI API."),
    ("(What is port 5381|What is port 5381 for|What does port 5381 serve|What runs on port 5381|What is on 5381)?",
     "Port 5381 serves the MagStack cluster: topology, nodes, health and power. Models can be managed there as well."),
    ("(Which port is the inference API on|Which port is for chat|Where is the OpenAI API|On which port do I chat"
     "|What port does inference use|Which port serves the OpenAI API)?",
     "The inference API is on port 8080."),
    ("(Which port is the cluster API on|Which port is for the cluster|What port does the cluster use|Which port "
    "shows the topology)?",
     "The cluster API is on port 5381."),
    ("(How do I use the API|How do I call the API|How do I use this device|How can I talk to this device|How do I "
    "send a request"
     "|How do I get started|How do I start)?",
     "Make a key with thox key create, then send POST /v1/chat/completions to http://thox.local:8080 "
     "with the header Authorization: Bearer and your key."),
    ("(How do I make a chat request|How do I chat over the API|Which path is for chat|What is the chat endpoint"
     "|Which endpoint is for chat|How do I send a chat message)?",
     "Send POST /v1/chat/completions on port 8080 with a model and a list of messages."),
    ("(How do I complete a text|What is the completions endpoint|Which path completes a prompt|How do I make a raw "
    "completion"
     "|How do I get a text completion)?",
     "Send POST /v1/completions on port 8080 with a model and a prompt."),
    ("(How do I get embeddings|How do I embed a text|What is the embeddings endpoint|How do I make an embedding"
    "|Which path is for embeddings)?",
     "Send POST /v1/embeddings on port 8080 with a model and an input."),
    ("(How do I list the models|Which models are there|What models are on the device|How do I see the models|Which "
    "path lists models"
     "|What models do you have|How can I see all models)?",
     "Send GET /v1/models on port 8080. It lists the models on the device."),
    ("(How do I load a model|How can I load a model|How do I load another model|Load a model|What is the path for "
    "loading a model"
     "|How are models loaded)?",
     "Send POST /v1/models/load with the name of the model. "
     "It is loaded into the memory of the device or the cluster."),
    ("(How do I unload a model|How can I free a model|How do I free memory|How do I remove a model from memory"
    "|Unload a model)?",
     "Send POST /v1/models/unload with the name of the model. That frees its memory."),
    ("(How do I download a model|How do I pull a model|How can I get a new model|How do I install a model|Download "
    "a model|How do I fetch a model)?",
     "Send POST /v1/models/pull with the name of the model. The device downloads it from the model registry."),
    ("(How do I see the topology|How do I get the topology|Which path shows the topology|How do I see how nodes are "
    "connected)?",
     "Send GET /v1/topology on port 5381. It shows the nodes, the leader and the connections."),
    ("(How do I see the state of the cluster|How do I check the cluster|How do I get the cluster status|Which path "
    "shows the cluster"
     "|How do I see the cluster)?",
     "Send GET /v1/cluster on port 5381. It shows the status, the memory, the TOPS and the active model."),
    ("(How do I list the nodes|How do I see all nodes|Which path lists the nodes|How do I get the nodes)?",
     "Send GET /v1/nodes on port 5381. It lists every node with its status."),
    ("(How do I check the health|How do I see the temperature|How do I see the uptime|Is there a health check|Which "
    "path shows the health"
     "|What is the health endpoint)?",
     "Send GET /v1/health on port 5381. It shows the status, the uptime and the temperature."),
    ("(How do I negotiate power|How do I make a power contract|How do I see the power contracts|Which path is for "
    "power contracts)?",
     "Send POST /v1/power/contract on port 5381 to negotiate, or GET to read the contracts in force."),
    ("(How do I create a key|How do I make an API key|How do I get an API key|Where do I get a key|I need an API "
    "key|How do I get a token for the API"
     "|Create a key)?",
     "Run: thox key create. It shows the new key once, so keep it safe."),
    ("(How do I chat on the command line|How do I chat in the terminal|Is there a chat command|How do I talk to you "
    "in the terminal"
     "|Can I chat without the API)?",
     "Run: thox chat"),
    ("(How do I start the agent|How do I run the agent|How do I start the software|How do I run it from source|What "
    "does make run do)?",
     "Run make run in the folder of the project. It starts the agent with a small model."),
    ("(How do I run the tests|How do I test it|How can I run the tests|What does make test do|Where are the tests)?",
     "Run make test in the folder of the project."),
    ("(How do I log in|How do I authenticate|Which header carries the key|How do I send my key|Where does the key "
    "go|How does authentication work"
     "|What is the authorization header)?",
     "Send the header Authorization: Bearer with your key on every /v1 request."),
    ("(Which headers do I need|What headers are needed|Which headers does a request need|Required headers)?",
     "Authorization with your key, and Content-Type application/json where there is a body. X-Request-ID is optional."),
    ("(What is X-Request-ID|What is a request id|What does X-Request-ID do|How do I trace a request)?",
     "X-Request-ID is a UUID that names a request. It is echoed in the response and stands in every log line of "
     "that request."),
    ("(What is the limit of requests|How many requests can I send|How many requests a minute|How many requests per "
    "minute on port 8080"
     "|What is the rate limit of port 8080|What is the rate limit on 8080)?",
     "Port 8080 allows 100 requests a minute for each key, and port 5381 allows 1000."),
    ("(What does error 400 mean|What is a 400|Why do I get 400|What is error 400)?",
     "Error 400 means Bad Request: the parameters or the body are invalid."),
    ("(What does error 401 mean|What is a 401|Why do I get 401|What is error 401|Why am I unauthorized)?",
     "Error 401 means Unauthorized: the API key is missing or invalid."),
    ("(What does error 403 mean|What is a 403|Why do I get 403|What is error 403|Why is it forbidden)?",
     "Error 403 means Forbidden: the key lacks the permission."),
    ("(What does error 404 mean|What is a 404|Why do I get 404|What is error 404)?",
     "Error 404 means Not Found: there is no such endpoint or model."),
    ("(What does error 429 mean|What is a 429|Why do I get 429|What is error 429|What happens if I send too many "
    "requests)?",
     "Error 429 means Too Many Requests: the rate limit is exceeded. Wait as long as Retry-After says."),
    ("(What does error 500 mean|What is a 500|Why do I get 500|What is error 500)?",
     "Error 500 means Internal Error: the server itself is at fault."),
    ("(What does error 503 mean|What is a 503|Why do I get 503|What is error 503|Why is the cluster unavailable)?",
     "Error 503 means Service Unavailable: the cluster is not available for now. Try again after Retry-After."),
    ("(What does error 507 mean|What is a 507|Why do I get 507|What is error 507|What if there is no room for a "
    "model)?",
     "Error 507 means that there is no room for the model. Unload another one first."),
    ("(What does an error look like|What is the shape of an error|How are errors returned|Which fields does an "
    "error have)?",
     'Every error has the same shape: {"error": {"code": 401, "message": "Invalid API key", "type": '
     '"authentication_error"}}'),
    ("(How do I stream|How do I stream an answer|Can I stream|Does it support streaming|How does streaming work|How "
    "do I get the answer piece by piece)?",
     'Add "stream": true to the request. The answer is then sent piece by piece as server-sent events.'),
    ("(Can I use the OpenAI SDK|Does the OpenAI client work|How do I use the OpenAI library|Is it compatible with "
    "OpenAI"
     "|Does the OpenAI SDK work here|Can I use the openai package)?",
     "Yes. Use the OpenAI SDK with the base URL http://thox.local:8080/v1 and your key."),
    ("(Is there a Python client|How do I use Python|Is there a client library|What is magstack|What is "
    "MagStackClient|How do I use it from Python)?",
     "Yes: from magstack import MagStackClient. The client covers both ports."),
    ("(What is max_tokens|What does max_tokens do|How do I limit the length of an answer|How do I get shorter "
    "answers)?",
     "max_tokens is the largest number of tokens that the answer may have."),
    ("(What is the temperature parameter|What does temperature do in a request|What is temperature in the API|How "
    "do I make answers less random)?",
     "The parameter temperature says how random the answer is. 0 always takes the likeliest token."),
    ("(What is context_length|What is the context length|How long may a prompt be|What does context_length do)?",
     "The context length is how many tokens a model can hold at once. Set it when you load the model."),
    ("(Do I need a key|Is a key required|Can I use it without a key|Is authentication required)?",
     "Yes. Every /v1 request on both ports needs a key."),
    ("(What format are the bodies|Is it JSON|Which format does the API use|What do requests look like)?",
     "Request and response bodies are JSON."),
    ("(I lost my key|I forgot my key|What if I lose my key|My key does not work|My API key is invalid)?",
     "Make a new one with: thox key create"),
    ("(How do I stop an answer|How do I cancel a request|What if I close the connection|Can I cancel an answer)?",
     "Close the connection. The slot is freed within one step."),
)  # fmt: skip

_PATHS = (
    ("POST /v1/chat/completions", "8080", "answers a chat"),
    ("POST /v1/completions", "8080", "completes a prompt"),
    ("POST /v1/embeddings", "8080", "turns a text into numbers"),
    ("GET /v1/models", "8080", "lists the models on the device"),
    ("POST /v1/models/load", "8080", "loads a model"),
    ("POST /v1/models/unload", "8080", "unloads a model and frees its memory"),
    ("POST /v1/models/pull", "8080", "downloads a model"),
    ("GET /v1/topology", "5381", "shows the nodes, the leader and the connections"),
    ("GET /v1/cluster", "5381", "shows the state of the cluster"),
    ("GET /v1/nodes", "5381", "lists every node with its status"),
    ("POST /v1/power/contract", "5381", "negotiates a power contract"),
    ("GET /v1/health", "5381", "shows the status, the uptime and the temperature"),
)


def path(rng: Random) -> Dialogue:
    """What one path of the API does."""
    name, port, does = rng.choice(_PATHS)
    short = name.split(" ")[1] if rng.random() < 0.5 else name
    question = (
        "(What does {} do|What is {}|What is {} for|Explain {}|What happens with {}|Which port has {}"
        "|On which port is {})?"
    )
    return exchange(ask(question.replace("{}", short), rng), expand(f"{name} {does}. It is on port {port}.", rng))


interface = maker(TOPICS)
