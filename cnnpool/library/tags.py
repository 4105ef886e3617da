"""Names for values inside a function that JAX traces, and these values as its outputs.

    def network(x):
        return tagged("hidden", x @ A) @ B

    collected(network)(x)  # {"hidden": x @ A}

Unlike a list that the function fills, this works inside `jax.vmap`, `jax.jit` and
`jax.checkpoint`: the named values are found in the traced program. Those inside loops
(`jax.lax.scan`) have a value for every turn and are left out.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, Literal, Primitive
from jax.interpreters import batching, mlir
import jax.numpy as jnp

_TAG = Primitive("cnnpool_tag")
_TAG.def_impl(lambda value, **_: value)
_TAG.def_abstract_eval(lambda value, **_: value)
mlir.register_lowering(_TAG, lambda _context, value, **_: [value])
_INLINED = (
    "jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2",
    "custom_jvp_call", "custom_vjp_call",
)  # fmt: skip


def _batched(values: tuple[Array], axes: tuple[int], **names: str) -> tuple[Array, int]:
    """An outer `vmap` puts its axis before those of inner ones."""
    return _TAG.bind(jnp.moveaxis(values[0], axes[0], 0), **names), 0


batching.primitive_batchers[_TAG] = _batched


def tagged(name: str, output: Any) -> Any:
    """The same output, all of whose arrays of floats have a name: "attention/0" in tuples."""

    def one(path: Any, value: Any) -> Any:
        if not isinstance(value, jax.Array) or not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        return _TAG.bind(
            value, name=name, part=jax.tree_util.keystr(path, simple=True, separator="/")
        )

    return jax.tree_util.tree_map_with_path(one, output)


def collected(function: Callable[..., Any]) -> Callable[..., dict[str, Array]]:
    """The named values inside a function, in the order in which they are computed.

    Names that come again are numbered: "act", "act:2", "lstm:2/0".
    """

    def names_and_values(*args: Any) -> dict[str, Array]:
        closed = jax.make_jaxpr(function)(*args)
        found: list[tuple[str, str, Array]] = []
        _evaluated(closed.jaxpr, closed.consts, jax.tree.leaves(args), found)
        return _numbered(found)

    return names_and_values


def _numbered(found: list[tuple[str, str, Array]]) -> dict[str, Array]:
    calls: dict[tuple[str, str], int] = {}
    values = {}
    for name, part, value in found:
        calls[name, part] = number = calls.get((name, part), 0) + 1
        called = name if number == 1 else f"{name}:{number}"
        values[f"{called}/{part}" if part else called] = value
    return values


def _evaluated(jaxpr: Any, constants: Any, inputs: Any, found: list) -> list[Any]:
    """Outputs of a traced program; adds the named values in it to `found`."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))

    def value(of: Any) -> Any:
        return of.val if isinstance(of, Literal) else known[of]

    for equation in jaxpr.eqns:
        given = [value(one) for one in equation.invars]
        inner = _inner(equation)
        if inner is not None and _has_tags(inner.jaxpr):
            results = _evaluated(inner.jaxpr, inner.consts, given, found)
        else:
            parameters = equation.primitive.get_bind_params(equation.params)
            results = equation.primitive.bind(*given, **parameters)
            results = results if equation.primitive.multiple_results else [results]
        if equation.primitive is _TAG:
            found.append((equation.params["name"], equation.params["part"], results[0]))
        known.update(zip(equation.outvars, results, strict=True))
    return [value(one) for one in jaxpr.outvars]


def _inner(equation: Any) -> Any:
    """The program that an equation runs once, on its own inputs; None if it is no such equation."""
    if equation.primitive.name not in _INLINED:
        return None
    inner = next(equation.params[n] for n in ("jaxpr", "call_jaxpr") if n in equation.params)
    return inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())


def _has_tags(jaxpr: Any) -> bool:
    inner = [_inner(one) for one in jaxpr.eqns]
    return any(one.primitive is _TAG for one in jaxpr.eqns) or any(
        _has_tags(one.jaxpr) for one in inner if one is not None
    )
