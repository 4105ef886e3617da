"""Imports networks that others trained: from files of PyTorch parameters to folders for eval."""
