"""Prove an exported file on trial images at export, and check it again later."""
