"""Bake files: several targets written down, in JSON, HCL or as compose's build sections."""
