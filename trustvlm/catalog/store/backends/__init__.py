"""The databases that can hold a catalog, each behind one seam: see
:mod:`trustvlm.catalog.store.backends.backend`."""
