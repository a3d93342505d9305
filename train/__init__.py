"""Where do weights come from: training in PyTorch, an optional extra."""
