"""How Java serializes what it writes into znodes."""


def string(text: str) -> bytes:
    """The bytes that ``ObjectOutputStream.writeObject`` writes for a string.

    Source of the format: Java Object Serialization Specification, 6.4.2; text is in Java's modified UTF-8.

    >>> string("ab").hex(" ")
    'ac ed 00 05 74 00 02 61 62'
    """
    encoded = b"".join(map(_modified, text))
    if len(encoded) < 2**16:
        return b"\xac\xed\x00\x05t" + len(encoded).to_bytes(2, "big") + encoded
    return b"\xac\xed\x00\x05|" + len(encoded).to_bytes(8, "big") + encoded


def _modified(character: str) -> bytes:
    """A character in modified UTF-8: no byte is zero, and surrogates are encoded one by one."""
    if character == "\0":
        return b"\xc0\x80"
    if character <= "\uffff":
        return character.encode()
    pair = character.encode("utf-16-be")
    halves = (chr(int.from_bytes(half, "big")) for half in (pair[:2], pair[2:]))
    return "".join(halves).encode("utf-8", "surrogatepass")
