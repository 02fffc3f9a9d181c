"""The bytes of MindSpore's checkpoints: a protocol buffer, written here for once."""


def varint(value):
    """A number, seven bits a byte."""
    parts = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([part | 0x80 for part in parts[:-1]] + parts[-1:])


def field(number, value):
    """A field of a number, or of bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(name, dims, kind, content, packed=False):
    """A tensor and its name; dimensions may be written one by one, or as one field."""
    dims = [field(1, b"".join(map(varint, dims)))] if packed else [field(1, d) for d in dims]
    tensor = b"".join(dims) + field(2, kind.encode()) + field(3, content)
    return field(1, field(1, name.encode()) + field(2, tensor))
