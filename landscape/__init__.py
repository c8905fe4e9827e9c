"""The package behind ``landscape_lib``; import that module, not this one."""
