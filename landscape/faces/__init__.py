"""The namespaces of `landscape_lib`, in modules of their own, so that importing one of them loads no other."""
