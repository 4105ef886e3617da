"""Oracle for the sensitivities D, G, R of one layer and their error bars."""

import numpy as np


def squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b||^2, summed over all entries of one representation."""
    return float(np.sum((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))


def image_numerators(clean: np.ndarray, perturbed: np.ndarray) -> np.ndarray:
    """For every image n the mean over draws of ||f(perturbed_n) - f(x_n)||^2, (P,); clean is
    (P, ...) and perturbed (draws, P, ...) (paper, Eq. 1).
    """
    draws, number = perturbed.shape[0], clean.shape[0]
    out = np.zeros(number)
    for n in range(number):
        for r in range(draws):
            out[n] += squared_distance(perturbed[r, n], clean[n]) / draws
    return out


def pair_distances(clean: np.ndarray) -> np.ndarray:
    """The P x P table of ||f(x_1) - f(x_2)||^2 over all ordered pairs, self-pairs (zero) included
    (paper, Eq. 1; protocol, section 3).
    """
    number = clean.shape[0]
    table = np.zeros((number, number))
    for a in range(number):
        for b in range(number):
            table[a, b] = squared_distance(clean[a], clean[b])
    return table


def ratios(
    d_numerators: np.ndarray, g_numerators: np.ndarray, pairs: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """(D, G, R) of the chosen images (indices, repetitions allowed): both numerators are means
    over them, the denominator is the mean over all their ordered pairs (paper, Eq. 1).
    """
    d_mean = float(np.mean(d_numerators[chosen]))
    g_mean = float(np.mean(g_numerators[chosen]))
    denominator = float(np.mean(pairs[np.ix_(chosen, chosen)]))
    return np.array([d_mean / denominator, g_mean / denominator, d_mean / g_mean])


def all_pairs_sensitivity(
    clean: np.ndarray, deformed: np.ndarray, noisy: np.ndarray
) -> tuple[float, float, float]:
    """D = E||f(tau x) - f(x)||^2 / E||f(x_1) - f(x_2)||^2, G the same with x + eta, R = D / G, for
    one layer; clean is (P, ...), deformed and noisy are (draws, P, ...); the denominator runs over
    all ordered pairs, self-pairs included (paper, Eq. 1; protocol, section 3).
    """
    d, g, r = ratios(
        image_numerators(clean, deformed),
        image_numerators(clean, noisy),
        pair_distances(clean),
        np.arange(clean.shape[0]),
    )
    return float(d), float(g), float(r)


def bootstrap_errors(
    clean: np.ndarray, deformed: np.ndarray, noisy: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """Standard errors of (D, G, R) by a bootstrap over images: P images drawn with replacement,
    everything recomputed (the denominator over all ordered pairs of the resampled images), and the
    standard deviation over the resamples, with resamples - 1 below (protocol, section 3). An
    image's draws stay with it.
    """
    d_numerators = image_numerators(clean, deformed)
    g_numerators = image_numerators(clean, noisy)
    pairs = pair_distances(clean)
    number = clean.shape[0]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        chosen = np.asarray(rng.integers(0, number, size=number))
        values.append(ratios(d_numerators, g_numerators, pairs, chosen))
    errors: np.ndarray = np.std(np.array(values), axis=0, ddof=1)
    return errors


def jackknife_errors(clean: np.ndarray, deformed: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Standard errors of (D, G, R) by the jackknife: leave one image out, recompute everything on
    the P - 1 others by all their ordered pairs (self-pairs included), and
    se = sqrt((P - 1)/P sum_i (theta_i - mean theta)^2) (protocol, section 3).
    """
    d_numerators = image_numerators(clean, deformed)
    g_numerators = image_numerators(clean, noisy)
    pairs = pair_distances(clean)
    number = clean.shape[0]
    values = []
    for left_out in range(number):
        chosen = np.array([n for n in range(number) if n != left_out])
        values.append(ratios(d_numerators, g_numerators, pairs, chosen))
    theta = np.array(values)
    squares = np.sum((theta - theta.mean(axis=0)) ** 2, axis=0)
    errors: np.ndarray = np.sqrt((number - 1) / number * squares)
    return errors
