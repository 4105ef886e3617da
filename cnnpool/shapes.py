"""Annotations of arrays with named axes, from jaxtyping if it is installed.

Measuring functions requires only JAX and NumPy; without jaxtyping, the annotations have no effect.
"""

from typing import TYPE_CHECKING, Any

try:
    from jaxtyping import Bool, Float, Int, Key, Shaped, UInt8
except ModuleNotFoundError:
    if not TYPE_CHECKING:

        class _Unchecked:
            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Bool = Float = Int = Key = Shaped = UInt8 = _Unchecked

__all__ = ["Bool", "Float", "Int", "Key", "Shaped", "UInt8"]
