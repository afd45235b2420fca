"""An OpenAI-compatible server of one model, with a chat page and an inspector of its index sharing.

    app         the FastAPI application: routes, errors, what starts and stops with it
    gate        in front of every route: keys, body sizes, the queue's length, one log line a request
    bodies      what clients may send; unknown fields are errors
    prompts     messages to token ids, by the model's chat template
    forms       response formats and tools to grammars
    job, answer a request on its way through the engine, and back as JSON or as a stream
    inspector   which past tokens each layer selects
    local       `serving(...)`: a server in a child process, for pipelines and tests

A request's way: gate -> body -> prompt, sampling parameters, grammar -> `AsyncEngine.stream` -> `TurnStream` -> client.
"""
