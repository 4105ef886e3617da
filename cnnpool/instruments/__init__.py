"""What is measured: D, G, R, spectra, budgets, perturbations and transforms of networks."""
