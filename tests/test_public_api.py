"""The names that users may rely on, and that asking for the package costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgeprune

PUBLIC = {
    "capture",
    "channel_groups",
    "score",
    "profile",
    "plan",
    "prune",
    "mask",
    "sparsify",
    "finetune",
    "lower",
    "measure",
    "fit",
    "load_target",
}


def test_the_public_names_are_these():
    assert set(edgeprune.__all__) == PUBLIC
    assert len(edgeprune.__all__) == len(PUBLIC)
    assert set(dir(edgeprune)) == PUBLIC | {"__version__"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_a_documented_function(name):
    function = getattr(edgeprune, name)
    assert callable(function)
    assert function.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'prunes'"):
        edgeprune.prunes  # noqa: B018


def test_importing_the_package_does_not_import_torch():
    program = "import sys, edgeprune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
