"""Labels from reference methods: for given structures, or along reference dynamics."""
