"""Named values inside traced functions."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnpool.library.tags import collected, tagged

A = jnp.arange(6.0).reshape(3, 2)
X = jnp.arange(12.0).reshape(4, 3)


def test_values_inside_transformations_are_found_in_their_order():
    def one(x):
        first = tagged("first", x @ A)
        second = jax.checkpoint(lambda f: tagged("second", 2 * f))(first)
        third = jax.jit(lambda f: jax.nn.relu(tagged("third", f - 9)))(second)
        return tagged("first", third)

    for run in (collected(jax.vmap(one)), jax.jit(collected(jax.vmap(one)))):
        found = run(X)
        np.testing.assert_allclose(found["first"], X @ A)
        np.testing.assert_allclose(found["second"], 2 * X @ A)
        np.testing.assert_allclose(found["third"], 2 * X @ A - 9)
        np.testing.assert_allclose(found["first:2"], jax.nn.relu(2 * X @ A - 9))
    assert list(collected(jax.vmap(one))(X)) == ["first", "second", "third", "first:2"]


def test_outer_axes_come_before_inner_ones():
    tokens = jnp.arange(4.0 * 5 * 3).reshape(4, 5, 3)
    each = jax.vmap(lambda token: tagged("twice", 2 * token) @ A, in_axes=1, out_axes=1)
    found = collected(jax.vmap(lambda image: each(image.T)))(tokens)
    np.testing.assert_allclose(found["twice"], 2 * tokens)


def test_parts_have_names_and_values_of_loops_are_left_out():
    def network(x):
        parts = tagged("parts", {"a": x, "b": (x + 1, 7)})
        after, _ = jax.lax.scan(lambda f, _: (tagged("turn", f + 1), None), parts["a"], length=2)
        return after

    assert list(collected(network)(X)) == ["parts/a", "parts/b/0"]
