"""One cell in the worker: every variant at one size, dtype and device, from made to measured."""
