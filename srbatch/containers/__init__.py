"""The file formats of pictures, and what lies in them beside the pixels. The standard library alone."""
