"""Finding plugins, holding them to their contracts, and looking up what they provide."""
