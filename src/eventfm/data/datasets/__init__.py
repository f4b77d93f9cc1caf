"""Public data sets, read as their owners publish them: one file per set.

To add a set, write one file with a `contract.Dataset`, and name it in `registry`:

1. a `card.DatasetCard`: what is to be known of the set, as plain values;
2. `find(tree, division)`, which tells by the names of files what there is and what is missing, and opens no event file;
3. `open(root, sample, on_error)`, which returns the recording of one sample, with its labels as tracks; for a set that
   is published as ready-made volumes, `stored` and `parts` instead.

Lists, checks, the native store, the command line and the page of documentation follow from these three. In the tests,
a module of the same name under `fixtures` writes the official layout small; the contract test does the rest.
"""
