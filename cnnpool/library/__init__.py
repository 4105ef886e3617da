"""What `import cnnpool` offers: measuring any network in a few lines."""
