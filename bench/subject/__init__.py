"""A variant alive: its module, inputs and calls; the settings that it may not change; its exceptions in words."""
