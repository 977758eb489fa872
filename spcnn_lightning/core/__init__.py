"""The types that every part shares: sites, batches, windows, kernel maps, backends."""
