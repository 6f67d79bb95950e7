"""Arrays and plain containers come out whole; nothing else is run, named or filled in."""

import builtins
import copyreg
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.sidm.readers.plain_pickle import load_plain, plain

SIGN = Path("hacked")
HEAD = b"\x80\x04"
GLOBAL_DTYPE = b"cnumpy\ndtype\n"


class Reduced:
    """Pickles as a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.parts = (call, arguments)

    def __reduce__(self) -> Any:
        return self.parts


class Ordinary:
    """An instance of a class, which `BUILD` would fill."""

    def __init__(self) -> None:
        self.x = 1


def refused(content: bytes, message: str) -> None:
    path = Path("hostile.pkl")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_plain(path)
    text = str(error.value)
    assert text.startswith("hostile.pkl: refused, for it is no whole pickle of numpy arrays")
    assert text.endswith("convert it to npz where it was made")
    assert "\n" not in text
    assert not SIGN.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_come_out_whole(protocol: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "f8": rng.random((2, 3, 4)),
        "fortran": np.asfortranarray(rng.random((3, 4))),
        "big endian": rng.random(3).astype(">f4"),
        "int": np.arange(-2, 3, dtype=np.int16),
        "bool": np.array([True, False]),
        "text": np.array(["ab", "é"]),
        "bytes": np.array([b"ab", b"c"]),
        "object": np.array([1, None, "x", [2.5]], object),
        "empty": np.zeros((0, 3)),
    }
    values = {"a": 0.1, "b": None, "c": "é", "d": [1, (2, b"x")], "e": {1}, "f": 10**30, "g": b""}
    scalars = {"x": np.float64(2.5), "y": np.float32(0.5), "z": np.int64(-3), "t": np.str_("hi")}
    path = Path("maps.pkl")
    path.write_bytes(pickle.dumps([arrays, {**values, **scalars}], protocol))
    found, others = load_plain(path)
    assert others == {**values, **scalars}
    for name, array in arrays.items():
        result = plain(found[name])
        assert result.dtype == array.dtype, name
        np.testing.assert_array_equal(result, array, err_msg=name)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (Reduced(os.system, f"touch {SIGN}"), r"system|opcode"),
        (Reduced(builtins.eval, f"open('{SIGN}', 'w')"), "eval"),
        (Reduced(getattr, "x", "upper"), "getattr"),
        (Reduced(np.save, str(SIGN), 1), "save"),
        ({"label": [1.0, (2, Reduced(os.system, f"touch {SIGN}"))]}, "system"),
        (np.array([Reduced(os.system, f"touch {SIGN}")], object), "system"),
        (Reduced(bytearray, 10**13), "bytearray"),
        (Ordinary(), r"Ordinary|_reconstructor|opcode NEWOBJ"),
        (complex(1, 2), "complex"),
        (np.array([1], "datetime64[s]"), "dtype 'M8'"),
        (np.zeros(2, [("x", "f4"), ("y", "O")]), "dtype 'V12'"),
        (np.array([1 + 2j]), "dtype 'c16'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_names_anything_else_is_refused(hostile: Any, named: str, protocol: int) -> None:
    refused(pickle.dumps(hostile, protocol), named)


def array_state(shape: bytes, dtype: bytes, content: bytes) -> bytes:
    """Return a pickle of an array that is given a state."""
    empty = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    return HEAD + empty + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb."


DTYPE_STATE = b"(K\x03X\x01\x00\x00\x00<NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"


def dtype(code: bytes, state: bytes = DTYPE_STATE) -> bytes:
    """Return the opcodes of a dtype with a state."""
    return GLOBAL_DTYPE + b"(X" + struct.pack("<I", len(code)) + code + b"\x89\x88tR" + state


SHAPE = b"(K\x02t"
FIELDS = b"(K\x03X\x01\x00\x00\x00<N(X\x01\x00\x00\x00xt}K\x08K\x01K\x00tb"
SIXTEEN = b"C\x10" + b"A" * 16


def test_a_forged_array_of_the_right_form_is_read() -> None:
    """The hostile ones below fail for what is hostile in them, not for their form."""
    Path("x.pkl").write_bytes(array_state(SHAPE, dtype(b"f8"), SIXTEEN))
    np.testing.assert_array_equal(plain(load_plain(Path("x.pkl"))), np.frombuffer(b"A" * 16))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # Bytes as addresses: an array of objects, or one whose dtype says that it has none.
        (array_state(SHAPE, dtype(b"O8"), SIXTEEN), "objects that are not listed"),
        (array_state(SHAPE, dtype(b"V8", FIELDS), SIXTEEN), "'V8'"),
        (array_state(SHAPE, dtype(b"f8", FIELDS), SIXTEEN), "fields"),
        (array_state(SHAPE, dtype(b"f8", b"}b"), SIXTEEN), "unpack"),
        (array_state(SHAPE, b"N", SIXTEEN), "without a dtype"),
        (array_state(b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft", dtype(b"f8"), SIXTEEN), "2 values"),
        (array_state(b"(J\xfe\xff\xff\xffK\x01t", dtype(b"f8"), SIXTEEN), r"shape \(-2"),
        (array_state(SHAPE, dtype(b"f8"), SIXTEEN[:-1] + b"AK\x01"), "unpack"),
        (HEAD + b"cnumpy\nndarray\n(K\x02tR.", "not callable"),
        (HEAD + b"cnumpy\nndarray\n(K\x02t\x81.", "opcode NEWOBJ"),
        (HEAD + b"cnumpy\nndarray.tofile\n.", r"numpy\.ndarray\.tofile"),
        (HEAD + GLOBAL_DTYPE + b"}X\x01\x00\x00\x00xK\x01sb.", "state of a function"),
        (HEAD + GLOBAL_DTYPE + b"(N}X\x0c\x00\x00\x00__defaults__Nstb.", "state of a function"),
    ],
)  # fmt: skip
def test_forged_states_are_refused(content: bytes, message: str) -> None:
    refused(content, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD + b"Pos\n.", "opcode PERSID"),
        (HEAD + b"K\x01Q.", "opcode BINPERSID"),
        (b"(ios\nsystem\n.", "opcode INST"),
        (b"(cos\nsystem\no.", "opcode OBJ"),
        (HEAD + b"\x82\x07.", "opcode EXT1"),
        (HEAD + b"\x83\x07\x00.", "opcode EXT2"),
        (HEAD + b"\x84\x07\x00\x00\x00.", "opcode EXT4"),
        (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
        (HEAD + b"Nr\xff\xff\xff\xff.", "LONG_BINPUT 4294967295 in a file of 9 bytes"),
        (b"Np99999999999\n.", "PUT 99999999999"),
        (HEAD + b"\x95" + b"\xff" * 7 + b"\x0fN.", "FRAME"),
        (HEAD + b"\x8e" + b"\xff" * 7 + b"\x0fabc.", "bytes"),
        (b"\x80\x63N.", "unsupported pickle protocol"),
        (b"\x93NUMPY not a pickle", "expected 77 bytes"),
        (HEAD, "exhausted before seeing STOP"),
        (HEAD + b"(K\x01K\x02", "exhausted before seeing STOP"),
    ],
)
def test_opcodes_that_plain_data_do_not_need_are_refused(content: bytes, message: str) -> None:
    refused(content, message)


def test_a_registered_extension_is_refused(request: pytest.FixtureRequest) -> None:
    """A code in the registry is called without `find_class`, once it was looked up before."""
    copyreg.add_extension("os", "system", 7)
    request.addfinalizer(lambda: copyreg.remove_extension("os", "system", 7))
    content = pickle.dumps(Reduced(os.system, f"touch {SIGN}").parts[0], 2)
    if b"\x82\x07" not in content:  # os.system is posix.system
        content = b"\x80\x02\x82\x07."
    assert pickle.loads(content) is os.system
    refused(content, "opcode EXT1")


@pytest.mark.parametrize("cut", [1, 40, 0.5, 0.99])
def test_a_truncated_file_is_refused(cut: float) -> None:
    content = pickle.dumps([{"label": 0.1}, np.ones((2, 1, 20, 20))])
    refused(
        content[: int(cut * len(content)) if cut < 1 else int(cut)],
        r"exhausted|not enough|FRAME \d+ in a file",
    )


def test_nesting_and_references_do_no_harm() -> None:
    path = Path("deep.pkl")
    path.write_bytes(HEAD + b"]" * 100_000 + b"a" * 99_999 + b".")
    assert isinstance(load_plain(path), list)
    key = HEAD + b"}" + b")" + b"\x85" * 300_000 + b"K\x01s."  # hashing it would exhaust the stack
    refused(key, "more than 50000 tuples")
    path.write_bytes(HEAD + b"]\x94" + b"h\x00a.")
    value = load_plain(path)
    assert value[0] is value  # a list in itself


def test_absent_and_empty_files_are_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pkl: no such file"):
        load_plain(Path("none.pkl"))
    Path("empty.pkl").touch()
    with pytest.raises(ValueError, match=r"empty\.pkl: the file is empty"):
        load_plain(Path("empty.pkl"))
