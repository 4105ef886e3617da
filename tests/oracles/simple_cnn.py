"""Oracle for the simple 1-D network: forward pass, loss, hand-written gradient."""

import numpy as np

Params = dict[str, dict[str, np.ndarray]]


def conv_names(params: Params) -> list[str]:
    """Names "conv01", "conv02", ... of the convolutions in forward order."""
    return sorted(name for name in params if name.startswith("conv"))


def normal_params(depth: int, width: int, filter_size: int, seed: int) -> Params:
    """Weights and biases all drawn from N(0, 1), kernels of shape (F, C_in, C_out), the first
    layer with one input channel (protocol, section 6, NTK-style initialization).
    """
    rng = np.random.default_rng(seed)
    params: Params = {}
    for k in range(1, depth + 1):
        channels_in = 1 if k == 1 else width
        params[f"conv{k:02d}"] = {
            "kernel": rng.standard_normal((filter_size, channels_in, width)),
            "bias": rng.standard_normal(width),
        }
    params["linear"] = {
        "kernel": rng.standard_normal((width, 1)),
        "bias": rng.standard_normal(1),
    }
    return params


def left_padding(filter_size: int) -> int:
    """Pixels of periodic padding on the left: (F - 1)/2 for odd F and F/2 - 1 for even F; the rest
    of the F - 1, which is (F - 1)/2 or F/2, goes to the right (protocol, section 6).
    """
    if filter_size % 2 == 1:
        return (filter_size - 1) // 2
    return filter_size // 2 - 1


def source_pixel(position: int, tap: int, length: int, filter_size: int, stride: int) -> int:
    """Input pixel which tap t of the filter reads for output position p:
    (s p + t - left) mod L (protocol, section 6).
    """
    return (stride * position + tap - left_padding(filter_size)) % length


def output_length(length: int, stride: int) -> int:
    """Positions after one layer: L / s, which has to be whole."""
    if length % stride != 0:
        raise ValueError("the stride must divide the length")
    return length // stride


def convolution(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, filter_size: int, stride: int
) -> np.ndarray:
    """Periodic cross-correlation, NTK-style, of x (P, L, C_in) with W (F, C_in, C_out):
    pre[n, p, o] = sum_{t, c} W[t, c, o] x[n, (s p + t - left) mod L, c] / sqrt(F C_in) + b[o]
    (protocol, section 6).
    """
    number, length, channels_in = x.shape
    if kernel.shape[0] != filter_size or kernel.shape[1] != channels_in:
        raise ValueError("kernel shape does not fit")
    positions = output_length(length, stride)
    out = np.zeros((number, positions, kernel.shape[2]))
    for p in range(positions):
        for t in range(filter_size):
            q = source_pixel(p, t, length, filter_size, stride)
            out[:, p, :] += x[:, q, :] @ kernel[t]
    pre: np.ndarray = out / np.sqrt(filter_size * channels_in) + bias
    return pre


def forward(params: Params, x: np.ndarray, filter_size: int, stride: int) -> dict[str, np.ndarray]:
    """All activations in forward order for x (P, L, 1): "conv01" = conv(x, W) / sqrt(fan_in) + b,
    "relu01" = sqrt(F) ReLU(conv01), ..., "pool" = mean over positions (P, H),
    "linear" = beta . h / H + b_out (P, 1) (protocol, section 6).
    """
    activations: dict[str, np.ndarray] = {}
    h = np.asarray(x, dtype=np.float64)
    for name in conv_names(params):
        pre = convolution(h, params[name]["kernel"], params[name]["bias"], filter_size, stride)
        h = np.sqrt(filter_size) * np.where(pre > 0, pre, 0.0)
        activations[name] = pre
        activations[name.replace("conv", "relu")] = h
    pool = h.mean(axis=1)
    width = pool.shape[1]
    activations["pool"] = pool
    activations["linear"] = pool @ params["linear"]["kernel"] / width + params["linear"]["bias"]
    return activations


def hinge(outputs: np.ndarray, y: np.ndarray) -> float:
    """Mean hinge loss, the average of max(0, 1 - y f) (protocol, section 6)."""
    total = 0.0
    for f, label in zip(outputs.reshape(-1), y.reshape(-1), strict=True):
        total += max(0.0, 1.0 - float(label) * float(f))
    return total / y.size


def ridge_factor(params: Params, ridge: float) -> float:
    """The factor ridge / (H K) in front of sum_k ||W_k||^2, with H the channels that the readout
    sees and K the number of convolutions (protocol, section 6).
    """
    width = int(params["linear"]["kernel"].shape[0])
    return ridge / (width * len(conv_names(params)))


def loss(
    params: Params, x: np.ndarray, y: np.ndarray, ridge: float, filter_size: int, stride: int
) -> float:
    """Mean hinge + ridge / (H K) sum_k ||W_k||^2, the sum over convolution kernels only: biases
    and the readout are not decayed (protocol, section 6).
    """
    outputs = forward(params, x, filter_size, stride)["linear"]
    squares = sum(float(np.sum(params[name]["kernel"] ** 2)) for name in conv_names(params))
    return hinge(outputs, y) + ridge_factor(params, ridge) * squares


def convolution_backward(
    d_pre: np.ndarray, x: np.ndarray, kernel: np.ndarray, filter_size: int, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Derivatives (d_kernel, d_bias, d_x) of the loss, given the one by the pre-activation d_pre
    (P, L_out, C_out): the chain rule applied to every term of the sum in `convolution`.
    """
    _, length, channels_in = x.shape
    scale = 1.0 / np.sqrt(filter_size * channels_in)
    d_kernel = np.zeros_like(kernel)
    d_x = np.zeros_like(x)
    for p in range(d_pre.shape[1]):
        for t in range(filter_size):
            q = source_pixel(p, t, length, filter_size, stride)
            d_kernel[t] += scale * (x[:, q, :].T @ d_pre[:, p, :])
            d_x[:, q, :] += scale * (d_pre[:, p, :] @ kernel[t].T)
    return d_kernel, d_pre.sum(axis=(0, 1)), d_x


def hinge_backward(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Derivative of the mean hinge by each output, (P,): -y / P where 1 - y f > 0, else 0, so 0 at
    the kink (protocol, section 6, with the subgradient at the kink chosen as 0).
    """
    f = outputs.reshape(-1)
    labels = y.reshape(-1)
    return np.where(1.0 - labels * f > 0, -labels / labels.size, 0.0)


def gradient(
    params: Params, x: np.ndarray, y: np.ndarray, ridge: float, filter_size: int, stride: int
) -> Params:
    """Gradient of `loss` by backpropagation written by hand, in the same nested layout as params;
    ReLU passes the derivative only where pre > 0, hinge only where 1 - y f > 0, and the ridge adds
    2 ridge / (H K) W_k (protocol, section 6).
    """
    x = np.asarray(x, dtype=np.float64)
    activations = forward(params, x, filter_size, stride)
    names = conv_names(params)
    width = params["linear"]["kernel"].shape[0]
    d_f = hinge_backward(activations["linear"], np.asarray(y))
    grads: Params = {
        "linear": {
            "kernel": activations["pool"].T @ d_f[:, None] / width,
            "bias": np.array([d_f.sum()]),
        }
    }
    d_pool = d_f[:, None] * params["linear"]["kernel"][:, 0][None, :] / width
    positions = activations[names[-1]].shape[1]
    d_act = np.repeat(d_pool[:, None, :], positions, axis=1) / positions
    for k in range(len(names), 0, -1):
        name = names[k - 1]
        below = x if k == 1 else activations[names[k - 2].replace("conv", "relu")]
        kernel = params[name]["kernel"]
        d_pre = np.where(activations[name] > 0, np.sqrt(filter_size) * d_act, 0.0)
        d_kernel, d_bias, d_act = convolution_backward(d_pre, below, kernel, filter_size, stride)
        d_kernel = d_kernel + 2.0 * ridge_factor(params, ridge) * kernel
        grads[name] = {"kernel": d_kernel, "bias": d_bias}
    return grads


def finite_difference(
    params: Params,
    x: np.ndarray,
    y: np.ndarray,
    ridge: float,
    filter_size: int,
    stride: int,
    coordinates: list[tuple[str, str, tuple[int, ...]]],
    step: float = 1e-6,
) -> np.ndarray:
    """Central differences (loss(w + h) - loss(w - h)) / (2 h) along single coordinates, each given
    as (layer, "kernel" or "bias", index). Good where no kink lies within h.
    """
    slopes = []
    for layer, name, index in coordinates:
        values = []
        for sign in (1.0, -1.0):
            shifted = {a: {b: v.copy() for b, v in group.items()} for a, group in params.items()}
            shifted[layer][name][index] += sign * step
            values.append(loss(shifted, x, y, ridge, filter_size, stride))
        slopes.append((values[0] - values[1]) / (2.0 * step))
    return np.array(slopes)
