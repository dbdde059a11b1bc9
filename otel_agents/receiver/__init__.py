"""OTLP into the store: traces, metrics and logs over HTTP and gRPC.

A request is bounded before it is parsed, decoded into one `Batch`, and answered once that batch is
committed. What a composition root calls:

    from otel_agents.receiver.guard import bearer
    from otel_agents.receiver.http import http_app        # (store, authorize) -> ASGI app
    from otel_agents.receiver.protocol import http_config # (app, host, port, ...) -> uvicorn.Config
    from otel_agents.receiver.grpc import grpc_server     # (store, authorize, address, tls=None)

    server = uvicorn.Server(http_config(http_app(store, authorize), host="127.0.0.1", port=4318))
    await server.serve()                                  # among what else the loop runs
    grpc = grpc_server(store, authorize, "127.0.0.1:4317")
    grpc.start()                                          # in a thread of its own
    grpc.port, grpc.stop(grace=5.0)

`store` is anything with `submit(batch, done)`, and `authorize` takes the headers by their names in
lower case and says whether their sender may send; None lets all send.

    limits      every limit, with its reason
    bounded     bodies taken in and decompressed, counted as they grow
    shapes, wire, slices, json    large bodies cut in slices before parsing; JSON to protobuf
    decode, logs, metrics         requests into batches
    flight      bytes under way; waiting for commits
    status      what is wrong, as google.rpc.Status
    http, protocol, grpc, guard   the listeners
"""
