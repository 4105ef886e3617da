import pytest

from cnnpool.models.fields import scaled


@pytest.mark.parametrize(
    ("channels", "factor", "expected"), [(64, 0.5, 32), (64, 1.0, 64), (3, 0.01, 1)]
)
def test_scaled_channels(channels, factor, expected):
    assert scaled(channels, factor) == expected
