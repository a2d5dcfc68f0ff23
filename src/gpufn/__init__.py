"""gpufn serves the NVIDIA Cloud Functions (NVCF) API from your own machines."""

__version__ = "0.1.0"
