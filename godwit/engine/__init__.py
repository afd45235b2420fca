"""The inference engine: one decoder, many requests, log-probabilities that are the training forward's.

    Engine        synchronous, one thread: add, step, abort
    AsyncEngine   an Engine's loop in a thread of its own; streams for asyncio
    LLM           what people type: generate, chat, stream

A request's way: `Engine.add` -> `Scheduler` (waiting, running; pages of the cache) -> `Runner` (one call of the decoder
over all that is scheduled) -> `Sampler` (all rows at once) -> `Output` (text, stop strings) -> `Delta`.
"""
