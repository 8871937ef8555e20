"""From files to pixels and back, in worker processes. Nothing else knows libvips."""
