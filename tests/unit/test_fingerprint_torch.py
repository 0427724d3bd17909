"""Fingerprints of tensors: those of the arrays with the same values."""

import numpy as np
import pytest

from mlobs.errors import UsageError
from mlobs.repro.fingerprint import fingerprint

torch = pytest.importorskip("torch", reason="pip install torch")


def test_a_tensor_has_the_fingerprint_of_the_array_with_its_values():
    array = np.arange(12, dtype="f8").reshape(3, 4)
    tensor = torch.from_numpy(array)

    assert fingerprint(tensor).text == fingerprint(array).text
    assert fingerprint(tensor.T).text == fingerprint(array.T).text
    assert fingerprint(torch.ones(3, requires_grad=True)).text == fingerprint(np.ones(3, "f4")).text
    assert fingerprint(tensor, budget_s=0).strength == "stat"


def test_types_that_numpy_lacks_are_hashed_by_their_bits():
    weights = torch.tensor([1.0, float("nan")], dtype=torch.bfloat16)

    assert fingerprint(weights).notes["type"] == "bf16"
    assert fingerprint(weights).text == fingerprint(-weights * -1).text
    assert fingerprint(weights).text != fingerprint(weights.to(torch.float16)).text
    assert fingerprint(torch.ones(2).to(torch.float8_e4m3fn)).notes["type"] == "float8_e4m3fn"


def test_a_dataset_of_tensors_is_a_set_of_them():
    x, y = torch.zeros(4, 2), torch.arange(4)

    assert fingerprint(torch.utils.data.TensorDataset(x, y)).text == fingerprint((x.numpy(), y.numpy())).text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.utils.data.Subset([1, 2], [0]), "makes its items on demand"),
        (torch.eye(2).to_sparse(), r"tensor\.to_dense\(\)"),
    ],
)
def test_what_has_no_plain_values_is_refused_with_the_remedy(value, said):
    with pytest.raises(UsageError, match=said):
        fingerprint(value)
