"""Data: driving clips in, windows of frames with labels out (opendojo.data.driving)."""
