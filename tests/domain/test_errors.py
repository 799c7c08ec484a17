"""What the caller can do about it decides the exit code."""

import pytest

from medaug import errors
from medaug.errors import DisclosureError, Fault, InputError, MedaugError

INPUT = ["ReaderError", "SettingsError", "CohortError", "RunFolderError", "LeakageError"]


@pytest.mark.parametrize("name", INPUT)
def test_the_users_input_exits_with_2_and_lists_every_fault(name):
    kind = getattr(errors, name)
    faults = (Fault("a.yaml: x", "1", "2", "3"), Fault("", "no patient"))
    error = kind(*faults)
    assert isinstance(error, InputError)
    assert (error.exit_code, error.faults) == (2, faults)
    assert str(error) == "a.yaml: x: 1\n    allowed: 2\n    to do:   3\nno patient"
    with pytest.raises(ValueError, match="at least one Fault"):
        kind()


def test_the_gate_exits_with_3_and_its_reasons():
    error = DisclosureError("too close", "too few")
    assert (error.exit_code, error.reasons) == (3, ("too close", "too few"))
    assert not isinstance(error, InputError)
    with pytest.raises(ValueError, match="at least one reason"):
        DisclosureError()


def test_a_fault_of_our_own_exits_with_1():
    assert MedaugError("bug").exit_code == 1
    every = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert {kind.exit_code for kind in every if issubclass(kind, MedaugError)} == {1, 2, 3}
