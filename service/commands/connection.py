"""The client that a command speaks through."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.client import Client


def connect() -> "Client":
    """A client of the service that the environment names; only commands that need httpx import it."""
    from service.client import Client, locate

    return Client(*locate(os.environ))
