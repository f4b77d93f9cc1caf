"""Encoders of Prophesee's words and records, one event at a time, from the published layouts."""

import struct

HD = "% evt {version}\n% geometry {width}x{height}\n"


def evt2(rows, triggers=()):
    """Words of rows (x, y, t, p) and triggers (t, edge, channel), by time; higher bits before each."""
    out = []
    for t, kind, word in _in_order(rows, triggers, _evt2_event, _evt2_trigger):
        out.append(8 << 28 | t >> 6 & 0xFFFFFFF)
        out.append(kind << 28 | (t & 63) << 22 | word)
    return struct.pack(f"<{len(out)}I", *out)


def evt21(rows, triggers=(), legacy=False):
    """Words of 64 bits; neighbours of one time, row and polarity within 32 pixels share one, by x."""
    groups = []
    for x, y, t, p in rows:
        last = groups[-1] if groups else None
        if last and last[1:] == [y, t, p] and last[0][-1] < x < last[0][0] + 32:
            last[0].append(x)
        else:
            groups.append([[x], y, t, p])
    parts = [(t, 0, p, y, xs[0], sum(1 << (x - xs[0]) for x in xs)) for xs, y, t, p in groups]
    parts += [(t, 1, edge, channel, 0, 0) for t, edge, channel in triggers]
    out = b""
    for t, is_trigger, p, y, x, mask in sorted(parts, key=lambda part: part[0]):
        words = [8 << 60 | (t >> 6 & 0xFFFFFFF) << 32]
        if is_trigger:
            words.append(10 << 60 | (t & 63) << 54 | y << 40 | p << 32)
        else:
            words.append(p << 60 | (t & 63) << 54 | x << 43 | y << 32 | mask)
        for word in words:
            halves = (word >> 32, word & 0xFFFFFFFF) if legacy else (word & 0xFFFFFFFF, word >> 32)
            out += struct.pack("<II", *halves)
    return out


def evt3(rows, triggers=()):
    """Words of 16 bits: time, row and place before each event; what is on at the same time and row is no vector."""
    out = []
    for t, kind, word in _in_order(rows, triggers, lambda *row: (2, row), lambda edge, channel: (10, (edge, channel))):
        out += [8 << 12 | t >> 12 & 0xFFF, 6 << 12 | t & 0xFFF]
        if kind == 2:
            x, y, p = word
            out += [y, 2 << 12 | p << 11 | x]
        else:
            out.append(10 << 12 | word[1] << 8 | word[0])
    return struct.pack(f"<{len(out)}H", *out)


def dat(rows, header="% Data file containing CD events.\n% Version 2\n", kind=12, fields=(14, 14)):
    """A DAT file; `fields` are the bits of x and of y."""
    out = header.encode() + bytes((kind, 8))
    for x, y, t, p in rows:
        out += struct.pack("<II", t % 2**32, x | y << fields[0] | p << sum(fields))
    return out


def rows_of(events):
    return list(zip(events.x.tolist(), events.y.tolist(), events.t.tolist(), events.p.tolist(), strict=True))


def _evt2_event(x, y, p):
    return p, x << 11 | y


def _evt2_trigger(edge, channel):
    return 10, channel << 8 | edge


def _in_order(rows, triggers, event, trigger):
    found = [(t, *event(x, y, p)) for x, y, t, p in rows]
    found += [(t, *trigger(edge, channel)) for t, edge, channel in triggers]
    return sorted(found, key=lambda item: item[0])
