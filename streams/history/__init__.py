"""A shop's own order file: what it is, what each column means, the orders in it, and a report.

One reader for `replay`, `train` and `evaluate`. It finds out what a file is (`sheets`, `delimited`,
`sniff`), which export it is and which column is which field (`exports`, `fields`), reads times and
numbers by whole columns (`times`, `numbers`), and groups rows into orders (`levels`, `orders`).
What was done, and each row left out with its reason, is in a `Report`. `read` is the door.
"""
