"""What the studies share: measurements, results in files, means and deviations, tables, reports."""
