"""Nasty words: JSON values, texts, keys, headers and times that parsers and stores stumble over."""

import json
from random import Random

from fuzz.records import START_MS

TEXTS = (
    *("", " ", "\0", "\n", "\r\n", "\t", "\x1b[2J", "\x7f", "\u0085", "\u2028", "\ufeff", "\ufffd"),
    *("*", "?", "..", "/", "\\", '"', "'", "`", "$(id)", "%s", "{0}", "{{7*7}}", "<b>", "#", "="),
    *("}:q:{", "{1}", "ms:{0}:watermark", "a:b:c", ":", "default:BTCUSDT:trend_up", "\r\nSET a b"),
    # full-width digits, right-to-left marks, combining marks, a homoglyph, an emoji of five points
    *("１２３", "٣", "ＢＴＣ", "\u202eUSD", "\u200f", "e\u0301" * 40, "ВТСUSDT", "👩‍👩‍👧"),
    *("é" * 64, "x" * 32, "x" * 33, "x" * 128, "x" * 129, "𝕏" * 128, "x" * 4_090, "\x01" * 700),
    *("NaN", "null", "true", "1e400", "0", "-1", "LONG", "trend_up", "scalp", "Infinity"),
    *("2026-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59.999999999Z"),
    *("0001-01-01T00:00:00+23:59", "2026-01-01T24:00:00Z", "2026-01-01 00:00:00", "12:00"),
)

_NUMBERS = (
    *("0", "-0", "-0.0", "1", "-1", "0.1", "1.0", "1E5", "5e-324", "2.2250738585072014e-308"),
    *("1e-12", "9.99e-13", "1e15", "1.0000000000000001e15", "1e30", "-1e15", "1e308", "1e309"),
    *("1e400", "-1e400", "1e-400", "9" * 400, "-" + "9" * 400, "0." + "1" * 400, "1e99999999999"),
    *("2147483648", "9007199254740993", "9223372036854775807", "9223372036854775808"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775809", "253402300800000"),
    *("1000", "1000.0000001", "-1000.1", "0.3333333333333333", "100.00000000000001"),
)
_LIMITS = tuple(
    text.encode()
    for text in (
        *("0", "-0.0", "5e-324", "1e-320", "2.2250738585072014e-308", "1e-12", "1", "-1", "100"),
        *("1000", "1e15", "0.5", "1.0000000000000002", "0.9999999999999999"),
    )
)
_NO_NUMBERS = (
    *("NaN", "-NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1_000", "1,5", "١"),
    *("true", "false", "null", "undefined", "None", "True", "nan", "", "'a'", "/*", "//"),
)
_OTHERS = (
    *("[]", "{}", "[[]]", "[null]", '{"":0}', '{"a":1,"a":2}', '""', '"\\u0000"', '"\\ud800"'),
    *('"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\x41"', '"\\u12"', '"unended', '"\x01"', '"\t"'),
    *("[1,2", "{", "}", "]", "[,]", '{"a"}', '{"a":}', "{1:2}", '{"a":1,}', "[1,]", ":", ","),
)
_FIXED = tuple(text.encode() for text in (*_NUMBERS, *_NO_NUMBERS, *_OTHERS))
_RAW = (
    b'"\xff"',
    b'"\xc0\xaf"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b"\xef\xbb\xbf1",
    b"\x00",
)


def value(rng: Random) -> bytes:
    """Give a JSON value, or something that only looks like one."""
    draw = rng.random()
    if draw < 0.45:
        return rng.choice(_FIXED)
    if draw < 0.75:
        return json.dumps(rng.choice(TEXTS), ensure_ascii=rng.random() < 0.5).encode()
    if draw < 0.80:
        return rng.choice(_RAW)
    if draw < 0.90:
        return repr(rng.uniform(-1, 1) * 10.0 ** rng.randint(-20, 20)).encode()
    return bomb(rng)


def limit(rng: Random) -> bytes:
    """Give a number that most fields accept, and that is hard to count with."""
    if rng.random() < 0.5:
        return rng.choice(_LIMITS)
    return repr(10.0 ** rng.uniform(-30, 15)).encode()


def bomb(rng: Random) -> bytes:
    """Give a value that is small to write and large to hold, or to walk through."""
    size = rng.choice((5, 31, 32, 33, 500, 501, 1_023, 1_025, 5_000, 20_000))
    inner = rng.choice((b"0", b"{}", b"[]", b'"x"', b"null", b"1e400", b"[0,0,0,0]"))
    match rng.randrange(7):
        case 0:
            return b"[" * size + b"]" * size
        case 1:
            return b'{"a":' * size + inner + b"}" * size
        case 2:
            return b"[" + b",".join([inner] * size) + b"]"
        case 3:
            return b"{" + b",".join(b'"%d":%s' % (n, inner) for n in range(size)) + b"}"
        case 4:
            return b"{" + b",".join([b'"a":' + inner] * size) + b"}"  # one name, again and again
        case 5:
            return b'"' + rng.choice((b"x", b"\\u0041", b"\xe2\x80\xae", b"\\n")) * size + b'"'
        case _:
            return b"[" * size  # never closed


def key(rng: Random, symbol: str) -> bytes | None:
    """Give a record's key; a wrong one for the most part."""
    # JSON may escape half of a pair, which UTF-8 has no bytes for
    lower, usual, upper, quoted = (
        text.encode("utf-8", "surrogatepass")
        for text in (symbol.lower(), symbol, symbol.upper(), f'"{symbol}"')
    )
    candidates = (
        *(None, b"", b"ETHUSDT", b"\xff\xfe\x00", b"\x00", usual + b" ", b"K" * 100_000),
        *(lower, upper, symbol.encode("utf-16", "surrogatepass"), b"}:q:{", b"*"),
        *(quoted, usual + b"\n", b"\xef\xbb\xbf" + usual),
    )
    return rng.choice(candidates)


def headers(rng: Random) -> tuple[tuple[str, bytes | None], ...]:
    """Give headers that no well-behaved producer sends."""
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    match rng.randrange(9):
        case 0:
            return (("traceparent", trace),)
        case 1:
            content = rng.choice(
                (None, b"", b"\xff" * 55, trace * 19_000, "é".encode(), b"a\r\nb: c")
            )
            return (("traceparent", content), ("traceparent", trace))
        case 2:
            return tuple((rng.choice(TEXTS), rng.choice((None, b"", b"1"))) for _ in range(9))
        case 3:
            return (("", b""),) * rng.choice((1, 100, 5_000))
        case 4:
            return tuple((f"dlq.{name}", b"forged") for name in ("reason", "offset", "topic", "x"))
        case 5:
            return (("big", b"\0" * rng.choice((60_000, 500_000, 900_000))),)
        case 6:
            return (("n" * 70_000, None), ("decision_id", b"forged"), ("schema_version", b"9"))
        case 7:
            return (("same", b"1"), ("same", b"2"), ("same", None))
        case _:
            return tuple((f"h{number}", b"x" * 5_000) for number in range(rng.randrange(200)))


def timestamp(rng: Random) -> int:
    """Give a record time [ms]."""
    return rng.choice((-1, 0, 1, START_MS, START_MS + 40 * 86_400_000, 2**62, 2**63 - 1))
