"""SASL, the server's side, without I/O: who is at the other end of a connection.

`credentials` keeps what users are recognised by. `scram`, `plain` and `oauthbearer` are the
mechanisms: tokens of the client in, tokens of the server out, and at the end a name. `session` is
where a connection stands between its first byte and its principal; `authenticate` puts them
together for the handlers.
"""
