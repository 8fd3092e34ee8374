"""Settings of the whole stack: documents of kind ``config``, the text of each by its dotted name."""

from __future__ import annotations

from typing import Final

from agent.cluster.documents.store import DocumentStore, open_documents
from agent.config import Config
from agent.config_shared import check_shared, with_shared
from agent.errors import NotFoundError

KIND: Final = "config"


class SharedSettings:
    """Safe to use from many threads."""

    def __init__(self, documents: DocumentStore, config: Config) -> None:
        """``config``: this device's own."""
        self._documents = documents
        self._now = documents.view(lambda those: with_shared(config, those.of(KIND)))

    def now(self) -> Config:
        """What holds on this device at this moment."""
        return self._now()

    def put(self, name: str, text: str) -> None:
        """For all of the stack, soon. Raises ConfigError, and what ``DocumentStore.change`` does."""
        check_shared(name, text)
        self._documents.change(lambda documents: documents.put(KIND, name, text))

    def remove(self, name: str) -> None:
        """Each device's own holds again. Raises NotFoundError, and what ``DocumentStore.change`` does."""
        if self._documents.read().get(KIND, name) is None:
            raise NotFoundError(f"The stack does not set {name!r}", hint="`thox config` shows what is set where.")
        self._documents.change(lambda documents: documents.delete(KIND, name))


def effective(config: Config) -> Config:
    """For a command: what holds on the device whose state folder this is. Makes no file where there is none yet."""
    if not (config.state_dir / "documents.json").is_file():
        return config
    return SharedSettings(open_documents(config.state_dir), config).now()
