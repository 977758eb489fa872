"""Small files of the picture formats, written by their documentation; loaded by conftest.py."""

import pickle
import struct

import numpy as np


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def gnt_record(code: bytes, picture: np.ndarray) -> bytes:
    height, width = picture.shape
    size = 10 + height * width
    return struct.pack("<I2sHH", size, code, width, height) + picture.astype(np.uint8).tobytes()


def cifar_record(labels: list[int], picture: np.ndarray) -> bytes:
    """A record of the binary version; the picture is (32, 32, 3)."""
    return bytes(labels) + b"".join(picture[:, :, c].tobytes() for c in range(3))


def cifar_rows(pictures: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).reshape(len(pictures), 3072)


def python2_batch(rows: np.ndarray, labels: dict[str, list[int]]) -> bytes:
    """A Python batch byte for byte as cPickle of Python 2 writes it, with protocol 2."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    parts = [b"\x80\x02}q\x01(", text("batch_label"), b"q\x02", text("training batch 1 of 5")]
    for name, values in labels.items():
        numbers = b"".join(b"K" + bytes([value]) for value in values)
        parts += [text(name), b"]q\x03(" + numbers + b"e"]
    parts += [
        text("data") + b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08",
        b"K\x00\x85U\x01b\x87Rq\x09(K\x01" + b"K" + bytes([len(rows)]) + b"M\x00\x0c\x86",
        b"cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b",
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
        b"T" + struct.pack("<I", rows.size) + rows.tobytes() + b"tb",
        text("filenames") + b"]q\x0c(" + b"".join(map(text, ["a.png"] * len(rows))) + b"eu.",
    ]
    return b"".join(parts)


def python3_batch(rows: np.ndarray, labels: dict[str, list[int]], protocol: int) -> bytes:
    return pickle.dumps({"data": rows, **labels, "filenames": ["a.png"] * len(rows)}, protocol)
