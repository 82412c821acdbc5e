"""layerbench: benchmark equivalent implementations of a PyTorch layer.  Here are the names that a layer file needs, and no others."""

if __name__ == "bench":
    raise ImportError("the folder bench/ is the package layerbench.bench: type `import layerbench.bench`, after `pip install -e .`")

from .declare.layer import ANY, CPU, GPU, Draw, Layer, Variant, integers, positive, randn

__all__ = ["ANY", "CPU", "GPU", "Draw", "Layer", "Variant", "integers", "positive", "randn"]
