"""What the scripts share: settings, sources of networks and data, messages."""
