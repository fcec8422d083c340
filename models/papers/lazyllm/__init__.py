"""LazyLLM (arXiv 2407.14057)."""
