"""Folders that hold a data set: tables and images in the layouts of the hub, of shops and of Keras."""
