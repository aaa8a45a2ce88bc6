"""What code of users raises is told apart from interrupts, and from what we raise through it."""

from __future__ import annotations

import pytest

from p2pfrl.core.causes import PassingError, cause, foreign


class Own(BaseException):
    pass


def caught(error: BaseException) -> bool:
    try:
        raise error
    except foreign():
        return True
    except BaseException:  # noqa: BLE001
        return False


@pytest.mark.parametrize(
    ("error", "is_foreign"),
    [
        (ValueError(), True),
        (SystemExit(), True),
        (GeneratorExit(), True),
        (Own(), True),
        (KeyboardInterrupt(), False),
        (PassingError(), False),
    ],
)
def test_all_but_an_interrupt_is_of_the_user(error: BaseException, is_foreign: bool) -> None:
    assert caught(error) == is_foreign
    assert foreign() == (), "outside of a clause nothing is"


def test_a_text_that_cannot_be_read_is_said() -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise Own

    assert cause(SilentError()) == "SilentError: its text cannot be read: Own"
