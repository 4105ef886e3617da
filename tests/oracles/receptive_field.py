"""Oracle for the measured receptive-field size and the channel-averaged filters."""

import numpy as np


def signed_positions(length: int) -> list[int]:
    """Positions r_p relative to pixel 0 on the ring, in [-L/2, L/2): p if p < L/2, else p - L
    (protocol, section 6).
    """
    return [p if p < length / 2 else p - length for p in range(length)]


def measured_size(response: np.ndarray, background: np.ndarray) -> float:
    """A_k = sqrt(sum_p m_p r_p^2 / sum_p m_p), with m_p the mean over channels of
    |f_k(a delta_0) - f_k(0)| at position p; response and background are (L, C). The second moment
    is taken about pixel 0, not about the mean; nan where nothing responds (protocol, section 6).
    """
    length, channels = response.shape
    weighted, total = 0.0, 0.0
    for p, r in enumerate(signed_positions(length)):
        m = 0.0
        for c in range(channels):
            m += abs(float(response[p, c]) - float(background[p, c])) / channels
        weighted += m * r**2
        total += m
    return float(np.sqrt(weighted / total)) if total > 0 else float("nan")


def mean_filters(params: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """Table 1: the raw kernel W (F, C_in, C_out) of every convolution averaged over its input and
    output channels, (K, F), in forward order (paper, Table 1; protocol, section 6).
    """
    rows = []
    for name in sorted(name for name in params if name.startswith("conv")):
        kernel = np.asarray(params[name]["kernel"], dtype=np.float64)
        rows.append([float(np.mean(kernel[t])) for t in range(kernel.shape[0])])
    return np.array(rows)
