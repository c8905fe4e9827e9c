"""What settings were called in earlier versions."""

__all__ = ["EARLIER_NAMES"]

# One name for one setting, that of the keyword it becomes; command lines and stored recipes with the others still work.
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
