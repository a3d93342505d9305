"""RMS norm and quantiser. Vectors with their gains enter, codes and scales leave. Other folders use only
``RmsNorm``."""

from lutern.hw.norm.rms_norm import RmsNorm

__all__ = ["RmsNorm"]
