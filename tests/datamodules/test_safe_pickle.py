"""Pickles are read without running anything, in bounded memory, and give what pickle gives."""

import io
import os
import pickle
import struct

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures import safe_pickle
from spcnn_lightning.datamodules.pictures.safe_pickle import load_plain_pickle

PLAIN = [
    {"a": [1, 255, 256, 70_000, -1, 2**40, -(2**62)], "b": None, "c": (), "d": (1, (2, 3), "x", 4)},
    [True, False, "ü" * 300, "", [], {}, {"k": {"l": []}}],
    ("a", "a"),
    list(range(5_000)),
]
TARGET = "a-pickle-was-here"


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return 7 if value == "me" else None


def persistent(protocol):
    file = io.BytesIO()
    Persistent(file, protocol).dump({"data": "me"})
    return file.getvalue()


def out_of_band():
    return pickle.dumps(np.zeros((2, 3072), np.uint8), 5, buffer_callback=lambda buffer: False)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", PLAIN)
def test_plain_values_are_what_pickle_gives(value, protocol):
    assert load_plain_pickle(pickle.dumps(value, protocol), "a") == value


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_what_pickle_gives(protocol, order):
    array = np.asarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), order=order)
    data = pickle.dumps({"data": array, "bytes": b"abc" * 200}, protocol)
    found = load_plain_pickle(data, "a")
    np.testing.assert_array_equal(found["data"], array)
    assert bytes(found["bytes"]) == b"abc" * 200
    assert np.shares_memory(found["data"], np.frombuffer(data, np.uint8)), "no copy is made"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "call",
    [
        Calls(os.system, f"touch {TARGET}"),
        Calls(eval, f"open({TARGET!r}, 'w')"),
        Calls(open, TARGET, "w"),
        Calls(getattr, "a", "upper"),
        Calls(np.load, TARGET, None, True),
        Calls(np.zeros, 2**40),
        Calls(bytearray, 2**40),
    ],
)
def test_a_call_is_refused_and_not_made(call, protocol, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # Inside a list and a dict as well: what comes first in the file is not made either.
    for value in (call, [1, call], {"data": call}):
        data = pickle.dumps(value, protocol)
        with pytest.raises(DataError, match=r"a: byte \d+: the name .* not called"):
            load_plain_pickle(data, "a")
        assert not os.path.exists(TARGET)


def test_pickle_itself_makes_these_calls(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Calls(os.system, f"touch {TARGET}")))
    assert os.path.exists(TARGET)


NUMPY = b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x0c_reconstruct\x93"
DTYPE = b"\x80\x02cnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: 1 bytes wanted where 0 are left"),
        (b"\x80\x05", "byte 2: 1 bytes wanted"),
        (b"\x80\x06N.", "byte 0: protocol 6, expected 2 to 5"),
        (b"(dp0\n.", "byte 1: operation 0x64, which plain"),
        (b"cos\nsystem\n(S'true'\ntR.", "byte 0: the name 'os.system'"),
        (b"\x80\x02cos\nsystem\nU\x04true\x85R.", "byte 2: the name 'os.system'"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "byte 17: the name 'posix.system'"),
        (b"\x80\x02ios\nsystem\n.", "byte 2: operation 0x69"),  # INST
        (b"\x80\x02\x82\x01.", "byte 2: operation 0x82"),  # EXT1
        (b"\x80\x02))\x81.", "byte 4: operation 0x81"),  # NEWOBJ
        (persistent(0), "operation"),
        (persistent(2), "operation 0x51"),  # BINPERSID
        (persistent(5), "operation 0x51"),
        (out_of_band(), "operation 0x97"),  # NEXT_BUFFER
        (b"\x80\x05\x8e" + struct.pack("<Q", 2**62) + b"ab.", f"byte 2: {2**62} bytes wanted"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**31) + b".", "byte 2: 2147483648 bytes wanted"),
        (b"\x80\x02T\xff\xff\xff\x7f.", "byte 2: 2147483647 bytes wanted"),
        (b"\x80\x02X\xff\xff\xff\xff.", "byte 2: 4294967295 bytes wanted"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "byte 2: operation 0x8b"),  # LONG4
        (b"\x80\x02\x8a\xff" + bytes(255) + b".", "byte 2: an integer of 255 bytes"),
        (b"\x80\x02\x8a\x09" + bytes(9) + b".", "byte 2: an integer of 9 bytes"),
        (b"\x80\x02X\x01\0\0\0\xff.", "byte 2: text that is not UTF-8"),
        (b"\x80\x02c" + b"a" * 200 + b"\nb\n.", "byte 2: a name of more than 100 bytes"),
        (b"\x80\x02j\xff\xff\xff\x7f.", "byte 2: value number 2147483647 is used before"),
        (b"\x80\x02q\x01.", "byte 2: a value is missing"),
        (b"\x80\x02N(.", "byte 4: a value is missing"),
        (b"\x80\x02N\x85e.", "byte 4: a mark is missing"),
        (b"\x80\x02N(Ne.", "byte 5: a value of type NoneType, expected list"),
        (b"\x80\x02}(Nu.", "byte 5: a key without a value"),
        (b"\x80\x02}K\x01Ns.", "byte 6: a value of type int, expected str"),
        (b"\x80\x02}]Ns.", "byte 5: a value of type list, expected str"),
        (b"\x80\x02Nb.", "byte 3: a value is missing|NoneType, expected tuple"),
        (b"\x80\x02NN\x85R.", "byte 5: a value of type NoneType, expected Name"),
        (DTYPE + b"X\x02\0\0\0O8K\0K\x01\x87R.", "expected an array of unsigned bytes"),
        (DTYPE + b"]\x85R.", "expected an array of unsigned bytes"),
        (NUMPY + b"K\x05\x85R.", "expected an array of unsigned bytes"),
        (NUMPY + b"\x8c\x05numpy\x8c\x07ndarray\x93K\0\x85C\x01b\x87R.", "without contents"),
        (
            NUMPY + b"\x8c\x05numpy\x8c\x07ndarray\x93K\0\x85C\x01b\x87R"
            b"(K\x01J\xff\xff\xff\x7fM\xff\xff\x86\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02u1\x85R"
            b"\x89C\x02abtb.",
            "an array of 2 bytes, which its shape does not have",
        ),
    ],
)
def test_a_hostile_pickle_is_damage_at_its_place(data, message, fuzzing):
    with fuzzing.limits(), pytest.raises(DataError, match=f"batch: .*(?:{message})") as caught:
        load_plain_pickle(data, "batch")
    assert len(str(caught.value)) < 300


def test_lists_in_lists_without_end_do_no_harm(fuzzing):
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    itself = b"\x80\x02]q\x01h\x01a."
    doubling = b"\x80\x02]q\x00" + b"".join(
        b"(h" + bytes([n]) + b"h" + bytes([n]) + b"tq" + bytes([n + 1]) for n in range(200)
    )
    with fuzzing.limits():
        assert load_plain_pickle(itself, "a")[0] is not None
        assert len(load_plain_pickle(deep, "a")) == 1
        assert len(load_plain_pickle(doubling + b".", "a")) == 2


def test_operations_are_counted(fuzzing):
    with fuzzing.limits(), pytest.raises(DataError, match="more than 500000 operations"):
        load_plain_pickle(b"\x80\x02" + b"}" * 2_000_000 + b".", "a")
    assert safe_pickle.MOST_OPERATIONS > 50_000 * 4 + 1_000, "CIFAR-100's training part fits"
