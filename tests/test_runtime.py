"""Devices and meshes."""

import jax
import pytest

from cnnpool import runtime


@pytest.mark.parametrize(
    ("number", "most", "expected"), [(4, 2, 2), (4, 3, 2), (5, 2, 1), (6, 8, 6), (3, 0, 1)]
)
def test_largest_divisor(number, most, expected):
    assert runtime.largest_divisor(number, at_most=most) == expected


@pytest.mark.parametrize(("seeds", "devices"), [(4, 4), (5, 5), (12, 6), (1, 1), (11, 1)])
def test_the_mesh_takes_as_many_of_eight_devices_as_divide_the_seeds(seeds, devices):
    mesh = runtime.seed_mesh(seeds)
    assert (mesh.axis_names, mesh.size) == (("seed",), devices)
    assert bool(runtime.compiler_options(mesh)) == (devices > 1)


def test_forced_host_devices_are_left_alone():
    runtime.one_cpu_device_per_core(2)
    assert len(jax.devices()) == 8
