"""Oracle for the theory: constant filters as matrices, exact sensitivities of linear networks."""

import numpy as np

Moves = list[list[tuple[float, np.ndarray]]]


def network_step(length: int, filter_size: int) -> np.ndarray:
    """One layer of stride 1 with the filter [1/F, ..., 1/F] and the network's padding, as an L x L
    matrix: row p holds 1/F at p - left, ..., p - left + F - 1 (mod L), left = (F - 1)/2 for odd F
    and F/2 - 1 for even F (protocol, section 6).
    """
    left = (filter_size - 1) // 2 if filter_size % 2 == 1 else filter_size // 2 - 1
    matrix = np.zeros((length, length))
    for p in range(length):
        for t in range(filter_size):
            matrix[p, (p + t - left) % length] += 1.0 / filter_size
    return matrix


def paper_step(length: int, filter_size: int) -> np.ndarray:
    """The paper's M, divided by F to be stochastic: row a holds 1/F at a - (F - 1)/2, ...,
    a + (F - 1)/2 for odd F and at a - F/2, ..., a + F/2 - 1 for even F, mod L (paper, Appendix A,
    Eqs. 3, 6 and 7).
    """
    left = (filter_size - 1) // 2 if filter_size % 2 == 1 else filter_size // 2
    matrix = np.zeros((length, length))
    for a in range(length):
        for t in range(filter_size):
            matrix[a, (a + t - left) % length] += 1.0 / filter_size
    return matrix


def block_step(length: int, filter_size: int) -> np.ndarray:
    """One layer with F = s and a constant filter as an (L/F) x L matrix: row p averages pixels
    F p, ..., F p + F - 1. It is the network's layer for F = 2, where its left padding is zero
    (protocol, section 6).
    """
    if length % filter_size != 0:
        raise ValueError("the filter size must divide the length")
    matrix = np.zeros((length // filter_size, length))
    for p in range(length // filter_size):
        for t in range(filter_size):
            matrix[p, filter_size * p + t] = 1.0 / filter_size
    return matrix


def products(step_matrices: list[np.ndarray]) -> list[np.ndarray]:
    """The matrices of the representations, M_1, M_2 M_1, ..., M_K ... M_1 (paper, Appendix A:
    f_k = M^k x for equal steps).
    """
    out: list[np.ndarray] = []
    for step in step_matrices:
        out.append(step.copy() if not out else step @ out[-1])
    return out


def drift_and_variance(response: np.ndarray, start: int) -> tuple[float, float]:
    """Mean displacement and variance of a response f_k(delta_i) on the ring, (L,), read as a
    distribution over displacements from i in [-L/2, L/2). Only for responses that have not wrapped
    around (paper, Appendix A).
    """
    length = response.shape[0]
    weights = [float(response[(start + r) % length]) for r in range(-(length // 2), length // 2)]
    places = list(range(-(length // 2), length // 2))
    total = sum(weights)
    mean = sum(w * r for w, r in zip(weights, places, strict=True)) / total
    square = sum(w * r**2 for w, r in zip(weights, places, strict=True)) / total
    return mean, square - mean**2


def theory_size(layer: int, filter_size: int) -> float:
    """The theory's receptive-field size A_k = sqrt(k (F^2 - 1) / 12): k steps of a walk uniform on
    F neighbouring places (protocol, section 6).
    """
    return float(np.sqrt(layer * (filter_size**2 - 1) / 12))


def proposition_gaussian(length: int, filter_size: int, layer: int, start: int) -> np.ndarray:
    """Proposition A.1 as printed, at the displacements a - i in [-L/2, L/2):
    exp(-(v k + a - i)^2 / (4 D k)) / sqrt(4 pi D k); odd F: v = 0, D = (F - 1)^3 / (12 F); even F:
    v = (1 - F)/(2 F), D = (F^3 - 3 F^2 + 6 F - 4)/(12 F) (paper, Eqs. 4 and 5).
    """
    f = filter_size
    if f % 2 == 1:
        v, d = 0.0, (f - 1) ** 3 / (12 * f)
    else:
        v, d = (1 - f) / (2 * f), (f**3 - 3 * f**2 + 6 * f - 4) / (12 * f)
    out = np.zeros(length)
    for r in range(-(length // 2), length - length // 2):
        height = 1.0 / np.sqrt(4 * np.pi * d * layer)
        out[(start + r) % length] = height * np.exp(-((v * layer + r) ** 2) / (4 * d * layer))
    return out


def move_variance(images: np.ndarray, moved: Moves) -> float:
    """sigma^2: the mean over images and pixels of (tau(x) - x)^2, with the exact expectation over
    the listed moves, moved[n] = [(probability, image), ...] (protocol, section 2).
    """
    total = 0.0
    for x, outcomes in zip(images, moved, strict=True):
        for probability, tau_x in outcomes:
            total += probability * float(np.mean((tau_x - x) ** 2))
    return total / len(images)


def noise_moments(variance: float, rectified: bool) -> tuple[float, float]:
    """First and second moment of one pixel of the noise: sigma / sqrt(2 pi) and sigma^2 / 2 for
    eta = ReLU(N(0, sigma^2)), and 0 and sigma^2 without the ReLU (protocol, section 2).
    """
    if rectified:
        return float(np.sqrt(variance / (2 * np.pi))), variance / 2
    return 0.0, variance


def deformation_numerator(matrix: np.ndarray, images: np.ndarray, moved: Moves) -> float:
    """E ||M (tau(x) - x)||^2: mean over images, exact over the listed moves (paper, Eq. 1)."""
    total = 0.0
    for x, outcomes in zip(images, moved, strict=True):
        for probability, tau_x in outcomes:
            total += probability * float(np.sum((matrix @ (tau_x - x)) ** 2))
    return total / len(images)


def noise_numerator(matrix: np.ndarray, variance: float, rectified: bool = True) -> float:
    """E ||M eta||^2 for independent pixels of mean m and second moment q: the sum over output
    pixels a of (m sum_b M_ab)^2 + (q - m^2) sum_b M_ab^2 (paper, Eq. 1; protocol, section 2).
    """
    first, second = noise_moments(variance, rectified)
    total = 0.0
    for row in matrix:
        total += (first * float(np.sum(row))) ** 2 + (second - first**2) * float(np.sum(row**2))
    return total


def pair_denominator(matrix: np.ndarray, images: np.ndarray) -> float:
    """Mean of ||M x_1 - M x_2||^2 over all ordered pairs of images, self-pairs included (paper,
    Eq. 1; protocol, section 3).
    """
    representations = [matrix @ x for x in images]
    table = np.array(representations)
    total = 0.0
    for f in representations:
        total += float(np.sum((table - f) ** 2))
    return total / len(images) ** 2


def exact_sensitivities(
    step_matrices: list[np.ndarray], images: np.ndarray, moved: Moves, rectified: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """D_k and G_k, each (K,), of the linear network f_k = M_k ... M_1 x, without sampling: exact
    expectations over the listed moves and over the noise, whose sigma^2 is `move_variance` at the
    input, and all ordered pairs in the denominator (paper, Eq. 1; protocol, sections 2, 3, 6). nan
    where the representation is the same for all images, as after averaging the whole ring.
    """
    variance = move_variance(images, moved)
    d_values, g_values = [], []
    for matrix in products(step_matrices):
        denominator = pair_denominator(matrix, images)
        if denominator <= 1e-20 * float(np.mean(images**2)):
            denominator = float("nan")
        d_values.append(deformation_numerator(matrix, images, moved) / denominator)
        g_values.append(noise_numerator(matrix, variance, rectified) / denominator)
    return np.array(d_values), np.array(g_values)


def log_slope(values: np.ndarray, filter_size: int, first: int, last: int) -> float:
    """Least-squares slope of log(value of layer k) against log A_k over k = first .. last, both
    included, values[0] being layer 1 and A_k `theory_size` (protocol, section 6).
    """
    layers = range(first, last + 1)
    x = np.array([np.log(theory_size(k, filter_size)) for k in layers])
    y = np.array([np.log(values[k - 1]) for k in layers])
    x_centred, y_centred = x - x.mean(), y - y.mean()
    return float(np.sum(x_centred * y_centred) / np.sum(x_centred**2))
