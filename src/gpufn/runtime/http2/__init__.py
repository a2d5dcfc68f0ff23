"""HTTP/2 (RFC 9113) over asyncio, for either side of a connection: frames, header compression, flow control.

Made for passing calls on: a header block that was seen before costs one look in a dictionary, frames of one turn of the
loop leave in one write, and credit is given back only when bytes have gone on. Knows nothing of functions or of gRPC.
Why it is ours: docs/adr/0005-own-http2-engine.md.
"""
