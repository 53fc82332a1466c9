"""Things drawn on pictures, as tools and data sets write them, brought into one column: see `placing.placed`."""
