"""The catalog: the only truth, and the only package with SQL.

Label spaces, labels, support images and their float32 embeddings live here; indexes and matrices
elsewhere are derived. One transaction is the commit point of every change to a space and raises the
space's revision by one.
"""
