"""Serves a model with the calls of the OpenAI API: completions, chats, streams. Needs the extra ``serve``.

    HTTP ─► app ─► requests ─► engine: one thread, one machine ─► answers ─► JSON, or server-sent events
             │        what a client may ask for   conversations in flight share a pass
             └─ key, host names, the page

app.py        routes, keys, which error has which status
requests.py   bodies of requests, checked
engine.py     the thread that runs the machine, and the queue ahead of it
answers.py    what comes back, and clients that go away or do not read
server.py     the socket, and the server until it is ended
page/         the page for a browser
"""

from __future__ import annotations

from lutern.api.serving.app import make_app
from lutern.api.serving.limits import Limits
from lutern.api.serving.server import bind, serve
from lutern.api.serving.service import Service

__all__ = ["Limits", "Service", "bind", "make_app", "serve"]
