"""Ways to change an input of a parser: its bytes, a value of its JSON, the header of its safetensors file."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from typing import Any

from lutern.firmware.image import seal
from lutern.firmware.image_format import METADATA_KEY
from lutern.firmware.slip import FrameDecoder, encode_frame
from lutern.model_ref.container import METADATA

INTERESTING: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        0.5,
        1e308,
        -1e-308,
        float("inf"),
        float("nan"),
        "",
        "a",
        "\x1b[2J",
        "\ud800",
        [],
        {},
    ),
    *(2**31, 2**32, 2**62, 2**63, 2**64, 10**400, "x" * 100, [0] * 40, [[[[]]]], {"a": {"a": {}}}),
)


def change_bytes(data: bytes, generator: random.Random) -> bytes:
    """Flip a bit, delete, insert or repeat bytes, or set a byte to a special value, one to four times."""
    found = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(found) + 1)
        kind = generator.randrange(5)
        if kind == 0 and found:
            found[place - 1] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del found[place : place + generator.choice((1, 2, 8, 1 << 20))]
        elif kind == 2:
            found[place:place] = generator.randbytes(generator.choice((1, 2, 8)))
        elif kind == 3:
            found[place:place] = found[place : place + 64] * generator.choice((1, 2, 200))
        elif found:
            found[place - 1] = generator.choice((0, 255, 0x7F, 0x80, 0xC0, 0xDB, 34, 91, 123, 10, 44))
    return bytes(found[: 1 << 16])


def change_value(value: Any, generator: random.Random) -> Any:
    """Replace a value somewhere in a JSON value."""
    places: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict | list):
            keys = list(one) if isinstance(one, dict) else range(len(one))
            places += [(one, key) for key in keys]
            todo += [one[key] for key in keys]
    if not places or generator.random() < 0.02:
        return copy.deepcopy(generator.choice(INTERESTING))
    holder, key = generator.choice(places)
    kind = generator.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[generator.choice(("", "a", "\x1b", str(key) + "x"))] = holder.pop(key)
    elif kind == 2 and type(holder[key]) in (int, float):
        holder[key] = generator.choice((-holder[key], holder[key] + 1, 0.5, 1e999))
    elif kind == 3:
        other, name = generator.choice(places)
        holder[key] = copy.deepcopy(other.get(name)) if isinstance(other, dict) else None
    else:
        holder[key] = copy.deepcopy(generator.choice(INTERESTING))
    return value


def change_json(data: bytes, generator: random.Random) -> bytes:
    """Change values of the JSON. In a fifth of all calls, and always if the bytes are no JSON, change the bytes
    instead."""
    try:
        value = json.loads(data) if generator.random() < 0.8 else None
        for _ in range(generator.choice((1, 1, 1, 2, 4))):
            value = change_value(value, generator)
        if value is not None:
            return json.dumps(value).encode()[: 1 << 16]
    except (ValueError, RecursionError):
        pass
    return change_bytes(data, generator)


def change_container(data: bytes, generator: random.Random, inner: Callable[[Any, random.Random], Any]) -> bytes:
    """Change the header of a safetensors file and correct its length, or change bytes anywhere."""
    length = int.from_bytes(data[:8], "little")
    try:
        if generator.random() < 0.3:
            return change_bytes(data, generator)
        header = json.loads(data[8 : 8 + length])
        text = json.dumps(inner(header, generator)).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return change_bytes(data, generator)


def change_image_body(header: Any, generator: random.Random) -> Any:
    """Change the metadata of an image and correct their digest, or change the header that contains them."""
    if generator.random() < 0.3:
        return change_value(header, generator)
    body = json.loads(header[METADATA][METADATA_KEY])
    body.pop("digest", None)
    header[METADATA][METADATA_KEY] = seal(change_value(body, generator))
    return header


def change_recording(data: bytes, generator: random.Random) -> bytes:
    """Change bytes of one frame in a recording of the link, or any bytes of the recording."""
    lines = data.split(b"\n")
    places = [index for index, line in enumerate(lines) if line.count(b" ") == 2]
    if not places or generator.random() < 0.3:
        return change_bytes(data, generator)
    place = generator.choice(places)
    head, _, text = lines[place].rpartition(b" ")
    try:
        raw = bytes.fromhex(text.decode())
    except ValueError:
        return change_bytes(data, generator)
    decoded = FrameDecoder().feed(raw)
    if decoded and generator.random() < 0.7:
        opcode, sequence, payload = decoded[0]
        body = change_bytes(bytes([opcode, sequence]) + payload, generator)[:522].ljust(2, b"\0")
        raw = encode_frame(body[0], body[1], body[2:])
    else:
        raw = change_bytes(raw, generator)
    lines[place] = head + b" " + raw.hex().encode()
    return b"\n".join(lines)
