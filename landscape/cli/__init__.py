"""What the scripts share: settings, checks of options, sources of networks and data, messages, records."""
