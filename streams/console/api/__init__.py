"""What programs ask the console: `/v1/…`, with tokens of their own.

`answers` has what is answered, `questions` the queries, `points` reads many customers at once,
`feed` follows what happens, `routes` puts them under their paths, and `document` describes them.
"""
