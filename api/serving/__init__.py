"""Serves a model with the calls of the OpenAI API: completions, chats, streams. Needs the extra ``serve``.

    HTTP ─► app ─► requests ─► engine ─► answers ─► JSON, or server-sent events

app.py        defines the routes, checks keys and host names, and sets the status of each error
requests.py   checks the bodies of requests
engine.py     runs one machine in one thread, in which all texts share the passes, and keeps the queue of waiting texts
answers.py    sends the answers, and handles clients that disconnect or do not read
server.py     opens the socket, and runs the server until it is stopped
page/         is the page for a browser
"""

from __future__ import annotations

from lutern.api.serving.app import make_app
from lutern.api.serving.limits import Limits
from lutern.api.serving.server import bind, serve
from lutern.api.serving.service import Service

__all__ = ["Limits", "Service", "bind", "make_app", "serve"]
