"""Names of settings in earlier versions."""

__all__ = ["EARLIER_NAMES"]

# Every setting has the name of the keyword for which it is used; command lines and stored recipes with earlier names
# still work.
EARLIER_NAMES = {
    "learning_rate": "lr",
    "lr_gamma": "gamma",
    "eigenvalues": "k",
    "eigenvalue_error": "tol",
    "trace_error": "relative_error",
    "trace_products": "max_products",
    "products": "max_products",
    "density_probes": "probes",
    "density_steps": "steps",
    "lanczos_steps": "steps",
}
