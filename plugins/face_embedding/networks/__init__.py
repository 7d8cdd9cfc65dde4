"""Networks that were published for faces, as backbones."""
