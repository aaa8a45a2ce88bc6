"""Modules are imported when they are first used."""

import pytest

from p2pfrl.core.lazy import LazyModule


def test_a_module_that_is_not_installed_is_missed_where_it_is_used():
    module = LazyModule("no_such_module")
    assert not hasattr(module, "__wrapped__")  # doctest asks
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        module.init()
    assert LazyModule("json").dumps([1]) == "[1]"
