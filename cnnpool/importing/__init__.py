"""Networks that others trained: from files of PyTorch parameters to folders that eval opens."""
