"""The data of a run and of a check: frozen types and their JSON schema.  No torch, no files, no statistics."""
