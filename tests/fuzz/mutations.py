"""Changes of real program files: of their bytes, of their layout, and of what stands in their records."""

import json
import random
import re
from typing import Any

from program_kit.archives import Layout, Records, layout_of

# What a change puts into texts: words that mean something to one of the readers.
WORDS = [
    *(b"save", b"from_file", b"as_strided", b"resize_", b"set_", b"empty", b"_reshape_alias", b"__class__", b"torch"),
    *(b"ops.aten.add", b"ops.inductor._alloc_from_pool", b"__import__('os')", b"getattr", b"eval", b"Tensor", b"self"),
    *(
        b"List[int]",
        b"Optional[Tensor]",
        b"__torch__",
        b"unchecked_cast",
        b"CONSTANTS.c0",
        b"-",
        b"(",
        b")",
        b"[",
        b"]",
    ),
    *(b"{", b"}", b'"', b'"""', b"\\", b"\n", b"#", b"None", b"metadata", b"as_expr", b"Symbol('s1')", b"Pow(", b"**"),
    *(
        b"\x00",
        b"\xff",
        b"9" * 40,
        b"-1",
        b"1e999",
        b"NaN",
        b"Infinity",
        b"../",
        b"data.pkl",
        b"R",
        b"c",
        b"\x93",
        b"b.",
    ),
]
NUMBERS = [0, 1, -1, 2, 3, 7, 64, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, -(2**63), 1.5, True, None]


def change_bytes(content: bytes, chance: random.Random) -> bytes:
    """Flip, cut, double, move or put in some bytes."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not changed:
            return b""
        start = chance.randrange(len(changed))
        end = min(len(changed), start + chance.choice((1, 2, 4, 8, 30, 200)))
        match chance.randrange(6):
            case 0:
                changed[start] ^= 1 << chance.randrange(8)
            case 1:
                changed[start] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[start:end]
            case 3:
                changed[start:start] = changed[start:end]
            case 4:
                changed[start:start] = chance.choice(WORDS)
            case 5:
                other = chance.randrange(len(changed))
                changed[other:other] = changed[start:end]
    return bytes(changed)


def change_text(content: bytes, chance: random.Random) -> bytes:
    """Put another word, number or line in the place of one."""
    pattern = chance.choice((rb"[A-Za-z_]\w*", rb"\d+", rb"[^\n]*\n", rb"[()\[\]{},.:=]"))
    found = list(re.finditer(pattern, content))
    if not found:
        return change_bytes(content, chance)
    changed = content
    for match in chance.sample(found, min(len(found), chance.randint(1, 2))):
        other = chance.choice(
            (chance.choice(WORDS), chance.choice(found)[0], str(chance.choice(NUMBERS)).encode(), match[0] * 2, b"")
        )
        changed = changed[: match.start()] + other + changed[match.end() :]
    return changed


def change_json(content: bytes, chance: random.Random) -> bytes:
    """Put another value in the place of one, or another key."""
    try:
        document = json.loads(content)
    except ValueError:
        return change_bytes(content, chance)
    places = list(_places(document))
    for _ in range(chance.randint(1, 3)):
        holder, key = chance.choice(places)
        other = chance.choice(
            (
                chance.choice(NUMBERS),
                chance.choice(WORDS).decode("latin-1"),
                [],
                {},
                [chance.choice(NUMBERS)],
                {"as_int": chance.choice(NUMBERS)},
                {"as_expr": {"expr_str": chance.choice(WORDS).decode("latin-1")}},
                chance.choice(places)[0],
            )
        )
        if isinstance(holder, dict) and key in holder and chance.random() < 0.3:
            holder[str(other)[:40]] = holder.pop(key)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = other
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):  # a value that holds itself
        return content


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def change_records(records: Records, chance: random.Random) -> bytes:
    """Change what stands in one record, or which records there are; the archive around them is laid out well."""
    changed = dict(records)
    name = chance.choice([name for name in changed if not name.startswith((".data", "byteorder"))])
    match chance.randrange(8):
        case 0:
            del changed[name]
        case 1:
            changed[chance.choice((name.upper(), name + "x", name.replace("/", "//"), "code/__torch__/x.py"))] = (
                changed[name]
            )
        case 2:
            changed[name] = changed[chance.choice(list(changed))]
        case _ if name.endswith(".json"):
            changed[name] = change_json(changed[name], chance)
        case _ if name.endswith(".py"):
            changed[name] = change_text(changed[name], chance)
        case _:
            changed[name] = change_bytes(changed[name], chance)
    return layout_of(changed).pack()


def change_layout(records: Records, chance: random.Random) -> bytes:
    """Lie in one place of the archive's layout."""
    layout: Layout = layout_of(records)
    entry = chance.choice(layout.entries)
    match chance.randrange(10):
        case 0:
            entry.local = entry.name.upper()
        case 1:
            entry.local_method = 8
        case 2:
            entry.crc = chance.getrandbits(32)
        case 3:
            entry.size = len(entry.content) + chance.choice((-1, 1, 100))
        case 4:
            entry.described = len(entry.content) + 1
        case 5:
            entry.before = chance.choice(WORDS)
        case 6:
            entry.offset = chance.randrange(1000)
        case 7:
            entry.name = entry.name.swapcase()
        case 8:
            layout.comment = chance.choice(WORDS)
        case 9:
            layout.entries.append(chance.choice(layout.entries))
    return layout.pack() if all((each.size or 0) >= 0 for each in layout.entries) else b""
