"""Plain and residual networks side by side: the experiments of "Deep Residual Learning" (arXiv:1512.03385)."""
