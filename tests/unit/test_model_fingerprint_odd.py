"""Fingerprints of models whose parts are easily taken for others."""

import json
import struct

import numpy as np
import pytest
import scipy.sparse

from mlobs.errors import UsageError
from mlobs.repro.model_fingerprint import fingerprint_model
from mlobs.repro.number_arrays import TaggedArray


class OfTwo:
    """Its state is two mappings, neither of them of slots."""

    def __init__(self, one, other):
        self.state = (one, other)

    def __getstate__(self):
        return self.state

    def __setstate__(self, state):
        self.state = state


def safetensors(path, header, content):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def test_every_nan_of_bf16_is_one_whoever_holds_it():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    bits = np.array([0x7FC1, 0x3F80, 0xFFC0], "<u2")
    quiet = np.array([0x7FC0, 0x3F80, 0x7FC0], "<u2")
    held = TaggedArray("bf16", quiet)

    assert fingerprint_model(bits.view(bfloat16)).text == fingerprint_model(held).text


def test_a_state_of_two_mappings_keeps_both():
    one, other = OfTwo({"a": 1}, {"a": 2}), OfTwo({"a": 3}, {"a": 2})

    assert fingerprint_model(one).text != fingerprint_model(other).text


def test_dtypes_of_several_numbers_are_not_their_bytes():
    found = {
        fingerprint_model([np.dtype(one)]).text for one in (("f4", (2,)), ("f8", (1,)), ("i4", (2,)), "V8")
    }

    assert len(found) == 4


@pytest.mark.parametrize("kind", [scipy.sparse.dok_array, scipy.sparse.lil_array, scipy.sparse.dia_array])
def test_sparse_matrices_of_every_format_have_a_fingerprint(kind):
    one, other = kind(np.eye(2)), kind(np.diag([1.0, 2.0]))

    assert fingerprint_model(one).text != fingerprint_model(other).text


def test_an_archive_of_arrays_is_read_whatever_its_suffix(tmp_path):
    with (tmp_path / "model.npy").open("wb") as file:
        np.savez(file, weight=np.ones(2))

    assert fingerprint_model(tmp_path / "model.npy").text == fingerprint_model({"weight": np.ones(2)}).text


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}, "tensor 'w' is of type F4"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "cut off"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}, "outside of the file"),
    ],
)
def test_a_broken_file_of_tensors_is_refused_by_the_tensor(tmp_path, facts, message):
    path = safetensors(tmp_path / "model.safetensors", {"w": facts}, b"abcd")

    with pytest.raises(UsageError, match=message):
        fingerprint_model(path)
