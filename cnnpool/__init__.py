"""cnnpool: how do convolutional networks lose spatial information?

Train CNNs, measure every layer's sensitivity to small diffeomorphisms (D), to
noise (G) and R = D / G, and hold it against the theory of Tomasini, Petrini,
Cagnetta and Wyart, "How deep convolutional neural networks lose spatial
information with training".
"""

__version__ = "0.1.0"
