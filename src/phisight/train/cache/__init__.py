"""Tensors on disk that no step changes (tower features, hidden states), and offloading of weights they replace."""
