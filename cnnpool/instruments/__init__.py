"""What is measured (D, G, R, spectra, pooling budgets), perturbations, transforms of filters."""
