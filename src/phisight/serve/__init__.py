"""Layer 4: a model behind the OpenAI protocol, with typed fields, and a page to try it on.

request -> guard (host, origin, size) -> access (key, rate) -> chat | typed answers -> engine -> answer

engine      fair queue -> worker processes (decode, encode) -> scheduler (continuous batching) -> events
protocol    requests and answers as the official client has them; errors in its form
"""
